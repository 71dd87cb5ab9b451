"""tf-synflow-export as a process, with its number formats."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.Sequential([keras.Input((16,)), keras.layers.Dense(80), keras.layers.Dense(4)]).save(path)
    return path


def export(model, output, *flags):
    return subprocess.run(
        [
            *(sys.executable, "-m", "tf_synflow.cli.export"),
            *(f"--model={model}", f"--output={output}", *flags),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_int8_from_a_file_of_inputs(model, tmp_path):
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).standard_normal((20, 16)))
    output = tmp_path / "model.tflite"
    data = tmp_path / "inputs.npy"
    flags = ("--quantize=int8", f"--representative_data={data}", "--target=cpu-arm", "--noshrink")
    result = export(model, output, *flags, f"--samples={data}", "--tolerance=0.3")
    assert result.returncode == 0, result.stderr
    assert "DestroyAccelerator" not in result.stderr
    report = json.loads((tmp_path / "model.report.json").read_text())
    assert (report["quantize"], report["target"]) == ("int8", "cpu-arm")
    assert report["agreement"]["tolerance"] == 0.3
    assert report["agreement"]["n_inputs"] == 40
    assert set(report["agreement"]["runtimes"]) == {"Interpreter", "CompiledModel", "tf.lite"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--quantize=int8",), "representative_data is missing"),
        (("--quantize=int8", "--representative_data=nowhere.npy"), "could not be read"),
        (("--quantize=int8", f"--representative_data={__file__}"), "could not be read"),
        (("--quantize=int8", "--representative_data={model}"), "could not be read"),
        (("--sparse=true", "--target=microcontroller"), "no tensor can be encoded"),
    ],
)
def test_what_cannot_be_exported_is_one_message(model, tmp_path, flags, words):
    flags = [flag.format(model=model) for flag in flags]
    result = export(model, tmp_path / "model.tflite", *flags)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "unsafely" not in result.stderr
    assert not os.listdir(tmp_path)
