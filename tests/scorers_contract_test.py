"""What holds for every registered scorer: a new one is tested by being registered."""

import numpy as np
import pytest
import tf_keras
from small_models import KERASES, mlp, residual, state

import tf_synflow
from tf_synflow import errors, quantities, scores
from tf_synflow.scores import REGISTRY

each_scorer = pytest.mark.parametrize("name", sorted(REGISTRY))
each_keras = pytest.mark.parametrize("k", KERASES)


@each_scorer
@each_keras
def test_scores_have_the_weights_names_shapes_and_dtype(name, k):
    model = residual(k)
    before = state(model)
    found = tf_synflow.score(model, name, seed=0)
    assert {n: a.shape for n, a in found.items()} == {
        "stem/kernel": (3, 3, 3, 4),
        "conv1/kernel": (3, 3, 4, 6),
        "conv2/kernel": (3, 3, 6, 6),
        "shortcut/kernel": (1, 1, 4, 6),
        "head/kernel": (6, 3),
    }
    assert all(a.dtype == np.float64 and np.isfinite(a).all() for a in found.values())
    assert isinstance(found.log2_scale, int)
    assert state(model) == before


@each_scorer
def test_both_kerases_score_the_same(name):
    one, other = (tf_synflow.score(residual(k.values[0]), name, seed=0) for k in KERASES)
    # Keras orders a functional model's layers for itself; what belongs to a name does not depend
    # on it, but a scorer that draws by position may.
    if list(one) != list(other) and name == "random":
        pytest.skip("the Kerases list the layers in another order")
    for weight in one:
        np.testing.assert_allclose(one[weight], other[weight], rtol=1e-12, atol=0)


@each_scorer
def test_model_is_bit_identical_when_scoring_raises(name):
    model = mlp(tf_keras)
    kernel = model.get_layer("d1").kernel
    broken = kernel.numpy()
    broken[2, 3] = np.nan
    kernel.assign(broken)
    before = state(model)
    for call in (tf_synflow.score, tf_synflow.prune_at_init):
        with pytest.raises(errors.WeightsError, match="'d1/kernel'.*1 values"):
            call(model, scorer=name)
    assert state(model) == before


@each_scorer
def test_same_seed_same_masks(name):
    one, again = (tf_synflow.compute_masks(mlp(tf_keras), 3, scorer=name, seed=5) for _ in range(2))
    assert one == again
    assert {**one.info, "model": None} == {**again.info, "model": None}


@each_scorer
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_count_is_exact_from_compression_one_to_the_maximal(name, scope):
    model = mlp(tf_keras, units=(6, 4, 3))
    total, tensors = 16 * 6 + 6 * 4 + 4 * 3, 3
    for compression in (1, 1.001, 1.5, 7, total / tensors):
        schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds=3)
        masks = tf_synflow.compute_masks(model, schedule=schedule, scorer=name, scope=scope, seed=0)
        assert masks.kept == quantities.kept_count(total, 1 / compression)
        assert masks.size == total


@each_scorer
def test_removed_weights_stay_removed_over_rounds(name):
    scorer = scores.get(name, seed=3)
    seen = []

    class Watched(scores.Scorer):
        """The scorer, noting the masks of each round."""

        single_shot = False

        def bind(self, network):
            function = scorer.bind(network)
            return lambda masks: seen.append(masks) or function(masks)

    Watched.name = name
    model = mlp(tf_keras)
    schedule = tf_synflow.SynFlowPruningSchedule(8, rounds=6)
    seen.append(dict(tf_synflow.compute_masks(model, scorer=Watched(), schedule=schedule)))
    assert len(seen) == 7  # before each of 6 rounds, and after
    # `seen` ends with what was computed, as the masks before round one come first.
    for earlier, later in zip(seen, seen[1:], strict=False):
        assert sum(m.sum() for m in later.values()) < sum(m.sum() for m in earlier.values())
        assert not any((later[n] & ~earlier[n]).any() for n in later)


@each_scorer
def test_says_how_to_make_itself_again(name):
    scorer = scores.get(name, seed=11)
    again = type(scorer)(**scorer.get_config())
    one, other = (tf_synflow.score(mlp(tf_keras), scorer) for scorer in (scorer, again))
    assert all(np.array_equal(one[weight], other[weight]) for weight in one)
    assert scorer.name == name


@each_scorer
def test_where_all_stay_nothing_is_scored(name):
    class Unbound(type(scores.get(name))):
        def bind(self, network):
            function = super().bind(network)
            if name == "synflow":
                function.factors = None
                return function
            return None

    masks = tf_synflow.compute_masks(mlp(tf_keras), 1, scorer=Unbound())
    assert masks.kept == masks.size


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True])
def test_a_seed_is_a_whole_number(seed):
    model = mlp(tf_keras)
    for call in (tf_synflow.score, tf_synflow.compute_masks):
        with pytest.raises(errors.QuantityError, match="seed: received"):
            call(model, scorer="random", seed=seed)
    with pytest.raises(errors.QuantityError, match="seed: received"):
        scores.Random(seed)


