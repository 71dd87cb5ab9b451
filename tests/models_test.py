"""The models: the paper's sizes, the same from either Keras, reproducible from the seed."""

import keras
import numpy as np
import pytest
import tf_keras

from tf_synflow.errors import ModelError, QuantityError, UnknownNameError
from tf_synflow.flow import weights
from tf_synflow.train import models

# Prunable tensors and weights at 32x32x3, by the paper's code.
SIZES = {
    ("mlp", 10): (6, 3072 * 100 + 4 * 100 * 100 + 100 * 10),
    ("conv", 10): (3, 27 * 32 + 9 * 32 * 32 + 32 * 32 * 32 * 10),
    ("vgg11_bn", 10): (
        9,
        9 * (3 * 64 + 64 * 128 + 128 * 256 + 256**2 + 256 * 512 + 3 * 512**2) + 5120,
    ),
    ("vgg16_bn", 100): (14, 14_761_664),
    ("resnet20", 10): (22, 270_896),
    # As many as keras.applications' MobileNet and MobileNetV2 have.
    ("mobilenet_v1", 10): (28, 3_195_328),
    ("mobilenet_v2", 10): (53, 2_202_560),
}


def build(name, keras_module=tf_keras, **kwargs):
    kwargs = {"input_shape": (32, 32, 3), "num_classes": 10, **kwargs}
    return models.build(name, keras=keras_module, **kwargs)


def kernels(model):
    return [v for layer in model.layers for v in layer.weights if "kernel" in v.name]


@pytest.mark.parametrize(("name", "classes"), SIZES)
@pytest.mark.parametrize("module", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_has_the_papers_prunable_weights(name, classes, module):
    model = build(name, module, num_classes=classes)
    tensors, size = SIZES[name, classes]
    assert len(kernels(model)) == tensors
    assert sum(int(np.prod(v.shape)) for v in kernels(model)) == size


@pytest.mark.parametrize("name", models.names())
def test_layers_have_the_same_names_in_both_kerases(name):
    names = [[layer.name for layer in build(name, k).layers] for k in (tf_keras, keras)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", models.names())
def test_weights_follow_from_the_seed(name):
    first, again, other = (build(name, seed=seed, width=0.25) for seed in (1, 1, 2))
    for a, b, c in zip(kernels(first), kernels(again), kernels(other), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a.numpy() - c.numpy()).max() > 0
    # Layers of one shape must not get the same draw.
    arrays = [v.numpy() for v in kernels(first)]
    for i, a in enumerate(arrays):
        assert not any(a.shape == b.shape and (a == b).all() for b in arrays[:i])


@pytest.mark.parametrize("module", [tf_keras, keras], ids=["tf_keras", "keras"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_logits_and_variables_are_float32(module, dtype):
    model = build("resnet20", module, dtype=dtype)
    logits = model(np.zeros((1, 32, 32, 3), np.float32))
    assert "float32" in str(logits.dtype)
    assert all("float32" in str(v.dtype) for v in model.weights)
    compute = "float32" if dtype == "float32" else dtype.removeprefix("mixed_")
    assert model.get_layer("conv1").compute_dtype == compute


def test_width_scales_channels_but_not_the_head():
    model = build("vgg11_bn", width=0.25)
    channels = [layer.filters for layer in model.layers if hasattr(layer, "filters")]
    assert channels == [16, 32, 64, 64, 128, 128, 128, 128]
    assert model.output_shape == (None, 10)
    assert build("conv", width=0.01).get_layer("conv1").filters == 8


def test_he_normal_deviation_is_by_fan_out():
    kernel = build("vgg16_bn").get_layer("conv10").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.01)


def test_resnet_pads_both_sides_at_stride_two():
    model = build("resnet20")
    conv = model.get_layer("stage2_block1_conv1")
    pad = model.get_layer("stage2_block1_conv1_pad")
    assert (conv.strides, conv.padding) == ((2, 2), "valid")
    assert pad.padding == ((1, 1), (1, 1))
    assert not conv.use_bias
    bn = model.get_layer("conv1_bn")
    assert (bn.epsilon, bn.momentum) == (1e-5, 0.9)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_mobilenets_pad_evenly_before_every_stride(name):
    model = build(name, input_shape=(224, 224, 3))
    strided = [layer for layer in model.layers if getattr(layer, "strides", None) == (2, 2)]
    assert len(strided) == 5
    for layer in strided:
        pad = model.get_layer(f"{layer.name}_pad")
        assert (pad.padding, layer.padding) == (((1, 1), (1, 1)), "valid")
    assert model.get_layer("mean").input.shape[1:3] == (7, 7)


def test_bad_arguments_are_typed_errors():
    with pytest.raises(UnknownNameError, match="vgg12.*resnet20"):
        build("vgg12")
    with pytest.raises(QuantityError, match="width"):
        build("mlp", width=0.0)
    with pytest.raises(QuantityError, match="num_classes"):
        build("mlp", num_classes=0)
    with pytest.raises(ModelError, match="8x8.*16x16"):
        build("vgg11_bn", input_shape=(8, 8, 1))


def test_library_names_these_weights_prunable():
    model = build("resnet20")
    names = weights.select_prunable([f"{v.name.split(':')[0]}" for v in model.weights])
    assert len(names) == 22
