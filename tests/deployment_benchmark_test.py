"""The benchmark runs real files in real runtimes; no test depends on a time."""

import json
import math

import deployment_files
import keras
import pytest

import tf_synflow
from tf_synflow import errors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [str(deployment_files.file(folder, n)) for n in ("mlp_dense", "mlp_csr", "mlp_int8")]


@pytest.fixture(scope="module")
def report(files):
    return tf_synflow.benchmark(
        files, threads=[1, 2], seconds=0.03, rounds=3, runtimes=["interpreter"], verbose=False
    )


def test_every_file_with_every_thread_count(report, files):
    found = [(m.threads, m.path) for m in report.measurements]
    assert found == [(threads, path) for threads in (1, 2) for path in files]
    for m in report.measurements:
        assert 0 < m.latency_low_ms <= m.latency_ms <= m.latency_high_ms
        assert m.load_ms > 0 and m.inferences >= 3
        assert m.inputs == ("float32 1x64",)
        assert m.peak_bytes is None or m.peak_bytes > 0
    assert [m.times_faster for m in report.measurements if m.path == files[0]] == [1, 1]


def test_what_it_says(report, files, tmp_path):
    text = str(report)
    for said in ("mlp_dense.tflite", "latency ms", "ai-edge-litert", "cores", "float32 1x64"):
        assert said in text
    report.save(tmp_path / "benchmark.json")
    values = json.loads((tmp_path / "benchmark.json").read_text())
    assert len(values["measurements"]) == 2 * len(files)
    assert values["versions"]["ai-edge-litert"]


def test_files_with_other_inputs_are_said_to_be(report, files, tmp_path):
    assert "takes others" not in str(report)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    other = str(tmp_path / "other.tflite")
    tf_synflow.export_tflite(model, other)
    mixed = tf_synflow.benchmark([files[0], other], threads=1, seconds=0.01, rounds=1)
    assert "other.tflite takes others (float32 1x8)" in str(mixed)
    assert "mlp_dense.tflite takes" not in str(mixed)


def test_the_compiled_model(files):
    report = tf_synflow.benchmark(
        files[:2], threads=[1], seconds=0.02, rounds=2, runtimes=["compiled"], verbose=False
    )
    assert {m.runtime for m in report.measurements} == {"compiled"}
    assert all(m.inputs == ("float32 1x64",) for m in report.measurements)


def test_one_file_and_one_round(files):
    report = tf_synflow.benchmark(
        files[0], threads=1, seconds=0.01, rounds=1, runtimes="compiled", verbose=False
    )
    (m,) = report.measurements
    assert (m.threads, m.runtime) == (1, "compiled")
    assert m.times_faster == 1 and m.latency_low_ms == m.latency_high_ms


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"threads": [0]}, errors.QuantityError, "threads holds 0"),
        ({"threads": []}, errors.QuantityError, "threads is empty"),
        ({"threads": [True]}, errors.QuantityError, "threads holds True"),
        ({"seconds": 0}, errors.QuantityError, "seconds is 0"),
        ({"seconds": math.inf}, errors.QuantityError, "seconds is inf"),
        ({"seconds": "1"}, errors.QuantityError, "seconds is '1'"),
        ({"rounds": 0}, errors.QuantityError, "rounds is 0"),
        ({"rounds": 2.5}, errors.QuantityError, "rounds is 2.5"),
        ({"seed": "a"}, errors.QuantityError, "seed is 'a'"),
        ({"threads": "1"}, errors.QuantityError, "threads holds '1'"),
        ({"runtimes": ["tflite"]}, errors.UnknownNameError, "runtime"),
        ({"runtimes": []}, errors.QuantityError, "runtimes is empty"),
    ],
)
def test_bad_arguments(files, arguments, error, message):
    with pytest.raises(error, match=message):
        tf_synflow.benchmark(files[0], verbose=False, **arguments)


def test_bad_files(tmp_path):
    for none in (None, [None]):
        with pytest.raises(errors.OutputError, match="received .*None.*expected the name"):
            tf_synflow.benchmark(none)
    with pytest.raises(errors.OutputError, match="is no file"):
        tf_synflow.benchmark(tmp_path / "nowhere.tflite")
    with pytest.raises(errors.QuantityError, match="paths is empty"):
        tf_synflow.benchmark([])
    (tmp_path / "text.tflite").write_text("a text and no model")
    with pytest.raises(errors.ModelError, match=r"text\.tflite.*cannot load it"):
        tf_synflow.benchmark(tmp_path / "text.tflite")
