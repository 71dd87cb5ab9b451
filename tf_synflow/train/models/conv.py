"""The paper's small convolutional network: two 3x3 convolutions of 32 channels."""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register


@register("conv")
def conv(kit: LayerKit, image: Any, num_classes: int) -> Any:
    x = image
    for index in (1, 2):
        x = kit.conv(x, kit.channels(32), f"conv{index}")
        x = kit.relu(x, f"relu{index}")
    return kit.head(kit.flatten(x), num_classes)
