"""ResNet for CIFAR (He et al. 2016, section 4.2), with projection shortcuts as in the paper."""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register


@register("resnet20", min_size=4)
def resnet20(kit: LayerKit, image: Any, num_classes: int) -> Any:
    x = _conv_bn(kit, image, kit.channels(16), "conv1")
    x = kit.relu(x, "conv1_relu")
    for stage, base in enumerate((16, 32, 64), start=1):
        for block in (1, 2, 3):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(kit, x, kit.channels(base), stride, f"stage{stage}_block{block}")
    return kit.head(kit.global_mean(x), num_classes)


def _basic_block(kit: LayerKit, x, filters: int, stride: int, name: str):
    shortcut = x
    if stride > 1:
        shortcut = _conv_bn(kit, x, filters, f"{name}_shortcut", size=1, stride=stride)
    x = _conv_bn(kit, x, filters, f"{name}_conv1", stride=stride)
    x = kit.relu(x, f"{name}_relu1")
    x = _conv_bn(kit, x, filters, f"{name}_conv2")
    x = kit.add(x, shortcut, f"{name}_add")
    return kit.relu(x, f"{name}_relu2")


def _conv_bn(kit: LayerKit, x, filters: int, name: str, *, size: int = 3, stride: int = 1):
    x = kit.conv(x, filters, name, size=size, stride=stride, bias=False)
    return kit.batch_norm(x, f"{name}_bn")
