"""tf-synflow-benchmark as a process: help, whole passes, errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import deployment_files
import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("--seconds=0.02", "--rounds=2", "--threads=1")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tf_synflow.cli.benchmark", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [deployment_files.file(folder, name) for name in ("mlp_dense", "mlp_blocks")]


def test_help():
    result = run("--help")
    assert "tf-synflow-benchmark dense.tflite sparse.tflite" in result.stdout
    for flag in ("threads", "seconds", "rounds", "runtimes", "target", "html", "json"):
        assert f"--{flag}:" in result.stdout
    assert result.stderr == ""


def test_help_imports_nothing_heavy():
    script = (
        "import sys, tf_synflow.cli.benchmark\n"
        "sys.exit(', '.join({'tensorflow', 'keras', 'tf_keras'} & sys.modules.keys()) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True)
    assert result.returncode == 0, result.stderr


def test_two_files_side_by_side(files):
    result = run(*files, *QUICK)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["file", "bytes"]
    assert [line.split()[0] for line in lines[1:3]] == ["mlp_dense.tflite", "mlp_blocks.tflite"]
    assert "ai-edge-litert" in lines[-1]


def test_the_report_is_on_the_last_file(files, tmp_path):
    page, values = tmp_path / "report.html", tmp_path / "report.json"
    result = run(*files, *QUICK, f"--html={page}", f"--json={values}", "--target=cpu-arm")
    assert result.returncode == 0, result.stderr
    report = json.loads(values.read_text())
    assert (report["path"], report["baseline"]) == (str(files[1]), str(files[0]))
    assert report["target"] == "cpu-arm"
    assert len(report["measured"]["measurements"]) == 2
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no file was given"),
        (["nowhere.tflite"], "'nowhere.tflite' is no file"),
        (["--threads=a"], "--threads received: 'a'"),
        (["--threads=0"], "threads holds 0"),
        (["--seconds=-1"], "seconds is -1.0"),
        (["--runtimes=tflite"], "Unknown runtime"),
        (["--target=phone"], "should be one of <cpu-x86|cpu-arm|wasm|microcontroller>"),
        (["--html=report.pdf"], "expected one of: .html"),
        (["--json=/nowhere/report.json"], "missing or not writable"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_bad_arguments_are_one_clean_message(files, arguments, message):
    own = [files[0]] if arguments and arguments[0].startswith("--") else []
    result = run(*own, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_no_output_is_overwritten(files, tmp_path):
    taken = tmp_path / "report.html"
    taken.write_text("mine")
    result = run(files[0], *QUICK, f"--html={taken}")
    assert result.returncode == 1
    assert "exists already" in result.stderr
    assert taken.read_text() == "mine"
