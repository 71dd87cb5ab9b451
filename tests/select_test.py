"""Scores and a density → masks: tables to check by eye, and what holds for any scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from tf_synflow import errors, quantities
from tf_synflow.densities import densities
from tf_synflow.masks import select as select_module
from tf_synflow.masks.select import select


def full(scores):
    return {name: np.ones(np.shape(array), bool) for name, array in scores.items()}


def kept(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def tables(scores, density, scope="global", ties="position", masks=None):
    scores = {name: np.array(array, float) for name, array in scores.items()}
    found = select(scores, masks or full(scores), density, scope, ties)
    return {name: mask.astype(int).tolist() for name, mask in found.items()}


SCORES = {"a": [[9.0, 1.0], [2.0, 8.0]], "b": [3.0, 7.0, 0.5, 0.1]}


@pytest.mark.parametrize(
    ("density", "scope", "expected"),
    [
        (1.0, "global", {"a": [[1, 1], [1, 1]], "b": [1, 1, 1, 1]}),
        (0.5, "global", {"a": [[1, 0], [0, 1]], "b": [1, 1, 0, 0]}),
        (0.375, "global", {"a": [[1, 0], [0, 1]], "b": [0, 1, 0, 0]}),
        (0.125, "global", {"a": [[1, 0], [0, 0]], "b": [0, 0, 0, 0]}),
        (0.5, "layer", {"a": [[1, 0], [0, 1]], "b": [1, 1, 0, 0]}),
        (0.25, "layer", {"a": [[1, 0], [0, 0]], "b": [0, 1, 0, 0]}),
        # 3 of 8: a share of 1.5 each, and the first in the model gets the odd one.
        (0.375, "layer", {"a": [[1, 0], [0, 1]], "b": [0, 1, 0, 0]}),
    ],
)
def test_tables(density, scope, expected):
    assert tables(SCORES, density, scope) == expected


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_ties_go_by_position(scope):
    scores = {"a": [5.0, 5.0, 5.0, 5.0], "b": [5.0, 5.0]}
    expected = {
        "global": {"a": [1, 1, 1, 0], "b": [0, 0]},
        "layer": {"a": [1, 1, 0, 0], "b": [1, 0]},
    }
    assert tables(scores, 0.5, scope) == expected[scope]


def test_fewer_weights_than_tensors():
    assert tables({"a": [1.0], "b": [2.0]}, 0.5, "layer") == {"a": [1], "b": [0]}


def test_ties_as_the_papers_code_all_go():
    assert tables({"a": [1.0, 2.0, 2.0, 2.0, 3.0]}, 0.6, ties="reference") == {"a": [0, 0, 0, 0, 1]}
    assert tables({"a": [5.0] * 4}, 0.5, ties="reference") == {"a": [0] * 4}
    # Where nothing has to go, nothing does.
    assert tables({"a": [5.0] * 4}, 1.0, ties="reference") == {"a": [1] * 4}


def test_reference_ties_change_nothing_where_there_are_none():
    for density in (0.2, 0.5, 0.9):
        assert tables(SCORES, density) == tables(SCORES, density, ties="reference")


def test_a_removed_weight_stays_removed_however_high_its_score():
    masks = {"a": np.array([False, True, True, True])}
    assert tables({"a": [100.0, 1.0, 2.0, 3.0]}, 0.5, masks=masks) == {"a": [0, 0, 1, 1]}


def test_layer_scope_leaves_a_weight_in_the_smallest_tensor():
    scores = {"large": np.arange(1.0, 101.0), "small": np.array([0.5])}
    found = select(scores, full(scores), 0.05, "layer")
    assert kept(found) == quantities.kept_count(101, 0.05)
    assert found["small"].tolist() == [True]


@pytest.mark.parametrize("bad", [{"scope": "local"}, {"ties": "random"}])
def test_unknown_names(bad):
    scores = {"a": np.ones(2)}
    with pytest.raises(errors.UnknownNameError, match="expected one of"):
        select(scores, full(scores), 0.5, **bad)


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@st.composite
def score_tables(draw, distinct=False):
    """Tensors of scores, with many ties unless told."""
    shapes = draw(sizes)
    if distinct:
        order = np.array(draw(st.permutations(range(sum(shapes)))), float)
        return dict(zip("abcde", np.split(order, np.cumsum(shapes)[:-1]), strict=False))
    values = st.sampled_from([0.0, 1.0, 2.0, 1e-300, 1e300])
    return {
        n: draw(st_np.arrays(float, s, elements=values))
        for n, s in zip("abcde", shapes, strict=False)
    }


@settings(deadline=None, max_examples=200)
@given(score_tables(), st.floats(0, 1), st.integers(1, 12), st.sampled_from(["global", "layer"]))
def test_exact_count_monotone_and_deterministic_over_rounds(scores, position, rounds, scope):
    total, tensors = sum(a.size for a in scores.values()), len(scores)
    compression = (total / tensors) ** position  # from 1 to the maximal
    masks = full(scores)
    for density in densities(compression, rounds):
        earlier, masks = masks, select(scores, masks, density, scope)
        again = select({n: a.copy() for n, a in scores.items()}, earlier, density, scope)
        assert kept(masks) == quantities.kept_count(total, density)
        for name, mask in masks.items():
            assert not (mask & ~earlier[name]).any()
            assert np.array_equal(mask, again[name])
    if scope == "layer":
        assert all(mask.any() for mask in masks.values())


@settings(deadline=None)
@given(score_tables(), st.floats(0.01, 1))
def test_no_removed_weight_scores_higher_than_a_kept_one(scores, density):
    masks = select(scores, full(scores), density)
    flat = np.concatenate(list(scores.values()))
    keep = np.concatenate(list(masks.values()))
    if keep.any() and not keep.all():
        assert flat[keep].min() >= flat[~keep].max()
        tied = np.flatnonzero(flat == flat[keep].min())
        assert keep[tied].tolist() == sorted(keep[tied], reverse=True)  # the first ones stay


@settings(deadline=None, max_examples=200)
@given(score_tables(), st.floats(0, 1), st.integers(1, 6))
def test_layer_scope_shares_within_one_weight_of_proportional(scores, position, rounds):
    arrays = np.array([a.size for a in scores.values()])
    # As long as the smallest tensor's share is a weight at least.
    compression = min(arrays.min(), arrays.sum() / len(arrays)) ** position
    masks = full(scores)
    for density in densities(compression, rounds):
        masks = select(scores, masks, density, "layer")
        shares = quantities.kept_count(arrays.sum(), density) * arrays / arrays.sum()
        counts = np.array([mask.sum() for mask in masks.values()])
        assert (abs(counts - shares) < 1 + 1e-9).all()


@given(st.integers(0, 60), st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1))
def test_shares_add_up_to_what_is_asked_for_or_left(keep, tensors):
    sizes = np.array([size for size, _ in tensors])
    left = np.array([min(size, left) for size, left in tensors])
    shares = select_module.apportion(keep, sizes, left)
    assert shares.sum() == min(keep, left.sum())
    assert (shares >= 0).all() and (shares <= left).all()


def test_tied_weights_that_went_together_are_no_longer_asked_for():
    scores = {"a/kernel": np.array([1.0, 1, 1, 2]), "b/kernel": np.array([1.0, 1, 1, 1, 3])}
    masks = {name: np.ones(array.shape, bool) for name, array in scores.items()}
    for density in (0.8, 0.7, 0.5):
        masks = select(scores, masks, density, "layer", ties="reference")
    assert [mask.tolist() for mask in masks.values()] == [[1, 1, 1, 1], [0, 0, 0, 0, 1]]


@settings(deadline=None)
@given(score_tables(distinct=True), st.floats(0.05, 1))
def test_without_ties_the_order_of_the_tensors_does_not_matter(scores, density):
    forward = select(scores, full(scores), density)
    backward = select(dict(reversed(scores.items())), full(scores), density)
    assert all(np.array_equal(forward[name], backward[name]) for name in scores)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=60),
    st.floats(0.01, 1),
)
def test_groups_of_many_sizes_are_ranked_as_by_sorting(groups, share):
    scores, sizes = (np.array(column) for column in zip(*groups, strict=True))
    keep = max(1, int(share * sizes.sum()))
    order = sorted(range(len(groups)), key=lambda i: (-scores[i], i))
    enough = next(n for n in range(1, len(order) + 1) if sizes[order[:n]].sum() >= keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select_module, "_FEW", 4)
        found = select_module._highest_of_unequal(scores.astype(float), sizes, keep)
    assert np.flatnonzero(found).tolist() == sorted(order[:enough])
