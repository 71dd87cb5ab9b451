"""SynFlowPruningSchedule: the rounds of pruning at initialization, as TFMOT knows a schedule."""

from typing import Any

import tensorflow as tf

from tf_synflow import compat, densities, quantities


@compat.tf_keras().utils.register_keras_serializable(package="tf_synflow")
class SynFlowPruningSchedule(compat.tfmot().sparsity.keras.PruningSchedule):
    """Density of each round before training; in training it never fires, so that masks stay.

    TFMOT asks its schedule at every *training step* whether to compute new masks. SynFlow's rounds
    (Tanaka et al. 2020, algorithm 1) are over by then, and the answer is always no.

    Args:
      compression: prunable weights / kept weights after the last round, at least 1.
      rounds: score → mask steps, at least 1; the paper uses 100.
      kind: `"exponential"` (the paper's) or `"linear"`; see `tf_synflow.densities`.

    Raises:
      QuantityError: compression or rounds out of range.
      UnknownNameError: an unknown kind.

    Example:
      >>> schedule = SynFlowPruningSchedule(compression=100, rounds=2)
      >>> schedule.densities()
      [0.1, 0.01]
    """

    def __init__(self, compression: float = 100, rounds: int = 100, kind: str = "exponential"):
        self.compression = quantities.check_compression(compression)
        self.rounds = quantities.check_rounds(rounds)
        self.kind = kind
        self.densities()

    def densities(self) -> list[float]:
        """The density after each round, in (0, 1]."""
        return densities.densities(self.compression, self.rounds, self.kind)

    def __call__(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """TFMOT's question at a training step: (update the masks?, sparsity)."""
        del step
        # Tensors, for TFMOT feeds them to tf.cond; a Python bool raises there.
        return tf.constant(False), tf.constant(1.0 - 1.0 / self.compression, tf.float32)

    def get_config(self) -> dict:
        """The nested form by which tf_keras finds a registered class again."""
        return {
            "class_name": "tf_synflow>SynFlowPruningSchedule",
            "config": {
                "compression": self.compression,
                "rounds": self.rounds,
                "kind": self.kind,
            },
        }

    @classmethod
    def from_config(cls, config: dict) -> "SynFlowPruningSchedule":
        """Of the nested form, as tf_keras hands it over, or of the arguments, as TFMOT does."""
        return cls(**config.get("config", config))
