"""The run: what it leaves, that it learns, and that a killed run goes on as if nothing was."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tf_keras

import tf_synflow
from tf_synflow import scores
from tf_synflow.errors import LayerCollapseError, OutputError, QuantityError
from tf_synflow.train import config as train_config
from tf_synflow.train import loop
from tf_synflow.train.config import TrainConfig

CONFIG = TrainConfig(
    model="conv",
    compression=5,
    rounds=5,
    epochs=4,
    batch_size=64,
    learning_rate=0.05,
    lr_schedule="cosine",
    warmup_epochs=1,
    weight_decay=5e-4,
    steps_per_execution=11,
)


def metrics(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def without_time(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with its dense twin and its export."""
    path = tmp_path_factory.mktemp("runs") / "run"
    config = dataclasses.replace(CONFIG, compare_dense=True, export=True)
    return path, config, loop.run(config, str(path), verbose=False)


def test_the_folder_holds_everything(finished):
    path, _, report = finished
    names = {p.name for p in path.iterdir()}
    assert names == {
        "flags.cfg", "config.json", "versions.json", "metrics.jsonl", "masks.npz", "checkpoints",
        "tensorboard", "model.keras", "model.tflite", "report.json", "report.txt", "dense",
    }  # fmt: skip
    assert list((path / "tensorboard" / "train").glob("events*"))
    as_json = json.loads(json.dumps(report.to_dict()))
    assert json.loads((path / "report.json").read_text()) == as_json
    assert (path / "report.txt").read_text() == f"{report}\n"


def test_metrics_have_a_line_an_epoch(finished):
    path, _, _ = finished
    for folder in (path, path / "dense"):
        lines = metrics(folder)
        assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
        assert {"loss", "accuracy", "test_loss", "test_accuracy", "seconds"} <= lines[0].keys()
        learning_rates = [line["learning_rate"] for line in lines]
        assert learning_rates[0] == pytest.approx(0.05, rel=0.01)
        assert learning_rates == sorted(learning_rates, reverse=True)


def test_both_networks_learn_and_the_table_says_so(finished):
    _, _, report = finished
    values = report.to_dict()
    assert values["dense"]["accuracy"] > 0.9
    assert values["pruned"]["accuracy"] > 0.85
    assert values["dense"]["weights"] - values["pruned"]["weights"] == (
        values["masks"]["size"] - values["masks"]["kept"]
    )
    assert values["pruned"]["file_bytes"] < values["dense"]["file_bytes"] / 2
    for text in (
        f"{values['dense']['accuracy']:.2%}",
        f"{values['pruned']['accuracy']:.2%}",
        "conv2/kernel",
        "Agrees with Keras",
        "flow is left from input to output",
        values["output_dir"],
    ):
        assert text in str(report)


