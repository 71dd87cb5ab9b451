"""benchmarks/wasm runs real files in LiteRT.js, where Node and the package are installed."""

import json
import pathlib
import shutil
import subprocess

import deployment_files
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks" / "wasm"


def run(*arguments):
    if shutil.which("node") is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("needs node and `npm install --prefix benchmarks/wasm`")
    command = ["node", FOLDER / "benchmark.mjs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_two_files(tmp_path):
    files = [deployment_files.file(tmp_path, name) for name in ("mlp_dense", "mlp_blocks")]
    result = run("--seconds=0.05", "--rounds=2", "--json", *files)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert [row["path"] for row in report["files"]] == [str(path) for path in files]
    assert report["files"][0]["times_faster"] == 1
    assert all(row["median_ms"] > 0 for row in report["files"])


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "text.tflite").write_text("a text and no model")
    result = run(tmp_path / "text.tflite")
    assert result.returncode == 1
    assert result.stderr.startswith("benchmark.mjs: error: ")
    assert "text.tflite" in result.stderr
