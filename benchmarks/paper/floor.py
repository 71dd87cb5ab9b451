"""The time that no exact method is likely to beat: what a round cannot do without, at full speed.

Of a round that finds n weights alive, n_l of them in layer l:

- 3 products (the layer, the gradient of its input, the gradient of its kernel) of n_l
  multiplications at each of the layer's distinct positions, at the rate of a matrix product;
- 3 readings of the n weights (forward, backward, score), at the bandwidth of a copy;
- one partition of the n scores.

The image is all ones, so that a feature map holds few distinct rows and columns: only a window
that reaches the border, or meets such a window below, differs from its neighbour. All rates are
those of float32, measured on the spot.
"""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SIDE = 2048
COPIED_BYTES = 2**28
PARTITIONED = 2**23
BYTES = 4


class Rates(NamedTuple):
    """Multiplications, bytes read or written, and scores partitioned, each a second."""

    multiplications: float
    bytes: float
    partitioned: float


def measure(threads: int) -> Rates:
    """The best of a few, of all threads together; the BLAS was told their number before."""
    rng = np.random.default_rng(0)
    one, other = rng.random((2, SIDE, SIDE), np.float32)
    sources = rng.random((threads, COPIED_BYTES // BYTES // threads), np.float32)
    targets = np.zeros_like(sources)  # written once, so that its pages are there
    scores = rng.random((threads, PARTITIONED), np.float32)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(np.copyto, targets, sources))

        def partition() -> None:
            # A round of 100 removes about a twentieth of what it finds, see densities.
            list(pool.map(lambda each: np.partition(each, PARTITIONED // 20), scores))

        return Rates(
            SIDE**3 / _shortest(lambda: one @ other),
            2 * COPIED_BYTES / _shortest(copy),
            scores.size / _shortest(partition),
        )


def _shortest(work: Callable[[], Any], times: int = 4) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def seconds_a_round(
    alive: Sequence[Mapping[str, float]], positions: Mapping[str, int], rates: Rates
) -> float:
    """The mean over rounds.

    Args:
      alive: of each round, how many weights of each layer it finds.
      positions: by layer, see `positions_of`.
      rates: of this machine.
    """
    total = 0.0
    for layers in alive:
        weights = sum(layers.values())
        products = 3 * sum(count * positions[name] for name, count in layers.items())
        total += products / rates.multiplications
        total += 3 * BYTES * weights / rates.bytes
        total += weights / rates.partitioned
    return total / len(alive)


def alive_at(
    densities: Sequence[float], known: Mapping[float, Mapping[str, int]]
) -> list[dict[str, float]]:
    """Weights of each layer at some densities, from those known at others: linear in its logarithm.

    Args:
      densities: where they are wanted.
      known: weights of each layer by density.
    """
    at = sorted(known)
    layers = {
        name: np.interp(np.log(densities), np.log(at), [known[density][name] for density in at])
        for name in known[at[0]]
    }
    return [
        {name: float(counts[i]) for name, counts in layers.items()} for i in range(len(densities))
    ]


def positions_of(nodes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many positions of each layer's output differ for an image of ones.

    Per axis every position has a class: all one at the input; after a window, what the window sees.

    Args:
      nodes: see `networks.nodes_of`.
    """
    positions: dict[str, int] = {}
    classes: dict[str, list[list[int]]] = {}
    for node in nodes:
        if node["op"] == "InputLayer":
            axes = [[0] * length for length in node["shape"][:2]]
        elif node["op"] in ("Dense", "Flatten", "GlobalAveragePooling2D"):
            axes = [[0], [0]]
        elif node["op"] in ("Conv2D", "MaxPooling2D"):
            windows = zip(node["size"], node["stride"], node["padding"], strict=True)
            below = classes[node["inputs"][0]]
            axes = [_seen(axis, *window) for axis, window in zip(below, windows, strict=True)]
        else:
            of_inputs = zip(*(classes[name] for name in node["inputs"]), strict=True)
            axes = [_numbered(list(zip(*axis, strict=True))) for axis in of_inputs]
        classes[node["name"]] = axes
        positions[node["name"]] = len(set(axes[0])) * len(set(axes[1]))
    return positions


def _seen(axis: list[int], size: int, stride: int, padding: tuple[int, int]) -> list[int]:
    padded = [-1] * padding[0] + axis + [-1] * padding[1]
    starts = range(0, len(padded) - size + 1, stride)
    return _numbered([tuple(padded[start : start + size]) for start in starts])


def _numbered(windows: list[tuple[int, ...]]) -> list[int]:
    numbers = {window: number for number, window in enumerate(dict.fromkeys(windows))}
    return [numbers[window] for window in windows]
