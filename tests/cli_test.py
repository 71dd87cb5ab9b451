"""The command-line tools, as processes: help, errors, recipes, and whole passes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tf_keras

import tf_synflow
from tf_synflow.train import loop, models
from tf_synflow.train.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("train", "prune", "export", "benchmark")
QUICK = ("--data=digits", "--model=mlp", "--epochs=1", "--compression=4", "--rounds=5")


def run(tool, *flags, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", f"tf_synflow.cli.{tool}", *map(str, flags)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """A saved model, not yet trained."""
    path = tmp_path_factory.mktemp("model") / "mlp.keras"
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Dense(32, activation="relu", input_shape=(16,), name="first"),
            tf_keras.layers.Dense(10, name="last"),
        ]
    )
    model.save(path)
    return path


@pytest.mark.parametrize("tool", TOOLS)
def test_help_shows_the_tools_flags(tool):
    result = run(tool, "--help")
    assert f"tf-synflow-{tool}" in result.stdout
    flag = {
        "train": "--[no]compare_dense",
        "prune": "--prunable",
        "export": "--sparse",
        "benchmark": "--threads",
    }
    assert f"{flag[tool]}:" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("tool", TOOLS)
def test_help_imports_nothing_heavy(tool):
    script = (
        f"import sys, tf_synflow.cli.{tool}\n"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 'tensorflow_model_optimization'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("tool", TOOLS)
def test_console_script_shows_the_same_help(tool, tmp_path):
    script = tmp_path / f"tf-synflow-{tool}"
    script.write_text(f"from tf_synflow.cli import {tool}\n{tool}.run()\n")
    result = subprocess.run(
        [sys.executable, script, "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    as_module = run(tool, "--help").stdout.splitlines()
    assert set(as_module[:5]) - {""} <= set(result.stdout.splitlines())
    flags = [line for line in as_module if line.startswith("  --")]
    assert len(flags) > 4
    assert set(flags) <= set(result.stdout.splitlines())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--colour=red"], "Unknown command line flag 'colour'"),
        (["--model=alexnet"], f"should be one of <{'|'.join(models.names())}>"),
        (["--scorer=best"], "should be one of <synflow|magnitude|random>"),
        (["--epochs=many"], "flag --epochs=many"),
        (["digits"], "unexpected argument 'digits'"),
        (["--lr_drops=6,x"], "--lr_drops received: 'x'"),
        (["--flagfile=nowhere.cfg"], "nowhere.cfg"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_flags_are_refused_at_once(flags, message):
    result = run("train", *flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_typed_errors_are_one_clean_message(tmp_path):
    result = run("train", *QUICK, "--compression=0.5", f"--output_dir={tmp_path / 'run'}")
    assert result.returncode == 1
    assert result.stderr.startswith("train.py: error: compression: received 0.5")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ctrl_c_is_one_clean_message():
    tool = """
import os, signal, time
from tf_synflow.cli import common
def main():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
common.run(main, "__main__")
"""
    result = subprocess.run([sys.executable, "-c", tool], capture_output=True, text=True)
    assert result.returncode == 130
    assert result.stderr.endswith("error: interrupted\n")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_run_is_repeated_by_its_own_flagfile(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    config = TrainConfig(model="mlp", epochs=1, compression=4.0, rounds=5, weight_decay=1e-4)
    loop.run(config, str(first), verbose=False)
    again = run("train", f"--flagfile={first / 'flags.cfg'}", f"--output_dir={second}")
    assert again.returncode == 0, again.stderr
    assert f"Everything is in {second}" in again.stdout
    assert "dense1/kernel" in again.stdout
    assert (first / "config.json").read_text() == (second / "config.json").read_text()
    masks = [tf_synflow.Masks.load(path / "masks.npz") for path in (first, second)]
    assert masks[0] == masks[1]


@pytest.mark.slow
def test_kill_and_resume(tmp_path):
    folder = tmp_path / "run"
    flags = [*QUICK, "--model=conv", "--epochs=12", "--verbose=false"]
    command = [sys.executable, "-m", "tf_synflow.cli.train", *flags, f"--output_dir={folder}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = metrics.read_text().splitlines()
    assert len(before) < 12
    masks = (folder / "masks.npz").read_bytes()
    result = run("train", *flags, f"--output_dir={folder}", "--resume")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    # Epochs before the checkpoint are not trained again: their lines are the same to the clock.
    assert [json.loads(line) for line in before[:-1]] == lines[: len(before) - 1]
    assert (folder / "masks.npz").read_bytes() == masks


def test_prune_writes_a_model_that_trains_and_its_masks(mlp, tmp_path):
    output = tmp_path / "pruned.keras"
    result = run("prune", f"--model={mlp}", f"--output={output}", "--compression=4")
    assert result.returncode == 0, result.stderr
    assert "first/kernel" in result.stdout
    pruned = tf_synflow.load_model(output)
    masks = tf_synflow.Masks.load(tmp_path / "pruned.masks.npz")
    assert tf_synflow.masks_of(pruned) == masks
    assert masks.compression == pytest.approx(4, rel=0.01)
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((8, 16)), np.ones((8, 10)), verbose=0)
    assert {p.name for p in tmp_path.iterdir()} == {"pruned.keras", "pruned.masks.npz"}
    again = run("prune", f"--model={output}", f"--output={tmp_path / 'twice.keras'}")
    assert again.returncode == 1
    assert again.stderr.startswith("prune.py: error: ")  # and no bar of rounds before it
    assert "pruned already" in again.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"pruned.keras", "pruned.masks.npz"}


def test_export_writes_a_file_and_its_report(mlp, tmp_path):
    pruned = tf_synflow.prune_at_init(tf_keras.models.load_model(mlp), 8, verbose=False)
    pruned.save(tmp_path / "pruned.keras")
    output = tmp_path / "model.tflite"
    result = run("export", f"--model={tmp_path / 'pruned.keras'}", f"--output={output}")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "model.report.json").read_text())
    assert report["file_bytes"] == output.stat().st_size
    assert "Agrees with Keras" in result.stdout


def test_a_missing_model_is_one_clean_message(tmp_path):
    missing, output = tmp_path / "nowhere.keras", tmp_path / "out.keras"
    result = run("prune", f"--model={missing}", f"--output={output}")
    assert result.returncode == 1
    assert result.stderr.startswith("prune.py: error: ")
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.cfg")), ids=lambda p: p.name)
def test_recipes_say_what_they_are_and_parse(path):
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    assert f"tf-synflow-train --flagfile=configs/{path.name}" in path.read_text()
    # The last flag is wrong, so that parsing is all that is done.
    result = run("train", f"--flagfile={path}", "--model=none")
    assert "flag --model=none" in result.stderr


@pytest.mark.slow
def test_the_default_run(tmp_path):
    start = time.monotonic()
    result = run("train", "--flagfile=configs/digits.cfg", f"--output_dir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start < 180
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["dense"]["accuracy"] > 0.96
    assert report["pruned"]["accuracy"] > 0.95
    assert report["masks"]["compression"] == pytest.approx(10, rel=0.01)
    assert report["dense"]["file_bytes"] / report["pruned"]["file_bytes"] > 5
