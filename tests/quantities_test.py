"""Compressions and counts: what is a number here, and what is not."""

import fractions
import math

import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import strategies as st
from small_models import mlp, state

import tf_synflow
from tf_synflow import errors, quantities

BAD = [0, 0.5, -1, math.nan, math.inf, -math.inf, "10", True, None, [10], 1j, 1 - 1e-15]


@pytest.mark.parametrize("compression", BAD, ids=repr)
def test_bad_compression_is_named(compression):
    with pytest.raises(errors.QuantityError, match="expected a.* number") as caught:
        quantities.check_compression(compression)
    assert repr(compression) in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("compression", [1, 1.0, 100, np.float32(10), fractions.Fraction(3, 2)])
def test_good_compression_comes_back_as_a_float(compression):
    checked = quantities.check_compression(compression)
    assert type(checked) is float and checked == compression


def test_maximal_compression_is_allowed_and_more_is_not():
    assert quantities.check_compression(7.5, maximal=7.5) == 7.5
    with pytest.raises(errors.QuantityError, match="at most 7.5, the maximal compression"):
        quantities.check_compression(7.6, maximal=7.5)


@pytest.mark.parametrize("rounds", [0, -1, 1.0, 2.5, "3", True, None, math.nan])
def test_bad_rounds_are_named(rounds):
    with pytest.raises(errors.QuantityError, match="whole number of at least 1"):
        quantities.check_rounds(rounds)


@pytest.mark.parametrize("compression", [*BAD, 1e9], ids=repr)
@pytest.mark.parametrize("call", ["prune_at_init", "compute_masks"])
def test_bad_compression_leaves_the_model_alone(call, compression):
    model = mlp(tf_keras)
    before = state(model)
    with pytest.raises(errors.QuantityError):
        getattr(tf_synflow, call)(model, compression)
    assert state(model) == before


def test_kept_count_is_the_papers_rounding():
    # The paper's code: k = int((1 − s)·N) go.
    assert [quantities.kept_count(1000, d) for d in (1.0, 0.5, 0.1, 0.01)] == [1000, 500, 100, 10]
    assert quantities.kept_count(89400, 0.001) == 90


@given(st.integers(1, 10**9), st.floats(1e-9, 1), st.floats(1e-9, 1))
def test_kept_count_is_monotone_and_rounds_up(total, one, other):
    low, high = sorted((one, other))
    assert quantities.kept_count(total, low) <= quantities.kept_count(total, high) <= total
    assert abs(quantities.kept_count(total, high) - high * total) < 1 + 1e-6
