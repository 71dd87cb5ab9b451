"""Serves tf_synflow, through its public names where no graph is kept between scorings."""

import functools
import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from paper import floor, networks, worker

import tf_synflow
from tf_synflow.flow.network import Network


class Commands:
    """What the driver can ask for."""

    def __init__(self):
        self._threads = int(os.environ["TF_NUM_INTRAOP_THREADS"])
        tf.config.threading.set_intra_op_parallelism_threads(self._threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def load(self, network: str, size: int, path: str) -> dict:
        """Builds a network, writes it to a file for the other framework, counts its weights."""
        keras.utils.set_random_seed(0)
        self._model = networks.NETWORKS[network].build(keras, size)
        networks.export(self._model, pathlib.Path(path))
        return {"weights": self._model.count_params(), "idle": worker.start_of_peak()}

    def prune(self, compression: float, rounds: int, masks: str) -> dict:
        """All that `compute_masks` does, from the model to the masks; these go to a file."""
        schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
        worker.start_of_peak()
        seconds, processor, found = worker.seconds_of(
            lambda: tf_synflow.compute_masks(
                self._model, compression, schedule=schedule, verbose=False
            )
        )
        peak = worker.peak()
        np.savez(masks, **{name: np.packbits(mask) for name, mask in found.items()})
        return {
            "seconds": seconds,
            "processor": processor,
            "kept": found.kept,
            "prunable": found.size,
            "tensors": len(found),
            "peak": peak,
        }

    def score(self) -> dict:
        """One scoring of the whole network, with all that `score` does for it."""
        seconds, processor, _ = worker.seconds_of(lambda: tf_synflow.score(self._model))
        return {"seconds": seconds, "processor": processor, "peak": worker.peak()}

    def trace(self) -> dict:
        """Reads the network and makes its graph, which `score_traced` uses from then on."""
        seconds, processor, self._scoring = worker.seconds_of(self._traced)
        return {"seconds": seconds, "processor": processor, "peak": worker.peak()}

    def score_traced(self) -> dict:
        """One scoring of the whole network, as each round begins with it: nothing is traced."""
        seconds, processor, _ = worker.seconds_of(self._scoring)
        return {"seconds": seconds, "processor": processor, "peak": worker.peak()}

    def _traced(self) -> Callable[[], tf_synflow.Scores]:
        network = Network(self._model)
        full = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
        return functools.partial(tf_synflow.scores.SynFlow().bind(network), full)

    def rates(self) -> dict:
        return floor.measure(self._threads)._asdict()


if __name__ == "__main__":
    commands = Commands()
    names = ("load", "prune", "score", "trace", "score_traced", "rates")
    worker.serve({name: getattr(commands, name) for name in names})
