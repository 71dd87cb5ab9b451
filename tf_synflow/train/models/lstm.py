"""An LSTM that reads an image row by row: a sequence of as many steps as the image is high."""

from typing import Any

from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import register


@register("lstm")
def lstm(kit: LayerKit, image: Any, num_classes: int) -> Any:
    """Two layers of 128 units at width 1."""
    height, width, channels = image.shape[1:]
    x = kit.reshape(image, (height, width * channels), "rows")
    x = kit.lstm(x, kit.channels(128), "lstm1", sequences=True)
    x = kit.lstm(x, kit.channels(128), "lstm2")
    return kit.head(x, num_classes)
