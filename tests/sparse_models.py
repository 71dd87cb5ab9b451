"""Models with many zeros, in either Keras, to be exported."""

import numpy as np


def mlp(k, share=0.9):
    inputs = k.Input((20,))
    x = k.layers.Dense(64, activation="relu")(inputs)
    x = k.layers.Dense(64, activation="relu")(x)
    return sparsified(k.Model(inputs, k.layers.Dense(10)(x)), share)


def cnn(k, share=0.9):
    model = k.Sequential(
        [
            k.Input((8, 8, 3)),
            k.layers.Conv2D(16, 3, padding="same", use_bias=False),
            k.layers.BatchNormalization(),
            k.layers.ReLU(),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dense(10, activation="softmax"),
        ]
    )
    return sparsified(model, share)


def resnet(k, share=0.9):
    def block(x, width, stride):
        conv = {"padding": "same", "use_bias": False}
        y = k.layers.Conv2D(width, 3, stride, **conv)(x)
        y = k.layers.ReLU()(k.layers.BatchNormalization()(y))
        y = k.layers.BatchNormalization()(k.layers.Conv2D(width, 3, **conv)(y))
        if stride > 1:
            x = k.layers.BatchNormalization()(k.layers.Conv2D(width, 1, stride, **conv)(x))
        return k.layers.ReLU()(k.layers.Add()([x, y]))

    inputs = k.Input((8, 8, 3))
    x = k.layers.Conv2D(16, 3, padding="same")(inputs)
    x = block(block(x, 16, 1), 24, 2)
    x = k.layers.GlobalAveragePooling2D()(x)
    return sparsified(k.Model(inputs, k.layers.Dense(10)(x)), share)


def sparsified(model, share):
    """Zeros in every kernel, and batch-norm statistics as if trained."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        values = layer.get_weights()
        if "BatchNormalization" in type(layer).__name__:
            layer.set_weights([rng.uniform(0.5, 2.0, value.shape) for value in values])
        elif values:
            values[0][rng.random(values[0].shape) < share] = 0
            layer.set_weights(values)
    return model
