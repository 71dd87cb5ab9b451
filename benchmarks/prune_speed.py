"""Times SynFlow pruning at initialization: seconds for all rounds, and peak memory.

    python benchmarks/prune_speed.py
    python benchmarks/prune_speed.py --models resnet18 --rounds 10

Every model is pruned in a process of its own, so that its peak is its own. Memory is the peak
resident set above what the process held with TensorFlow imported and the model built.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import resource
import sys
import time
from typing import Any, NamedTuple

from resnet18 import resnet18
from where import processor_line, versions_line

MODELS = {"vgg16_bn": (32, 32, 3), "resnet18": (64, 64, 3)}


class Measurement(NamedTuple):
    """Of one model: its size, the time of all rounds, the memory above idle."""

    weights: int
    kept: int
    seconds: float
    megabytes: float


def measure(name: str, rounds: int, compression: float) -> Measurement:
    """Prunes one model in this process."""
    import tf_keras

    import tf_synflow

    model = _build(name, tf_keras)
    schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
    idle = _resident_bytes()
    start = time.perf_counter()
    masks = tf_synflow.compute_masks(model, compression, schedule=schedule, verbose=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measurement(masks.size, masks.kept, seconds, (peak - idle) / 1e6)


def _build(name: str, keras: Any) -> Any:
    if name == "resnet18":
        return resnet18(keras, size=MODELS[name][0])
    from tf_synflow.train import models

    return models.build(name, input_shape=MODELS[name], num_classes=10, keras=keras)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measures the models asked for and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--compression", type=float, default=100, help="default: %(default)s")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("resident memory is read from /proc: run it on Linux.")

    print(processor_line())
    print(versions_line())
    print(f"{arguments.rounds} rounds of SynFlow at {arguments.compression:g}x, float64\n")
    print(
        f"{'model':10} {'input':>10} {'weights':>12} {'kept':>10} "
        f"{'seconds':>8} {'a round':>8} {'MB above idle':>14}",
        flush=True,
    )
    for name in arguments.models:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            one = pool.submit(measure, name, arguments.rounds, arguments.compression).result()
        print(
            f"{name:10} {'×'.join(map(str, MODELS[name])):>10} {one.weights:12,} {one.kept:10,} "
            f"{one.seconds:8.1f} {one.seconds / arguments.rounds:8.3f} {one.megabytes:14,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
