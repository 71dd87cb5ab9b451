"""What a round of SynFlow costs a weight, on dense layers: the rates behind docs/scale.md.

    python benchmarks/score_rate.py
    python benchmarks/score_rate.py --units 4096 --layers 4

Medians; CPU time is that of all threads, which other processes disturb less than wall time.
"""

import argparse
import os
import time

import numpy as np


def main() -> None:
    """Prints a line for each dtype, and one for the partition that selects."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=2048, help="default: %(default)s")
    parser.add_argument("--layers", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from tf_synflow.flow.network import Network
    from tf_synflow.masks.select import select
    from tf_synflow.scores import SynFlow

    keras.utils.set_random_seed(0)
    dense = [keras.layers.Dense(arguments.units, "relu") for _ in range(arguments.layers)]
    network = Network(keras.Sequential([keras.Input((arguments.units,)), *dense]))
    masks = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    print(f"{network.size:,} weights, load {os.getloadavg()}")
    print(f"{'':20} {'wall ns':>8} {'CPU ns':>8}   a weight")

    def timed(what: str, function, *args):
        result = function(*args)
        wall, cpu = [], []
        for _ in range(arguments.repeats):
            start = time.perf_counter(), time.process_time()
            function(*args)
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
        rates = (np.median(times) / network.size * 1e9 for times in (wall, cpu))
        print(f"{what:20} {next(rates):8.1f} {next(rates):8.1f}", flush=True)
        return result

    for dtype in ("float32", "float64"):
        scores = timed(f"score, {dtype}", SynFlow(dtype).bind(network), masks)
    timed("select, all left", select, scores, masks, 0.9)


if __name__ == "__main__":
    main()
