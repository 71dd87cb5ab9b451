"""Times the selection over sharded scores, pass by pass, beside gathering them all.

    python benchmarks/sharded_selection.py
    python benchmarks/sharded_selection.py --scores 1000000 --devices 1 4 --repeats 9

Devices are virtual: all of them share the cores of this machine, so that times of more devices say
what a device costs and not what it gains; bytes are those of real devices. Each number of devices
runs in a process of its own. Ours and the gathering take turns; medians. Scores are log-normal
(sigma 4), spread over the magnitudes as SynFlow's are; all are left; one in ten is kept; both give
the same masks, which is checked. Writes docs/results/sharded_selection.csv.

- pass1 … pass4: seconds until the sum of a histogram is there; from the start, then from the last.
- rest: ties, and the masks.
- gathered: all scores concatenated in one place, and `masks.select` there; masks do not go back.
- cpu_…: the same in CPU seconds of all threads, which other processes disturb less.
- bytes_reduced: what a device hands to the all-reduces of a round; bytes_gathered: its scores.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import multiprocessing
import os
import pathlib
import platform
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGMA = 4
DENSITY = 0.1


def measure(counts: Sequence[int], devices: int, repeats: int) -> list[dict[str, Any]]:
    """The rows of one number of devices, in a process of its own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices)])
    return [_row(strategy, count, repeats) for count in counts]


def _row(strategy: Any, count: int, repeats: int) -> dict[str, Any]:
    import tensorflow as tf

    from tf_synflow.masks import sharding
    from tf_synflow.masks.select import select

    devices = strategy.num_replicas_in_sync
    cut = sharding.Sharding.even((count,), 0, devices)
    pieces = cut.cut(np.exp(SIGMA * np.random.default_rng(0).standard_normal(count)))

    def on_devices(make: Any) -> dict[str, Any]:
        def on_its_own(context: Any) -> tf.Tensor:
            replica = context.replica_id_in_sync_group
            with tf.device(strategy.extended.worker_devices[replica]):
                return tf.identity(make(pieces[replica]))

        return {"w": strategy.experimental_distribute_values_from_function(on_its_own)}

    scores = on_devices(tf.constant)
    masks = on_devices(lambda piece: tf.ones(piece.shape, tf.bool))
    everything = {"w": np.ones(count, bool)}
    local = strategy.experimental_local_results

    def gathered() -> np.ndarray:
        whole = np.concatenate([piece.numpy() for piece in local(scores["w"])])
        return select({"w": whole}, everything, DENSITY)["w"]

    sums: list[tuple[float, int]] = []
    with _recorded(sums):
        selection = sharding.Selection(strategy, {"w": cut})
        start = time.process_time()
        found = selection(scores, masks, DENSITY)["w"]
        first_call = time.process_time() - start
    np.testing.assert_array_equal(cut.join([piece.numpy() for piece in local(found)]), gathered())

    ours, theirs, cpu = [], [], []
    for _ in range(repeats):
        sums.clear()
        cpu_start, start = time.process_time(), time.perf_counter()
        selection(scores, masks, DENSITY)
        end, cpu_middle = time.perf_counter(), time.process_time()
        histograms = sorted(when for when, nbytes in sums if nbytes == 8 * sharding.BUCKETS)[:4]
        ours.append(np.diff([start, *histograms, end]))
        start = time.perf_counter()
        gathered()
        theirs.append(time.perf_counter() - start)
        cpu.append((cpu_middle - cpu_start, time.process_time() - cpu_middle))
    cpu_sharded, cpu_gathered = np.median(cpu, axis=0)
    *passes, rest = np.median(ours, axis=0)
    return {
        "scores": count,
        "devices": devices,
        **{f"pass{index}": round(seconds, 4) for index, seconds in enumerate(passes, 1)},
        "rest": round(rest, 4),
        "sharded": round(float(np.median(np.sum(ours, axis=1))), 4),
        "gathered": round(float(np.median(theirs)), 4),
        "cpu_sharded": round(cpu_sharded, 4),
        "cpu_gathered": round(cpu_gathered, 4),
        "bytes_reduced": sum(nbytes for _, nbytes in sums),
        "bytes_gathered": max(piece.nbytes for piece in pieces),
        "first_call_cpu_seconds": round(first_call, 1),
    }


@contextlib.contextmanager
def _recorded(sums: list[tuple[float, int]]) -> Iterator[None]:
    """Graphs that are made meanwhile note when a sum over the devices is there, and its bytes."""
    import tensorflow as tf

    from tf_synflow.masks import sharding

    def note(value: np.ndarray) -> np.ndarray:
        sums.append((time.perf_counter(), value.nbytes))
        return value

    def noted(value: tf.Tensor) -> tf.Tensor:
        total = plain(value)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        if tf.get_static_value(replica):
            return total
        return tf.ensure_shape(tf.numpy_function(note, [total], total.dtype), value.shape)

    plain, sharding._sum = sharding._sum, noted
    try:
        yield
    finally:
        sharding._sum = plain


def main() -> None:
    """Measures what is asked for; prints and writes a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [10**6, 10**7, 10**8]
    parser.add_argument("--scores", nargs="+", type=int, default=sizes, help="default: %(default)s")
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--out", default=str(ROOT / "docs/results/sharded_selection.csv"))
    arguments = parser.parse_args()

    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores that all devices share; load {os.getloadavg()}\n")
    rows: list[dict[str, Any]] = []
    for devices in arguments.devices:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            found = pool.submit(measure, arguments.scores, devices, arguments.repeats).result()
        for row in found:
            if not rows:
                print(" ".join(f"{name:>12}" for name in row))
            print(" ".join(f"{value:>12,}" for value in row.values()), flush=True)
            rows.append(row)
        with open(arguments.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(f"\nload {os.getloadavg()}")


if __name__ == "__main__":
    main()
