"""A small vision transformer (Dosovitskiy et al. 2021), pre-norm, for images of 32 pixels."""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register

PATCH = 4
BLOCKS = 4
HEADS = 4


@register("vit", min_size=PATCH)
def vit(kit: LayerKit, image: Any, num_classes: int) -> Any:
    """Four blocks of attention and a two-layer perceptron; 96 channels at width 1."""
    size = HEADS * max(2, kit.channels(96) // HEADS)
    x = kit.embedded_patches(image, PATCH, size, "patches")
    for index in range(1, BLOCKS + 1):
        y = kit.layer_norm(x, f"block{index}_norm1")
        y = kit.attention(y, HEADS, f"block{index}_attention")
        x = kit.add(x, y, f"block{index}_add1")
        y = kit.layer_norm(x, f"block{index}_norm2")
        y = kit.dense(y, 2 * size, f"block{index}_dense1")
        y = kit.gelu(y, f"block{index}_gelu")
        y = kit.dense(y, size, f"block{index}_dense2")
        x = kit.add(x, y, f"block{index}_add2")
    x = kit.layer_norm(x, "norm")
    return kit.head(kit.token_mean(x), num_classes)
