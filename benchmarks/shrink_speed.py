"""Times a training step of VGG-16: dense, masked, and masked and shrunk, in turns.

    python benchmarks/shrink_speed.py
    python benchmarks/shrink_speed.py --compressions 10 100 1000 --keras keras --batch 32
    python benchmarks/shrink_speed.py --structures weights channel

The models take turns step by step, so that whatever else the machine does meets all alike; read
the ratios of the medians. On a busy machine the time of the processor is the steadier one. A step
is one `train_on_batch` of SGD with momentum on random images.
"""

import argparse
import itertools
import statistics
import time
from typing import Any

from where import processor_line, versions_line

SHAPE, CLASSES = (32, 32, 3), 10


def step_of(keras: Any, model: Any, images: Any, labels: Any, jit: bool) -> Any:
    """One training step of a model, compiled and warmed up, as a function without arguments."""
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit,
    )

    def step() -> float:
        loss = model.train_on_batch(images, labels)
        return float(loss[0] if isinstance(loss, (list, tuple)) else loss)

    step()
    step()
    return step


def medians(steps: dict[str, Any], repeats: int) -> dict[str, tuple[float, float]]:
    """Median seconds of each step, on the clock and of the processor; all take turns."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            clock, processor = time.perf_counter(), time.process_time()
            step()
            seconds[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {
        name: tuple(map(statistics.median, zip(*values, strict=True)))
        for name, values in seconds.items()
    }


def main() -> None:
    """Prunes, shrinks, trains the models in turns and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keras", choices=("tf_keras", "keras"), default="tf_keras")
    parser.add_argument("--compressions", nargs="+", type=float, default=[100.0])
    parser.add_argument(
        "--structures",
        nargs="+",
        default=["weights"],
        help="what SynFlow removes at the same compression: 'weights' one by one, or a structure",
    )
    parser.add_argument(
        "--multiples", nargs="+", type=int, default=[1, 16], help="widths: multiples of these"
    )
    parser.add_argument(
        "--initializer", choices=("he_normal", "glorot_uniform"), default="he_normal"
    )
    parser.add_argument("--batch", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--jit", action="store_true", help="compile the steps with XLA")
    arguments = parser.parse_args()

    import numpy as np
    import tensorflow as tf
    from vgg16 import vgg16

    import tf_synflow
    from tf_synflow import compat

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras = compat.keras() if arguments.keras == "keras" else compat.tf_keras()
    random = np.random.RandomState(0)
    images = random.standard_normal((arguments.batch, *SHAPE)).astype("float32")
    labels = random.randint(0, CLASSES, arguments.batch)

    print(processor_line(arguments.threads))
    print(versions_line())
    print(
        f"VGG-16, {arguments.initializer}, {arguments.keras}, batch {arguments.batch}, "
        f"{arguments.repeats} steps each, in turns{', XLA' if arguments.jit else ''}\n"
    )
    dense = vgg16(keras, arguments.initializer)
    count = dense.count_params()
    steps = {"dense": step_of(keras, dense, images, labels, arguments.jit)}
    rows = [("dense", count, 0.0)]
    for compression, of in itertools.product(arguments.compressions, arguments.structures):
        pruned = tf_synflow.prune_at_init(
            vgg16(keras, arguments.initializer),
            compression,
            structure=None if of == "weights" else of,
            verbose=False,
        )
        what = f"{compression:g}x" if of == "weights" else f"{compression:g}x {of}"
        name = f"{what} masked"
        steps[name] = step_of(keras, pruned, images, labels, arguments.jit)
        rows.append((name, count, 0.0))
        for multiple in arguments.multiples:
            small = tf_synflow.shrink(pruned, multiple_of=multiple, verbose=False)
            name = f"{what} shrunk, {multiple}"
            after = tf_synflow.shrink_report(pruned, small).weights_after
            rows.append((name, after, _difference(pruned, small, images)))
            steps[name] = step_of(keras, small, images, labels, arguments.jit)
    seconds = medians(steps, arguments.repeats)
    print(
        f"{'model':24} {'weights':>12} {'ms a step':>10} {'dense / it':>11} "
        f"{'ms processor':>13} {'dense / it':>11} {'output differs':>15}"
    )
    for name, weights, difference in rows:
        clock, processor = seconds[name]
        print(
            f"{name:24} {weights:12,} {clock * 1e3:10.1f} {seconds['dense'][0] / clock:11.2f} "
            f"{processor * 1e3:13.1f} {seconds['dense'][1] / processor:11.2f} {difference:15.1e}"
        )


def _difference(one: Any, other: Any, images: Any) -> float:
    """The largest difference of two models' outputs, relative to the largest output."""
    import numpy as np

    first, second = (np.asarray(model(images, training=False)) for model in (one, other))
    return float(np.max(np.abs(first - second)) / np.max(np.abs(first)))


if __name__ == "__main__":
    main()
