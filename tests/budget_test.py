"""Budgets: the search by itself, and models whose exported file and FLOPs meet one."""

import math
import re

import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import strategies as st
from small_models import KERASES, mlp, state

import tf_synflow
from tf_synflow import budget, errors

each_keras = pytest.mark.parametrize("k", KERASES)


@given(
    overhead=st.floats(0, 100),
    per_weight=st.floats(1e3, 1e6),
    power=st.floats(0.3, 2),
    share=st.floats(0.01, 1.5),
)
def test_search_meets_the_limit_closely(overhead, per_weight, power, share):
    def amount(compression):
        return overhead + per_weight * compression**-power

    lowest, highest = amount(1e6), amount(1)
    limit = lowest + share * (highest - lowest)
    found = budget.search("flops", limit, amount, 1e6)
    assert found.amount == amount(found.compression) <= limit
    met = [compression for compression, value in found.tried if value <= limit]
    assert found.compression == min(met)
    if limit >= highest:
        assert found.compression == 1
    elif len(found.tried) < 12:
        assert found.amount >= 0.98 * limit or amount(found.compression / 1.0201) > limit


def test_search_stays_where_something_flows():
    def amount(compression):
        if compression > 300:
            raise errors.LayerCollapseError("nothing flows")
        return 1e6 / compression

    assert budget.search("bytes", 4000, amount, 1e5).compression == pytest.approx(250, rel=0.03)
    with pytest.raises(errors.BudgetError, match=r"received 3,000; expected at least 3,\d\d\d"):
        budget.search("bytes", 3000, amount, 1e5)


def test_a_search_shows_its_trials(capfd):
    def amount(compression):
        return 1e6 / compression

    budget.search("bytes", 4000, amount, 1e5, verbose=True)
    assert "searching 4,000 bytes" in capfd.readouterr().err
    budget.search("bytes", 4000, amount, 1e5, verbose=False)
    assert not capfd.readouterr().err


def test_a_limit_may_be_numpys():
    found = budget.search("bytes", np.int64(4000), lambda compression: 1e6 / compression, 1e5)
    assert found.compression == pytest.approx(250, rel=0.03)


def test_search_gives_up_on_a_constant():
    with pytest.raises(errors.BudgetError, match="expected at least 50 FLOPs"):
        budget.search("flops", 49, lambda compression: 50, 1e4)


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf, True, "30kB"])
def test_limits_that_are_none(limit):
    with pytest.raises(errors.QuantityError, match="target_bytes.*number of bytes above 0"):
        budget.search("bytes", limit, lambda compression: 1, 10)


@each_keras
def test_bytes_of_the_exported_file(k, tmp_path, capsys):
    model = mlp(k, units=(64, 32, 4))
    before = state(model)
    pruned = tf_synflow.prune_at_init(model, target_bytes=7000)
    masks = tf_synflow.masks_of(pruned)
    final = tf_synflow.strip_pruning(pruned)
    report = tf_synflow.export_tflite(final, tmp_path / "m.tflite", verbose=False)
    assert 0.9 * 7000 < report.file_bytes <= 7000
    said = re.search(r"compression (\S+) meets the budget: (\S+) of", capsys.readouterr().out)
    assert float(said[1]) == pytest.approx(masks.compression, rel=1e-2)
    assert said[2] == f"{report.file_bytes:,}"
    assert state(model) == before


@each_keras
def test_flops_of_the_summary(k, capsys):
    model = mlp(k, units=(64, 32, 4), use_bias=False)
    pruned = tf_synflow.prune_at_init(model, target_flops=1000, verbose=False)
    assert 970 <= tf_synflow.summary(pruned).flops <= 1000
    assert not capsys.readouterr().out


def test_flops_for_a_target():
    model = mlp(tf_keras, units=(64, 32, 4), use_bias=False)
    options = {"target_flops": 1000, "target": "cpu-x86", "verbose": False}
    assert tf_synflow.summary(tf_synflow.prune_at_init(model, **options)).flops <= 1000


def test_budgets_begin_where_a_structure_does():
    model = mlp(tf_keras, units=(64, 32, 4), use_bias=False)
    dense = tf_synflow.summary(model).flops
    pruned = tf_synflow.prune_at_init(model, target_flops=dense, structure="2:4", verbose=False)
    assert tf_synflow.masks_of(pruned).compression == pytest.approx(2, rel=1e-3)


def test_budgets_for_a_target_that_has_a_least_and_a_most():
    layers = tf_keras.layers
    inputs = tf_keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, 2, name="stem")(layers.ZeroPadding2D(1)(inputs))
    x = layers.ReLU()(layers.Conv2D(16, 1, name="point")(layers.ReLU()(x)))
    x = layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(inputs, layers.Dense(8, name="head")(x))
    options = {"verbose": False, "scorer": "magnitude"}
    pruned = tf_synflow.prune_at_init(model, target="wasm", target_flops=1e9, **options)
    masks = tf_synflow.masks_of(pruned)
    assert set(masks) == {"point/kernel"} and masks.compression == pytest.approx(3, rel=0.01)
    with pytest.raises(errors.BudgetError, match="target_flops: received 10; expected at least"):
        tf_synflow.prune_at_init(model, target="cpu-x86", target_flops=10, **options)


def test_latency_of_the_file():
    model, options = mlp(tf_keras, units=(64, 32, 4)), {"scorer": "magnitude", "verbose": False}
    pruned = tf_synflow.prune_at_init(model, target_latency_ms=1e3, **options)
    assert tf_synflow.masks_of(pruned).compression == 1
    with pytest.raises(errors.BudgetError, match="target_latency_ms.*expected at least .* ms"):
        tf_synflow.prune_at_init(model, target_latency_ms=1e-9, **options)


def test_a_number_format_for_the_file():
    model = mlp(tf_keras, units=(64, 32, 4))
    options = {"target_bytes": 7000, "scorer": "magnitude", "verbose": False}
    found = []
    for quantize in (None, "float16"):
        pruned = tf_synflow.prune_at_init(model, export_options={"quantize": quantize}, **options)
        found.append(tf_synflow.masks_of(pruned).compression)
    assert found[1] < found[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_bytes": 1000, "compression": 10}, "target_bytes=1000 beside compression=10"),
        ({"target_bytes": 1000, "target_flops": 5}, "target_bytes=1000 beside target_flops=5"),
        ({"target_flops": 5, "export_options": {"quantize": "int8"}}, "export_options"),
        ({"export_options": {"quantize": "int8"}}, "without a budget"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(errors.QuantityError, match=message):
        tf_synflow.prune_at_init(mlp(tf_keras), **arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quantise": "float16"}, errors.UnknownNameError, "'quantise'.*mean quantize"),
        ({"path": "m.tflite"}, errors.UnknownNameError, "export option.*'path'"),
        ({"quantize": "float61"}, errors.UnknownNameError, "'float61'.*mean float16"),
        ({"target": "wasn"}, errors.UnknownNameError, "'wasn'.*mean wasm"),
        ("float16", errors.QuantityError, "export_options: received 'float16'; expected"),
    ],
)
@pytest.mark.parametrize("unit", ["bytes", "latency_ms"])
def test_options_that_export_does_not_know(options, error, message, unit, monkeypatch):
    monkeypatch.setattr(tf_synflow.api, "compute_masks", None)  # found before anything is scored
    with pytest.raises(error, match=message):
        tf_synflow.prune_at_init(
            mlp(tf_keras), **{f"target_{unit}": 5000}, export_options=options, verbose=False
        )