def test_a_seed_beside_a_scorer_that_has_one():
    with pytest.raises(errors.QuantityError, match="seed: received 2 beside a Random"):
        tf_synflow.compute_masks(mlp(tf_keras), 10, scorer=scores.Random(1), seed=2)


@pytest.mark.parametrize("exponent", [-5108, -3, 0, 3, 1074, 5108])
def test_zeros_have_no_scale(exponent):
    found = scores.Scores({"d/kernel": np.zeros(3)}, exponent)
    assert found["d/kernel"].tolist() == [0, 0, 0] and found.log2_scale == 0


def test_random_without_a_seed_keeps_the_one_it_drew():
    one, other = scores.Random(), scores.Random()
    assert one.seed != other.seed
    assert one.get_config() == {"seed": one.seed}


def test_magnitude_is_the_absolute_weight():
    model = mlp(tf_keras)
    found = tf_synflow.score(model, "magnitude")
    kernel = model.get_layer("d0").kernel.numpy()
    np.testing.assert_array_equal(found["d0/kernel"], np.abs(kernel.astype(np.float64)))


def test_synflow_in_float32_is_near():
    model = residual(tf_keras)
    exact = tf_synflow.score(model)
    near = tf_synflow.score(model, scores.SynFlow(dtype="float32"))
    for weight in exact:
        np.testing.assert_allclose(near[weight], exact[weight], rtol=2e-5)
    with pytest.raises(errors.UnknownNameError, match="'float16'.*float32, float64"):
        scores.SynFlow(dtype="float16")


@pytest.mark.parametrize("scorer", ["synflows", None, 3, scores.SynFlow], ids=repr)
def test_unknown_scorer(scorer):
    with pytest.raises(errors.UnknownNameError, match="magnitude, random, synflow"):
        tf_synflow.score(mlp(tf_keras), scorer)


@pytest.mark.parametrize("bad", [{"scope": "local"}, {"schedule": "cubic"}, {"wrapper": "torch"}])
def test_unknown_names(bad):
    with pytest.raises(errors.UnknownNameError, match="expected one of"):
        tf_synflow.prune_at_init(mlp(tf_keras), 4, **bad)


def test_a_compression_beside_a_schedule_must_agree():
    schedule = tf_synflow.SynFlowPruningSchedule(8, rounds=1)
    assert tf_synflow.compute_masks(mlp(tf_keras), 8, schedule=schedule).kept == 40
    for other in (4, 100):
        with pytest.raises(errors.QuantityError, match="beside a schedule of compression 8"):
            tf_synflow.compute_masks(mlp(tf_keras), other, schedule=schedule)


@pytest.mark.parametrize(
    ("prunable", "expected"),
    [
        (None, ["d0/kernel", "d1/kernel", "d2/kernel"]),
        ("d1/*", ["d1/kernel", "d1/bias"]),
        (["d0/kernel", "*2/kernel"], ["d0/kernel", "d2/kernel"]),
        (lambda name: name.endswith("bias"), ["d0/bias", "d1/bias", "d2/bias"]),
    ],
)
def test_prunable_chooses_by_name(prunable, expected):
    assert list(tf_synflow.score(mlp(tf_keras), "magnitude", prunable=prunable)) == expected


def test_nothing_prunable():
    with pytest.raises(errors.NoPrunableWeightsError, match="d0/kernel.*'conv"):
        tf_synflow.score(mlp(tf_keras), prunable="conv*")
    without = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.ReLU()])
    with pytest.raises(errors.NoPrunableWeightsError, match="none"):
        tf_synflow.prune_at_init(without, 2)


class Given(scores.Scorer):
    """A scorer of one's own, which gives what it was made with."""

    name, single_shot = "given", True

    def __init__(self, make):
        self._make = make

    def bind(self, network):
        return self._make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dict, "received dict from it; expected Scores"),
        (lambda masks: None, "received NoneType from it"),
        (
            lambda masks: tf_synflow.Scores({n: np.ones(m.size) for n, m in masks.items()}),
            r"'d0/kernel': received \(192,\); expected \(16, 12\)",
        ),
        (
            lambda masks: tf_synflow.Scores({"d0/kernel": np.ones((16, 12))}),
            r"'d1/kernel': received none; expected \(12, 8\)",
        ),
        (
            lambda masks: tf_synflow.Scores(
                {n: np.ones(m.shape) for n, m in masks.items()} | {"x": np.ones(3)}
            ),
            r"'x': received \(3,\); expected none",
        ),
    ],
)
def test_what_a_scorer_of_ones_own_gives_is_checked(make, message):
    model = mlp(tf_keras)
    before = state(model)
    for call in (tf_synflow.score, tf_synflow.compute_masks, tf_synflow.prune_at_init):
        with pytest.raises(errors.ScoreError, match=message):
            call(model, scorer=Given(make))
    assert state(model) == before


def test_a_scorer_of_ones_own_chooses():
    def make(masks):
        return tf_synflow.Scores({n: np.arange(m.size).reshape(m.shape) for n, m in masks.items()})

    masks = tf_synflow.compute_masks(mlp(tf_keras), 4, scorer=Given(make), scope="layer")
    for mask in masks.values():
        assert mask.ravel()[-int(mask.sum()) :].all()
