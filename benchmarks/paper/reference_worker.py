"""Serves the paper's algorithm in the environment of requirements.txt, which has PyTorch alone."""

import os
import pathlib

import numpy as np
import torch
from paper import reference, torch_network, worker


class Commands:
    """What the driver can ask for."""

    def __init__(self):
        self._threads = int(os.environ["OMP_NUM_THREADS"])
        torch.set_num_threads(self._threads)
        torch.set_num_interop_threads(1)

    def load(self, path: str, dtype: str) -> dict:
        self._network = None  # before there is another
        self._network = torch_network.load(pathlib.Path(path), getattr(torch, dtype))
        return {
            "torch": torch.__version__,
            "sizes": {name: layer.weight.numel() for name, layer in self._network.masked().items()},
            "idle": worker.start_of_peak(),
        }

    def prune(self, densities: list[float], masks: str) -> dict:
        """All rounds; the masks go to a file."""
        rounds = reference.prune(self._network, densities)
        np.savez(masks, **self._network.masks_for_keras())
        return {
            "seconds": [one.seconds for one in rounds],
            "processor": [one.processor for one in rounds],
            "kept": [one.kept for one in rounds],
            "peak": worker.peak(),
        }

    def score(self) -> dict:
        """One scoring of the whole network."""
        self._network.eval()
        self._network.open_masks()
        seconds, processor, _ = worker.seconds_of(lambda: reference.scores_of(self._network))
        return {"seconds": seconds, "processor": processor, "peak": worker.peak()}


if __name__ == "__main__":
    commands = Commands()
    worker.serve({name: getattr(commands, name) for name in ("load", "prune", "score")})
