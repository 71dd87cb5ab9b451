"""The paper's fully connected network: five hidden layers of 100 units."""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register


@register("mlp")
def mlp(kit: LayerKit, image: Any, num_classes: int) -> Any:
    x = kit.flatten(image)
    for index in range(1, 6):
        x = kit.dense(x, kit.channels(100), f"dense{index}")
        x = kit.relu(x, f"relu{index}")
    return kit.head(x, num_classes)
