"""SynFlow: the flow through a weight, without data (Tanaka et al. 2020, equation 6)."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow.network import Network
from tf_synflow.flow.weights import is_additive
from tf_synflow.scores.scorer import ScoreFunction, Scorer, Scores

DTYPES = ("float64", "float32")


class SynFlow(Scorer):
    """score = θ ⊙ ∂R/∂θ with R = 1ᵀ(∏|θ|)1, on the masked network of |θ|.

    R is the sum of the outputs for one input of ones, with the absolute value of everything the
    model holds (weights, biases, γ, β, moving mean and variance), in inference mode.

    Args:
      dtype: `"float64"`, whatever the model's own dtype; `"float32"` halves time and memory but
        cannot tell near-ties, so that two runs may keep different weights.

    Example:
      >>> tf_synflow.score(model, scorer=SynFlow(dtype="float32"))
    """

    name = "synflow"
    single_shot = False

    def __init__(self, dtype: str = "float64"):
        if dtype not in DTYPES:
            raise errors.UnknownNameError("dtype of SynFlow", dtype, DTYPES)
        self.dtype = dtype

    def bind(self, network: Network) -> ScoreFunction:
        absolute = {
            name: tf.constant(np.abs(value), self.dtype) for name, value in network.values().items()
        }
        zero = {name for name in absolute if is_additive(name) and not np.any(absolute[name])}

        def flow_through(masks: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
            kept = {
                name: absolute[name] * tf.cast(mask, self.dtype)
                for name, mask in zip(network.prunable, masks, strict=True)
            }
            with tf.GradientTape() as tape:
                tape.watch(kept)
                theta = {**absolute, **kept}
                flow = network({name: theta[name] for name in theta if name not in zero})
                total = flow.value
            gradients = tape.gradient(
                total, kept, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            return [kept[name] * gradients[name] for name in kept], flow.log2_scale

        # One trace a network, kept as such: TensorFlow warns of a tf.function that is made anew.
        shapes = network.prunable_shapes.values()
        compiled = tf.function(flow_through, autograph=False).get_concrete_function(
            [tf.TensorSpec(shape, tf.bool) for shape in shapes]
        )

        def score(masks: Mapping[str, np.ndarray]) -> Scores:
            arrays, log2_scale = compiled([tf.constant(masks[name]) for name in network.prunable])
            named = zip(network.prunable, arrays, strict=True)
            return Scores(
                {name: array.numpy().astype(np.float64, copy=False) for name, array in named},
                float(log2_scale),
            )

        return score

    def get_config(self) -> dict:
        return {"dtype": self.dtype}
