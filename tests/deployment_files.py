"""Small .tflite files as the converter writes them, for the tests of what reads them."""

import functools

import keras
import numpy as np
import tensorflow as tf

SIZE = 24


def pruned(model, share, *, block=1, only=""):
    """Zeroes a share of each kernel of rank 2 or more whose layer's name begins so."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for variable in layer.weights:
            kernel = variable.numpy()
            if kernel.ndim > 1 and layer.name.startswith(only):
                rows = kernel.reshape(-1, kernel.shape[-1])
                dropped = rng.random((len(rows) // block, rows.shape[1])) < share
                rows[np.repeat(dropped, block, axis=0)] = 0
                variable.assign(rows.reshape(kernel.shape))
    return model


def mlp():
    """Three dense layers on 64 inputs."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(64, activation="relu", name="first"),
            layers.Dense(48, activation="relu", name="second"),
            layers.Dense(8, name="head"),
        ]
    )


def mobilenet(shaped=True):
    """Depthwise-separable blocks; padded as XNNPACK's sparse inference wants it, or 'same'."""
    layers = keras.layers
    padding = "valid" if shaped else "same"
    inputs = x = keras.Input((SIZE, SIZE, 3))
    if shaped:
        x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(8, 3, strides=2, padding=padding, activation="relu", name="stem")(x)
    for block, stride in enumerate((1, 2)):
        if shaped and stride == 2:
            x = layers.ZeroPadding2D(1)(x)
        x = layers.DepthwiseConv2D(
            3, strides=stride, padding=padding if stride == 2 else "same", name=f"depthwise{block}"
        )(x)
        x = layers.Conv2D(32, 1, activation="relu", name=f"pointwise{block}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


def converted(model, *, sparse=False, int8=False, dynamic=False, float16=False):
    """The bytes of a model's file, of batch 1."""
    shape = (1, *model.inputs[0].shape[1:])
    module = tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    signature = [tf.TensorSpec(shape, name="x")]
    module.call = tf.function(lambda x: model(x, training=False), input_signature=signature)
    concrete = module.call.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if dynamic or float16:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16] if float16 else []
    if int8:
        rng = np.random.default_rng(0)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [rng.standard_normal(shape).astype(np.float32)] for _ in range(3)
        )
    return converter.convert()


@functools.cache
def content(name):
    """The bytes of one of the files, converted once."""
    return {
        "mlp_dense": lambda: converted(mlp()),
        "mlp_csr": lambda: converted(pruned(mlp(), 0.8), sparse=True),
        "mlp_blocks": lambda: converted(pruned(mlp(), 0.8, block=4), sparse=True),
        "mlp_int8": lambda: converted(pruned(mlp(), 0.8), int8=True),
        "mlp_dynamic": lambda: converted(mlp(), dynamic=True),
        "mlp_float16": lambda: converted(mlp(), float16=True),
        "shaped": lambda: converted(pruned(mobilenet(), 0.9, only="pointwise"), sparse=True),
        "shaped_half": lambda: converted(pruned(mobilenet(), 0.5, only="pointwise"), sparse=True),
        "shaped_zeros": lambda: converted(pruned(mobilenet(), 0.9, only="pointwise")),
        "stock": lambda: converted(pruned(mobilenet(False), 0.9, only="pointwise"), sparse=True),
    }[name]()


def file(folder, name):
    """One of the files, written into a folder."""
    path = folder / f"{name}.tflite"
    path.write_bytes(content(name))
    return path
