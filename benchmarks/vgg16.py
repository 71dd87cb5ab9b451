"""VGG-16 with batch normalization at 32x32, as the paper initializes it or as Keras does."""

from typing import Any

from tf_synflow.train import models

INITIALIZERS = ("he_normal", "glorot_uniform")


def vgg16(keras: Any, initializer: str = "he_normal", seed: int = 0) -> Any:
    """The dense network, 10 classes.

    SynFlow spreads the weights that it keeps by their size, so that what they are drawn from
    decides how many channels die: more of them under the lighter tails of a uniform distribution.

    Args:
      keras: the module to build with.
      initializer: `"he_normal"`, the paper's, or `"glorot_uniform"`, what Keras takes by itself.
      seed: of the weights.
    """
    model = models.build(
        "vgg16_bn", input_shape=(32, 32, 3), num_classes=10, keras=keras, seed=seed
    )
    if initializer == "glorot_uniform":
        for index, layer in enumerate(model.layers):
            if hasattr(layer, "kernel"):
                draw = keras.initializers.GlorotUniform(seed=1000 * seed + index)
                layer.kernel.assign(draw(layer.kernel.shape))
    return model
