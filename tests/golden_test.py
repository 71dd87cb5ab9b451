"""Parity with the paper's own code and with an independent NumPy one."""

import json

import numpy as np
import pytest
import reference_synflow
import tf_keras
from small_models import KERASES, BoundOnce

import tf_synflow

OWN = json.loads(reference_synflow.GOLDEN.read_text())


# --- the paper's code -----------------------------------------------------------------------------


def paper_mlp(k, tensors):
    layers = k.layers
    model = k.Sequential(
        [k.Input((28, 28, 1)), layers.Flatten()]
        + [layers.Dense(n, a, name=i) for n, a, i in ((100, "relu", "1"), (100, "relu", "3"))]
        + [layers.Dense(10, name="5")]
    )
    for name in "135":
        model.get_layer(name).set_weights(
            [tensors[f"w/{name}.weight"].T, tensors[f"w/{name}.bias"]]
        )
    return model


def paper_resnet20(k, tensors):
    layers = k.layers

    def conv_bn(x, conv, bn, filters, size, stride):
        if size == 3 and stride == 2:  # the paper's code pads both sides
            x = layers.ZeroPadding2D(1)(x)
        padding = "same" if stride == 1 else "valid"
        conv = layers.Conv2D(filters, size, stride, padding, use_bias=False, name=conv)
        return layers.BatchNormalization(epsilon=1e-5, name=bn)(conv(x))

    inputs = k.Input((32, 32, 3))
    x = layers.ReLU()(conv_bn(inputs, "conv", "bn", 16, 3, 1))
    for block in range(9):
        filters, stride = 16 * 2 ** (block // 3), 2 if block in (3, 6) else 1
        name = f"blocks_{block}"
        y = conv_bn(x, f"{name}_conv1", f"{name}_bn1", filters, 3, stride)
        y = conv_bn(layers.ReLU()(y), f"{name}_conv2", f"{name}_bn2", filters, 3, 1)
        if stride == 2:
            x = conv_bn(x, f"{name}_shortcut_0", f"{name}_shortcut_1", filters, 1, 2)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    model = k.Model(inputs, layers.Dense(10, name="fc")(x))

    for layer in model.layers:
        source = "w/" + layer.name.replace("_", ".")
        if layer.name == "fc":
            layer.set_weights([tensors[f"{source}.weight"].T, tensors[f"{source}.bias"]])
        elif len(layer.weights) == 4:
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{source}.{part}"] for part in parts])
        elif layer.weights:
            layer.set_weights([as_keras(tensors[f"{source}.weight"])])
    return model


def as_keras(array):
    """Output-input(-height-width) → Keras' (height-width-)input-output."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


@pytest.fixture(scope="module", params=["mlp", "resnet20"])
def paper(request, shared):
    """(network builder, tensors, prunable names there → weight names here)."""
    path = shared / "golden" / f"{request.param}.npz"
    if not path.exists():
        pytest.skip(f"needs {path}, which is not here")
    with np.load(path) as file:
        tensors = dict(file)
    names = json.loads(str(tensors["info"]))["prunable"]
    ours = {n: n.removesuffix(".weight").replace(".", "_") + "/kernel" for n in names}
    return {"mlp": paper_mlp, "resnet20": paper_resnet20}[request.param], tensors, ours


@pytest.mark.parametrize("k", KERASES)
def test_scores_equal_the_papers(paper, k):
    build, tensors, names = paper
    scores = tf_synflow.score(build(k, tensors))
    assert scores.log2_scale == 0
    assert set(scores) == set(names.values())
    for theirs, ours in names.items():
        expected = as_keras(tensors[f"synflow64/{theirs}"])
        np.testing.assert_allclose(scores[ours], expected, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_masks_equal_the_papers_bit_for_bit(paper):
    build, tensors, names = paper
    model, scorer = build(tf_keras, tensors), BoundOnce()
    for rounds in (1, 10, 100):
        for exponent in (1, 2, 3):
            schedule = tf_synflow.SynFlowPruningSchedule(10**exponent, rounds)
            masks = tf_synflow.compute_masks(model, scorer=scorer, schedule=schedule)
            for theirs, ours in names.items():
                shape = tensors[f"w/{theirs}"].shape
                packed = tensors[f"mask_synflow64/it{rounds}/c{exponent}/{theirs}"]
                expected = np.unpackbits(packed)[: np.prod(shape)].reshape(shape).astype(bool)
                np.testing.assert_array_equal(masks[ours], as_keras(expected), ours)


# --- our own, small and independent ---------------------------------------------------------------


def own_model(k, name):
    layers, weights = k.layers, OWN[name]["weights"]
    if name == "mlp":
        names = [("d1", 5, "relu"), ("d2", 4, "relu"), ("d3", 3, None)]
        model = k.Sequential([k.Input((6,)), *(layers.Dense(u, a, name=n) for n, u, a in names)])
    else:
        inputs = k.Input((5, 5, 2))
        x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="c1")(inputs)
        x = layers.ReLU()(layers.BatchNormalization(name="bn1")(x))
        y = layers.Conv2D(3, 3, padding="same", use_bias=False, name="c2")(x)
        y = layers.BatchNormalization(name="bn2")(y)
        x = layers.ReLU()(layers.Add()([x, y]))
        x = layers.GlobalAveragePooling2D()(x)
        model = k.Model(inputs, layers.Dense(2, name="head")(x))
    for layer in model.layers:
        layer.set_weights(
            [np.array(v) for n, v in weights.items() if n.split("/")[0] == layer.name]
        )
    return model


@pytest.mark.parametrize("name", OWN)
def test_numpy_still_gives_the_golden(name):
    assert json.loads(json.dumps(reference_synflow.golden(name))) == OWN[name]


@pytest.mark.parametrize("name", OWN)
def test_numpy_gradients_equal_finite_differences(name):
    network = reference_synflow.NETWORKS[name]
    weights = {n: np.array(w) for n, w in OWN[name]["weights"].items()}
    masks = {n: np.ones(w.shape, bool) for n, w in weights.items() if n.endswith("/kernel")}
    found, _ = reference_synflow.scores(network, weights, masks)
    for kernel in masks:
        index = tuple(size - 1 for size in weights[kernel].shape)
        flows = []
        for factor in (1 + 1e-6, 1 - 1e-6):
            changed = {n: w.copy() for n, w in weights.items()}
            changed[kernel][index] *= factor
            flows.append(reference_synflow.scores(network, changed, masks)[1])
        np.testing.assert_allclose((flows[0] - flows[1]) / 2e-6, found[kernel][index], rtol=1e-6)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", OWN)
def test_scores_equal_the_numpy_golden(name, k):
    scores = tf_synflow.score(own_model(k, name))
    assert list(scores) == list(OWN[name]["scores"])
    for weight, expected in OWN[name]["scores"].items():
        np.testing.assert_allclose(scores[weight], np.array(expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", OWN)
def test_masks_equal_the_numpy_golden_bit_for_bit(name, k):
    model, scorer = own_model(k, name), BoundOnce()
    for rounds in reference_synflow.ROUNDS:
        for compression in reference_synflow.COMPRESSIONS:
            schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
            masks = tf_synflow.compute_masks(model, scorer=scorer, schedule=schedule)
            expected = OWN[name]["masks"][f"rounds {rounds}, compression {compression}"]
            assert {n: reference_synflow.bits(m) for n, m in masks.items()} == expected