def test_the_final_model_is_plain_sparse_and_as_accurate_as_reported(finished):
    path, config, report = finished
    model = tf_keras.models.load_model(path / "model.keras")
    masks = tf_synflow.Masks.load(path / "masks.npz")
    for name, mask in masks.items():
        kernel = model.get_layer(name.removesuffix("/kernel")).kernel.numpy()
        assert not kernel[~mask].any()
        assert kernel[mask].all()
    data = loop.data_sets.load("digits", batch_size=config.batch_size)
    model.compile(
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    _, accuracy = model.evaluate(data.test_batches(), verbose=0)
    assert accuracy == pytest.approx(report.to_dict()["pruned"]["accuracy"])


def killed_after(finished, tmp_path, epoch):
    """The folder as a kill leaves it while the epoch after `epoch` is being trained."""
    path, config, _ = finished
    copy = tmp_path / "killed"
    shutil.copytree(path, copy)
    state = copy / "checkpoints" / "checkpoint"
    state.write_text(f'model_checkpoint_path: "epoch-{epoch}"\n')
    for name in ("model.keras", "model.tflite", "report.json", "report.txt"):
        (copy / name).unlink()
    return copy, config


def test_resume_equals_an_uninterrupted_run(finished, tmp_path):
    path, _, report = finished
    copy, config = killed_after(finished, tmp_path, epoch=3)
    with open(copy / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 5, "los')
    resumed = loop.run(config, str(copy), resume=True, verbose=False)
    assert (copy / "masks.npz").read_bytes() == (path / "masks.npz").read_bytes()
    lines, expected = metrics(copy), metrics(path)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert without_time(lines[:3]) == without_time(expected[:3])
    for name, value in without_time(expected)[3].items():
        assert lines[3][name] == pytest.approx(value, rel=1e-3), name
    models = [tf_keras.models.load_model(p / "model.keras") for p in (path, copy)]
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    accuracies = [r.to_dict()["pruned"]["accuracy"] for r in (report, resumed)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)


def test_resume_takes_the_masks_on_file(finished, tmp_path):
    copy, config = killed_after(finished, tmp_path, epoch=3)
    shutil.rmtree(copy / "checkpoints")
    masks = tf_synflow.Masks.load(copy / "masks.npz")
    mine = tf_synflow.Masks({name: np.roll(mask, 1) for name, mask in masks.items()}, masks.info)
    mine.save(copy / "masks.npz")
    loop.run(config, str(copy), resume=True, verbose=False)
    model = tf_keras.models.load_model(copy / "model.keras")
    kernel = model.get_layer("conv2").kernel.numpy()
    np.testing.assert_array_equal(kernel != 0, mine["conv2/kernel"])


def test_another_run_in_the_folder_is_refused_and_left_alone(finished):
    path, config, _ = finished
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    with pytest.raises(OutputError, match="holds another run"):
        loop.run(config, str(path), verbose=False)
    with pytest.raises(OutputError, match="--seed is 1, was 0"):
        loop.run(dataclasses.replace(config, seed=1), str(path), resume=True, verbose=False)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"compression": 0.5}, QuantityError),
        ({"compression": 1e9}, QuantityError),
        ({"learning_rate": -1.0}, QuantityError),
        ({"scorer": "magnitude", "compression": 5000, "model": "mlp"}, LayerCollapseError),
    ],
    ids=str,
)
def test_a_run_that_cannot_start_leaves_no_folder(change, error, tmp_path):
    with pytest.raises(error):
        loop.run(dataclasses.replace(CONFIG, **change), str(tmp_path / "run"), verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_a_collapsed_network_is_reported_as_such(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        model="mlp",
        scorer="magnitude",
        compression=5000,
        allow_collapse=True,
        warmup_epochs=0,
        epochs=1,
    )
    report = loop.run(config, str(tmp_path / "run"), verbose=False)
    assert report.to_dict()["masks"]["flow_left"] is False
    assert "LAYER-COLLAPSE" in str(report)
    assert report.to_dict()["pruned"]["accuracy"] < 0.2


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_a_float32_model(precision, tmp_path):
    config = dataclasses.replace(
        CONFIG, model="mlp", warmup_epochs=0, epochs=1, mixed_precision=precision
    )
    report = loop.run(config, str(tmp_path / "run"), verbose=False)
    model = tf_keras.models.load_model(tmp_path / "run" / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert metrics(tmp_path / "run")[0]["loss"] < 10
    assert report.to_dict()["masks"]["density"] == pytest.approx(0.2, abs=1e-4)


def test_compression_one_is_the_dense_network(tmp_path):
    config = dataclasses.replace(CONFIG, model="mlp", compression=1, warmup_epochs=0, epochs=1)
    report = loop.run(config, str(tmp_path / "run"), verbose=False)
    assert not (tmp_path / "run" / "masks.npz").exists()
    assert "dense" in str(report)
    assert "pruned" not in report.to_dict()


def test_the_config_knows_every_scorer():
    assert set(train_config.SCORERS) == set(scores.REGISTRY)


def test_a_shrunk_network_trains_along_and_resumes(tmp_path):
    config = dataclasses.replace(CONFIG, compression=50, epochs=2, warmup_epochs=0.0)
    runs = {}
    for shrink in (False, True):
        path = tmp_path / str(shrink)
        loop.run(dataclasses.replace(config, shrink=shrink), str(path), verbose=False)
        runs[shrink] = [line["loss"] for line in metrics(path)]
    np.testing.assert_allclose(runs[True], runs[False], rtol=1e-4)
    shrunk = dataclasses.replace(config, shrink=True)
    report = loop.run(shrunk, str(tmp_path / "True"), resume=True, verbose=False).to_dict()
    small, whole = (tf_synflow.load_model(tmp_path / str(s) / "model.keras") for s in (True, False))
    assert small.count_params() < whole.count_params() / 2
    kept = report["masks"]["kept"]
    assert kept / 2 < report["pruned"]["weights"] < kept + 200


def test_a_structure_reaches_the_masks(tmp_path):
    config = dataclasses.replace(CONFIG, model="mlp", epochs=1, structure="1x4", warmup_epochs=0.0)
    loop.run(config, str(tmp_path / "run"), verbose=False)
    masks = tf_synflow.Masks.load(tmp_path / "run" / "masks.npz")
    assert set(masks.info["structure"].values()) == {"1x4"}
