"""The density of every round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_synflow import errors
from tf_synflow.densities import KINDS, densities


def test_exponential_takes_equal_factors():
    assert densities(100, rounds=2) == pytest.approx([0.1, 0.01], rel=1e-15)
    assert densities(1000, rounds=3) == pytest.approx([0.1, 0.01, 0.001], rel=1e-15)


def test_linear_takes_equal_steps():
    assert densities(4, rounds=3, kind="linear") == pytest.approx([0.75, 0.5, 0.25], rel=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_compression_one_keeps_everything(kind):
    assert densities(1, rounds=5, kind=kind) == [1.0] * 5


@given(st.floats(1, 1e7), st.integers(1, 200), st.sampled_from(KINDS))
def test_never_increasing_and_ends_exactly_at_one_over_compression(compression, rounds, kind):
    found = densities(compression, rounds, kind)
    assert len(found) == rounds
    assert found[-1] == 1 / compression
    assert all(0 < later <= earlier <= 1 for earlier, later in zip(found, found[1:], strict=False))


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(errors.UnknownNameError, match="'cubic'.*exponential, linear"):
        densities(10, kind="cubic")


@pytest.mark.parametrize("bad", [{"compression": 0.5}, {"compression": 10, "rounds": 0}])
def test_out_of_range(bad):
    with pytest.raises(errors.QuantityError):
        densities(**bad)
