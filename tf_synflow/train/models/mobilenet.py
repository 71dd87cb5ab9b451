"""MobileNets (Howard et al. 2017, table 1; Sandler et al. 2018, table 2) shaped for XNNPACK.

XNNPACK computes 1x1 convolutions sparsely only in a network of a certain shape: zeros are padded
evenly on all sides before a stride, where Keras' "same" pads one side; from the 3x3 stem with
stride 2 to the global mean there is nothing but 1x1 and depthwise convolutions, their activations,
and sums.
"""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register

# Channels and stride of each depthwise-separable block.
V1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# Expansion, channels, repeats and first stride of each group of inverted residual blocks.
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
      (6, 320, 1, 1))  # fmt: skip


@register("mobilenet_v1")
def mobilenet_v1(kit: LayerKit, image: Any, num_classes: int) -> Any:
    x = _conv(kit, image, kit.channels(32), "stem", size=3, stride=2)
    for index, (base, stride) in enumerate(V1, start=1):
        x = _depthwise(kit, x, f"block{index}_depthwise", stride)
        x = _conv(kit, x, kit.channels(base), f"block{index}_pointwise")
    return kit.head(kit.global_mean(x), num_classes)


@register("mobilenet_v2")
def mobilenet_v2(kit: LayerKit, image: Any, num_classes: int) -> Any:
    x = _conv(kit, image, kit.channels(32), "stem", size=3, stride=2)
    index = 0
    for expansion, base, repeats, first_stride in V2:
        for repeat in range(repeats):
            index += 1
            stride = first_stride if repeat == 0 else 1
            x = _inverted_residual(kit, x, expansion, kit.channels(base), stride, f"block{index}")
    x = _conv(kit, x, kit.channels(1280), "last")
    return kit.head(kit.global_mean(x), num_classes)


def _inverted_residual(kit: LayerKit, x, expansion: int, filters: int, stride: int, name: str):
    shortcut = x
    if expansion > 1:
        x = _conv(kit, x, expansion * x.shape[-1], f"{name}_expand")
    x = _depthwise(kit, x, f"{name}_depthwise", stride)
    x = kit.conv(x, filters, f"{name}_project", size=1, bias=False)
    x = kit.batch_norm(x, f"{name}_project_bn")
    joins = stride == 1 and shortcut.shape[-1] == filters
    return kit.add(shortcut, x, f"{name}_add") if joins else x


def _conv(kit: LayerKit, x, filters: int, name: str, *, size: int = 1, stride: int = 1):
    x = kit.conv(x, filters, name, size=size, stride=stride, bias=False)
    return kit.relu6(kit.batch_norm(x, f"{name}_bn"), f"{name}_relu")


def _depthwise(kit: LayerKit, x, name: str, stride: int):
    x = kit.batch_norm(kit.depthwise(x, name, stride=stride), f"{name}_bn")
    return kit.relu6(x, f"{name}_relu")
