"""VGG with batch normalization (Simonyan & Zisserman 2015) in the lottery-ticket variant.

Four maximum poolings, then the mean over what is left (the paper's 2x2 average pooling at 32x32)
and one dense layer.
"""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register

# Channels of the 3x3 convolutions; a maximum pooling stands between the groups.
VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
MIN_SIZE = 16


@register("vgg11_bn", min_size=MIN_SIZE)
def vgg11_bn(kit: LayerKit, image: Any, num_classes: int) -> Any:
    return _vgg(kit, image, num_classes, VGG11)


@register("vgg16_bn", min_size=MIN_SIZE)
def vgg16_bn(kit: LayerKit, image: Any, num_classes: int) -> Any:
    return _vgg(kit, image, num_classes, VGG16)


def _vgg(kit: LayerKit, image, num_classes: int, groups: tuple[tuple[int, ...], ...]):
    x, index = image, 0
    for group, bases in enumerate(groups, start=1):
        for base in bases:
            index += 1
            x = kit.conv(x, kit.channels(base), f"conv{index}")
            x = kit.batch_norm(x, f"bn{index}")
            x = kit.relu(x, f"relu{index}")
        if group < len(groups):
            x = kit.max_pool(x, f"pool{group}")
    return kit.head(kit.global_mean(x), num_classes)
