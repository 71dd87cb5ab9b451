"""Selection over devices: bit for bit the masks of `select` on the gathered scores."""

import re

import numpy as np
import processes
import pytest
import sharded_scores
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sharded_scores import distributed, gathered

from tf_synflow import errors, quantities
from tf_synflow.masks import sharding
from tf_synflow.masks.select import select
from tf_synflow.masks.sharding import Selection, Sharding


def scenario(name, folder, *arguments, **options):
    return processes.scenario("sharding_worker.py", name, folder, *arguments, **options)


# --- how a weight is cut --------------------------------------------------------------------------


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    replicas=st.integers(1, 7),
    data=st.data(),
)
def test_pieces_know_their_places(shape, replicas, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    inner = st.lists(st.integers(0, shape[axis]), min_size=replicas - 1, max_size=replicas - 1)
    cut = Sharding(tuple(shape), axis, (0, *sorted(data.draw(inner)), shape[axis]))
    places = np.arange(cut.size).reshape(shape)
    pieces = cut.cut(places)
    assert cut.replicas == len(pieces) == replicas
    np.testing.assert_array_equal(cut.join(pieces), places)
    for replica, piece in enumerate(pieces):
        indices = tf.range(piece.size, dtype=tf.int64)
        found = cut.positions(tf.constant(replica), indices)
        np.testing.assert_array_equal(found, piece.ravel())


def test_even_pieces_differ_by_one_row():
    cut = Sharding.even([10, 3], axis=0, replicas=4)
    assert cut == Sharding((10, 3), 0, (0, 2, 5, 7, 10))


@pytest.mark.parametrize(
    ("axis", "bounds"), [(0, (0, 3)), (0, (1, 4)), (0, (0, 3, 2, 4)), (2, (0, 4)), (0, ())]
)
def test_bounds_that_are_none(axis, bounds):
    with pytest.raises(errors.MaskError, match="expected bounds that go from 0"):
        Sharding((4, 6), axis, bounds)


# --- one replica, in this process -----------------------------------------------------------------

ONE = sharded_scores.shardings(1)


def on_one(scores, masks, density, selection):
    strategy = selection.strategy
    pieces = [distributed(strategy, ONE, arrays) for arrays in (scores, masks)]
    return gathered(strategy, ONE, selection(*pieces, density))


@pytest.fixture(scope="module")
def selection():
    return Selection(tf.distribute.get_strategy(), ONE)


@settings(deadline=None, max_examples=200)
@given(sharded_scores.drawn(ONE))
def test_is_select(selection, example):
    scores, masks, density = example
    found, expected = on_one(*example, selection), select(*example)
    for name in ONE:
        np.testing.assert_array_equal(found[name], expected[name])
    total = sum(cut.size for cut in ONE.values())
    left = sum(int(mask.sum()) for mask in masks.values())
    keep = min(left, quantities.kept_count(total, density))
    assert sum(int(mask.sum()) for mask in found.values()) == keep


def test_chunks_are_the_whole(selection, monkeypatch):
    monkeypatch.setattr(sharding, "CHUNK", 4)
    random = np.random.default_rng(0)
    chunked = Selection(tf.distribute.get_strategy(), ONE)
    for density in (0.1, 0.5, 0.9):
        scores = {name: random.integers(0, 5, cut.shape) / 3 for name, cut in ONE.items()}
        masks = {name: random.random(cut.shape) < 0.7 for name, cut in ONE.items()}
        found = on_one(scores, masks, density, chunked)
        for name, mask in on_one(scores, masks, density, selection).items():
            np.testing.assert_array_equal(found[name], mask)


def test_float32_scores_are_ranked_as_they_are(selection):
    random = np.random.default_rng(0)
    scores = {name: random.random(cut.shape, np.float32) for name, cut in ONE.items()}
    masks = {name: np.ones(cut.shape, bool) for name, cut in ONE.items()}
    found, expected = on_one(scores, masks, 0.3, selection), select(scores, masks, 0.3)
    assert all(np.array_equal(found[name], expected[name]) for name in ONE)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, -1.0, -5e-324])
def test_scores_that_cannot_be_ranked(selection, value):
    scores = {name: np.ones(cut.shape) for name, cut in ONE.items()}
    masks = {name: np.ones(cut.shape, bool) for name, cut in ONE.items()}
    scores["rows"][1, 1, 1:] = value
    words = "'rows': received 2 of 30 NaN, infinite or negative"
    with pytest.raises(errors.ScoreError, match=words):
        on_one(scores, masks, 0.5, selection)
    masks["rows"][1, 1, 1:] = False  # what is removed is not ranked
    assert not on_one(scores, masks, 0.5, selection)["rows"][1, 1, 1:].any()


def test_pieces_of_another_shape(selection):
    strategy = tf.distribute.get_strategy()
    scores = {name: tf.ones(cut.shape, tf.float64) for name, cut in ONE.items()}
    masks = {name: tf.ones(cut.shape, tf.bool) for name, cut in ONE.items()}
    masks["rows"] = masks["rows"][1:]
    with pytest.raises(errors.MaskError, match=r"masks of 'rows': received .*\(4, 2, 3\)"):
        selection(scores, masks, 0.5)
    with pytest.raises(errors.MaskError, match="received 2 pieces; expected 1"):
        Selection(strategy, {"w": Sharding.even((4,), 0, 2)})


# --- several, in processes of their own -----------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2, 4, 8])
def on_devices(request, tmp_path_factory):
    """The number of devices, and what a process with so many found."""
    folder = tmp_path_factory.mktemp("devices")
    return request.param, scenario("devices", folder, request.param)[0]


@pytest.mark.slow
def test_devices_select_as_one_does(on_devices):
    devices, found = on_devices[0], on_devices[1]["equal"]
    assert found["replicas"] == devices
    assert found["examples"] >= 60
    assert found["traces"] == 1  # whatever the density
    for kind in ("infinite", "negative"):
        assert "scores of 'last': received 1 of 7 NaN, infinite or negative" in found[kind]


@pytest.mark.slow
@pytest.mark.parametrize("on_devices", [2, 4], indirect=True)
def test_a_network_that_no_device_holds(on_devices):
    found = on_devices[1]["networks"]
    assert set(found) == {"normal", "quarters"}
    for network in found.values():
        assert network["different"] == []
        assert network["like_compute_masks"]
        assert network["kept"] == quantities.kept_count(256, 1 / 10)
    assert found["quarters"]["ties"] > 0


@pytest.mark.slow
def test_two_workers_select_as_one_does(tmp_path):
    for worker in scenario("workers", tmp_path, tf_configs=processes.two_workers()):
        assert worker["replicas"] == 2
        assert worker["wrong"] == 0
        assert "scores of 'last': received 1 of 7" in worker["infinite"]


@pytest.mark.slow
def test_the_example_in_the_docs_runs(tmp_path):
    text = (processes.ROOT / "docs" / "scale.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with processes.started(["-c", block], tmp_path) as running:
        processes.finished(running, tmp_path)
