"""What masks leave: selected in groups as among all scores, and what of it is on a path."""

import numpy as np
import pytest
from small_models import KERASES, mlp, residual, zoo

import tf_synflow
from tf_synflow.flow.network import Network
from tf_synflow.flow.weights import is_additive
from tf_synflow.masks.select import select
from tf_synflow.masks.structure import Blocks, Channels
from tf_synflow.rounds.scored import LiveScores, Rules
from tf_synflow.scores.synflow import SynapticFlow

each_keras = pytest.mark.parametrize("k", KERASES)
MODELS = [mlp, residual, zoo]


def without_constants(model):
    """The model with zeros for its biases, β and moving means, as at initialization."""
    for weight in model.weights:
        if is_additive(weight.path if hasattr(weight, "path") else weight.name.split(":")[0]):
            weight.assign(np.zeros(weight.shape))
    return model


def some_masks(network, share, seed=0):
    """Masks that leave some channels empty, and a share of all else."""
    random = np.random.RandomState(seed)
    masks = {}
    for name, shape in network.prunable_shapes.items():
        masks[name] = random.random_sample(shape) < share
        masks[name][..., random.random_sample(shape[-1]) < 0.3] = False
    return masks


@each_keras
@pytest.mark.parametrize("of", MODELS)
@pytest.mark.parametrize("share", [0.9, 0.3])
def test_what_is_on_a_path_is_what_the_network_says(of, share, k):
    network = Network(without_constants(of(k)))
    flow = SynapticFlow(network)
    assert not flow.has_constants
    for seed in range(3):
        masks = some_masks(network, share, seed)
        live = LiveScores(Rules(network, flow, "global", "position", {}), masks, on_paths=True)
        expected, found = network.on_path(masks), live.masks
        scores = flow(masks)
        for name, mask in found.items():
            np.testing.assert_array_equal(mask, expected[name], name)
            np.testing.assert_array_equal(mask, masks[name] & (scores[name] > 0), name)


@each_keras
@pytest.mark.parametrize("of", MODELS)
@pytest.mark.parametrize("share", [0.9, 0.3])
def test_flow_from_a_constant_is_no_path(of, share, k):
    network = Network(of(k))
    flow = SynapticFlow(network)
    assert flow.has_constants
    off_path = 0
    for seed in range(3):
        masks = some_masks(network, share, seed)
        found, scores = flow.on_path(masks), flow(masks)
        for name, mask in network.on_path(masks).items():
            np.testing.assert_array_equal(found[name], mask, name)
            off_path += np.count_nonzero((scores[name] > 0) & ~mask)
    assert off_path, "a score without a path is what this is about"


@each_keras
def test_a_weight_of_zero_is_part_of_a_path(k):
    model = mlp(k)
    model.layers[1].kernel.assign(np.zeros((16, 12)))  # as a branch often begins
    network = Network(model)
    masks = some_masks(network, 0.9)
    expected, found = network.on_path(masks), SynapticFlow(network).on_path(masks)
    for name, mask in expected.items():
        assert mask.any()
        np.testing.assert_array_equal(found[name], mask, name)


@each_keras
@pytest.mark.parametrize("of", MODELS)
@pytest.mark.parametrize("structure", [Blocks(1, 4), Blocks(2, 1), Channels()], ids=str)
def test_selects_as_among_all_scores(of, structure, k):
    network = Network(of(k))
    flow = SynapticFlow(network)
    assert flow.has_constants
    structures = {name: structure for name in network.prunable if name not in network.last}
    masks = some_masks(network, 0.6)
    left = sum(mask.sum() for mask in masks.values()) / network.size
    for scope in ("global", "layer"):
        scores = flow(masks)
        live = LiveScores(Rules(network, flow, scope, "position", structures), masks)
        for share in (1, 0.7, 0.2):
            found = live.select(share * left)
            expected = select(scores, masks, share * left, scope, structures=structures)
            for name, mask in expected.items():
                np.testing.assert_array_equal(found[name], mask, name)


@each_keras
@pytest.mark.parametrize("has_constants", [False, True])
def test_channels_of_a_model_with_and_without_constants(has_constants, k):
    """What is on a path is asked the flow or the network, and is the same."""
    model = residual(k) if has_constants else without_constants(residual(k))
    schedule = tf_synflow.SynFlowPruningSchedule(3, 6)
    masks = tf_synflow.compute_masks(model, schedule=schedule, structure="channel", verbose=False)
    assert masks.kept < masks.size
    for name, mask in Network(model).on_path(masks).items():
        np.testing.assert_array_equal(mask, masks[name], name)
