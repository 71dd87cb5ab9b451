"""Networks with gates and attention: at 10× no tensor is emptied, and flow is left."""

import importlib.util
import pathlib

import keras
import pytest

import tf_synflow
from tf_synflow.flow.network import Network

_PATH = pathlib.Path(__file__).parent.parent / "benchmarks" / "gates.py"
_SPEC = importlib.util.spec_from_file_location("gates", _PATH)


@pytest.fixture(scope="module")
def gates():
    """The benchmark, whose models these are; it defines flags, hence is loaded once."""
    from absl import flags

    module = importlib.util.module_from_spec(_SPEC)
    before = set(flags.FLAGS)
    _SPEC.loader.exec_module(module)
    yield module
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3", "efficientnet", "vit", "gpt", "lstm"])
def test_nothing_is_emptied_at_ten_times(gates, name):
    keras.utils.set_random_seed(0)
    model = getattr(gates, name)(keras)
    schedule = tf_synflow.SynFlowPruningSchedule(10, rounds=10)
    masks = tf_synflow.compute_masks(model, schedule=schedule)
    assert masks.kept == masks.size - int(0.9 * masks.size)
    assert [weight for weight, mask in masks.items() if not mask.any()] == []
    assert Network(model).has_flow(masks)


def test_without_sharing_the_gradient_a_gate_takes_all(gates, monkeypatch):
    """Why a factor takes 1/n: with the whole gradient each, flow doubles at every gate."""
    keras.utils.set_random_seed(0)
    model = gates.gpt(keras, vocabulary=32, length=8, size=16)
    shares = {}
    for product in (gates.product, gates.not_shared):
        monkeypatch.setattr(gates.tensor, "product", product)
        scores = tf_synflow.score(model)
        shares[product] = scores["tokens/embeddings"].sum() / scores["head/kernel"].sum()
    assert shares[gates.product] == pytest.approx(1, rel=1e-10)
    assert shares[gates.not_shared] > 1.5
