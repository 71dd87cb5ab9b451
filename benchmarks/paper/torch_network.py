"""The network of an exported file in PyTorch, a mask on every kernel as in the paper's code."""

import collections
import json
import pathlib
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class MaskedConv2d(nn.Conv2d):
    """A convolution of the weight times its mask."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight_mask * self.weight, self.bias)


class MaskedLinear(nn.Linear):
    """A dense layer of the weight times its mask."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight_mask * self.weight, self.bias)


MASKED = (MaskedConv2d, MaskedLinear)
# Axes of a Keras kernel in the order of PyTorch's, and those of PyTorch's in the order of Keras'.
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
TO_KERAS = {4: (2, 3, 1, 0), 2: (1, 0)}


class Network(nn.Module):
    """Computes the nodes in order.

    Args:
      nodes: see `networks.nodes_of`.
      weights: by Keras' names and in Keras' layout.
    """

    def __init__(self, nodes: list[dict[str, Any]], weights: dict[str, np.ndarray]):
        super().__init__()
        self.nodes = nodes
        height, width, channels = nodes[0]["shape"]
        self.input_shape = (channels, height, width)
        self.layers = nn.ModuleDict()
        for node in nodes:
            own = {
                name.rsplit("/", 1)[1]: value
                for name, value in weights.items()
                if name.rsplit("/", 1)[0] == node["name"]
            }
            if own:
                self.layers[node["name"]] = _module(node, own)
        self._uses = collections.Counter(name for node in nodes[1:] for name in node["inputs"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, uses = {self.nodes[0]["name"]: x}, dict(self._uses)
        for node in self.nodes[1:]:
            x = self._compute(node, [values[name] for name in node["inputs"]])
            values[node["name"]] = F.relu(x) if node["relu"] else x
            for name in node["inputs"]:
                uses[name] -= 1
                if not uses[name]:  # what nothing needs any more does not stay
                    del values[name]
        return x

    def _compute(self, node: dict[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
        x, op = inputs[0], node["op"]
        if node["name"] in self.layers:
            return self.layers[node["name"]](x)
        if op == "ReLU":
            return F.relu(x)
        if op == "Add":
            return sum(inputs[1:], x)
        if op == "MaxPooling2D":
            return F.max_pool2d(x, node["size"], node["stride"], _symmetric(node))
        if op == "GlobalAveragePooling2D":
            return x.mean((2, 3))
        if op == "Flatten":  # in Keras' order of positions and channels
            return x.permute(0, 2, 3, 1).flatten(1)
        raise ValueError(f"{node['name']}: no operation {op} here")

    def masked(self) -> dict[str, nn.Module]:
        """The layers whose kernels are pruned, by name."""
        return {name: layer for name, layer in self.layers.items() if isinstance(layer, MASKED)}

    def open_masks(self) -> None:
        """Every weight is there."""
        for layer in self.masked().values():
            layer.weight_mask = torch.ones_like(layer.weight, requires_grad=False)

    def masks_for_keras(self) -> dict[str, np.ndarray]:
        """By Keras' name, bits of the mask in Keras' layout."""
        return {
            f"{name}/kernel": np.packbits(
                layer.weight_mask.bool().permute(TO_KERAS[layer.weight.ndim]).numpy()
            )
            for name, layer in self.masked().items()
        }


def load(path: pathlib.Path, dtype: torch.dtype) -> Network:
    """The network of a file that `networks.export` wrote."""
    with np.load(path) as file:
        nodes = json.loads(str(file["nodes"]))
        weights = {name: file[name] for name in file.files if name != "nodes"}
    return Network(nodes, weights).to(dtype)


def _module(node: dict[str, Any], own: dict[str, np.ndarray]) -> nn.Module:
    if node["op"] == "BatchNormalization":
        layer = nn.BatchNorm2d(len(own["gamma"]), eps=node["epsilon"])
        state = {
            "weight": own["gamma"],
            "bias": own["beta"],
            "running_mean": own["moving_mean"],
            "running_var": own["moving_variance"],
        }
    else:
        *_, inputs, outputs = own["kernel"].shape
        bias = "bias" in own
        if node["op"] == "Dense":
            layer = nn.utils.skip_init(MaskedLinear, inputs, outputs, bias=bias)
        else:
            layer = nn.utils.skip_init(
                MaskedConv2d,
                inputs,
                outputs,
                node["size"],
                node["stride"],
                _symmetric(node),
                bias=bias,
            )
        layer.register_buffer("weight_mask", None)
        order = TO_TORCH[own["kernel"].ndim]
        state = {"weight": np.ascontiguousarray(own["kernel"].transpose(order))}
        if bias:
            state["bias"] = own["bias"]
    layer.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()}, strict=False)
    return layer


def _symmetric(node: dict[str, Any]) -> list[int]:
    padding = [before for before, _ in node["padding"]]
    if any(before != after for before, after in node["padding"]):
        raise ValueError(
            f"{node['name']}: received padding {node['padding']}; expected the same before and "
            "after, as PyTorch pads: put ZeroPadding2D before a layer with padding='valid'."
        )
    return padding
