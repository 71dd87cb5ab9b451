"""ResNet-18 for 64×64 images: four stages of basic blocks and a 3×3 stem, 11.3 M weights."""

import types
from typing import Any


def resnet18(keras: types.ModuleType, size: int = 64, classes: int = 200) -> Any:
    """Builds the network (He et al. 2016) in the form the paper uses on Tiny-ImageNet.

    Args:
      keras: the module to build with, `tf_keras` or `keras`.
      size: side of an image in pixels.
      classes: units of the head.

    Returns:
      An uncompiled functional model that maps images to logits.
    """
    layers = keras.layers

    def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        if stride > 1 and kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2)(x)
        padding = "valid" if stride > 1 else "same"
        x = layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        return layers.BatchNormalization(epsilon=1e-5)(x)

    image = keras.Input((size, size, 3))
    x = layers.ReLU()(conv(image, 64, 3, 1, "stem"))
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"stage{stage + 1}_block{block + 1}"
            shortcut = conv(x, filters, 1, stride, f"{name}_shortcut") if stride > 1 else x
            y = layers.ReLU()(conv(x, filters, 3, stride, f"{name}_conv1"))
            y = conv(y, filters, 3, 1, f"{name}_conv2")
            x = layers.ReLU()(layers.Add()([y, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, name="head")(x), name="resnet18")
