"""The networks that are timed, in Keras, and their way to another framework."""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from resnet18 import resnet18

# Keras' initial ResNet-50 sends 1e61 through itself, which float32 does not hold: the paper's code
# would rank NaN. A factor on every kernel keeps its flow in range.
RESNET50_SCALE = 1 / 16


class Network(NamedTuple):
    """A builder, the side of its image, and whether 100 rounds of the paper's code take long."""

    build: Callable[[Any, int], Any]
    size: int
    large: bool


def vgg16_bn(keras: Any, size: int) -> Any:
    """14.7 M weights: the paper's network for CIFAR-10."""
    from tf_synflow.train import models

    return models.build("vgg16_bn", input_shape=(size, size, 3), num_classes=10, keras=keras)


def vgg19(keras: Any, size: int) -> Any:
    """143.7 M weights, no batch normalization: the paper's largest network."""
    return keras.applications.VGG19(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )


def resnet50(keras: Any, size: int) -> Any:
    """25.6 M weights: convolutions alone up to the last layer."""
    model = keras.applications.ResNet50(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(layer.kernel * RESNET50_SCALE)
    return model


NETWORKS = {
    "vgg16_bn": Network(vgg16_bn, 32, large=False),
    "resnet18": Network(resnet18, 64, large=False),
    "vgg19": Network(vgg19, 224, large=True),
    "resnet50": Network(resnet50, 224, large=True),
}


# Layers that need nothing but their inputs and weights.
PLAIN = ("Add", "Dense", "Flatten", "GlobalAveragePooling2D", "ReLU")


def nodes_of(model: Any) -> list[dict[str, Any]]:
    """What a feed-forward Keras model computes, one plain dict an operation, in order.

    Zero padding is given in numbers and becomes part of the convolution or pooling after it, as a
    PyTorch programmer writes it; under a maximum pooling of values ≥ 0 that is the same.

    Returns:
      Of each: `name`, `op`, `inputs` (names), whether a `relu` follows, and what the operation
      needs beside its weights.

    Raises:
      ValueError: a layer or an activation that has no counterpart here.
    """
    names = {id(layer.output): layer.name for layer in model.layers}
    nodes, padded = [], {}
    for layer in model.layers:
        op, config = type(layer).__name__, layer.get_config()
        if op == "InputLayer":
            nodes.append({"name": layer.name, "op": op, "shape": list(layer.output.shape[1:])})
            continue
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [names[id(source)] for source in sources]
        if op == "ZeroPadding2D":
            padded[layer.name] = (inputs, layer.padding)
            continue
        activation = config.get("activation", "linear")
        if activation not in ("linear", "relu"):
            raise ValueError(f"{layer.name}: received activation {activation}; expected relu.")
        node = {"name": layer.name, "op": op, "inputs": inputs, "relu": activation == "relu"}
        if op in ("Conv2D", "MaxPooling2D"):
            size, stride = config.get("kernel_size", config.get("pool_size")), config["strides"]
            padding = [(0, 0), (0, 0)]
            if inputs[0] in padded:
                node["inputs"], padding = padded[inputs[0]]
            elif config["padding"] == "same":
                lengths = sources[0].shape[1:3]
                padding = [_same(*axis) for axis in zip(lengths, size, stride, strict=True)]
            node.update(size=size, stride=stride, padding=padding)
        elif op == "BatchNormalization":
            node.update(epsilon=config["epsilon"])
        elif op == "Activation":
            node.update(op="ReLU")
        elif op not in PLAIN:
            raise ValueError(f"{layer.name}: received a layer {op}; expected {', '.join(PLAIN)} …")
        nodes.append(node)
    return nodes


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    """Keras' padding "same" of one axis, before and after."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def export(model: Any, path: pathlib.Path) -> None:
    """Writes nodes and weights to one file without pickle."""
    weights = {
        f"{layer.name}/{weight.name.split('/')[-1].split(':')[0]}": np.asarray(weight)
        for layer in model.layers
        for weight in layer.weights
    }
    np.savez(path, nodes=json.dumps(nodes_of(model)), **weights)
