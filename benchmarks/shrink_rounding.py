"""What shrinking changes in the outputs of VGG-16, beside what float32 itself changes.

    python benchmarks/shrink_rounding.py
    python benchmarks/shrink_rounding.py --keras keras --structures weights channel

The same weights three times: masked in float32, shrunk in float32, masked in float64. Each number
is the largest difference of an output from another, of the largest output. Normalization has seen
its data, as after training.
"""

import argparse
import itertools

import numpy as np
from vgg16 import vgg16
from where import processor_line, versions_line


def main() -> None:
    """Prunes, shrinks, compares and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keras", nargs="+", choices=("tf_keras", "keras"), default=["tf_keras"])
    parser.add_argument("--compressions", nargs="+", type=float, default=[10.0, 100.0])
    parser.add_argument(
        "--structures", nargs="+", default=["weights"], help="'weights' one by one, or a structure"
    )
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=64, help="default: %(default)s")
    arguments = parser.parse_args()

    import tf_synflow
    from tf_synflow import compat
    from tf_synflow.train import models

    print(f"{processor_line()}\n{versions_line()}\n")
    titles = ("masked, shrunk", "masked, float64", "shrunk, float64")
    print(f"{'':36s}" + "".join(f"{title:>18s}" for title in titles))
    shape = (arguments.images, 32, 32, 3)
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for name, compression, structure in itertools.product(
        arguments.keras, arguments.compressions, arguments.structures
    ):
        keras = getattr(compat, name)()
        pruned = tf_synflow.prune_at_init(
            vgg16(keras),
            schedule=tf_synflow.SynFlowPruningSchedule(compression, arguments.rounds),
            structure=None if structure == "weights" else structure,
            verbose=False,
        )
        for _ in range(30):
            pruned(images, training=True)
        masked = tf_synflow.strip_pruning(pruned)
        exact = models.build(
            "vgg16_bn", input_shape=shape[1:], num_classes=10, keras=keras, dtype="float64"
        )
        exact.set_weights(masked.get_weights())
        small = tf_synflow.shrink(pruned, verbose=False)
        a, b, c = (
            np.asarray(model(images, training=False), np.float64)
            for model in (masked, small, exact)
        )
        differences = (np.abs(x - y).max() / np.abs(c).max() for x, y in ((a, b), (a, c), (b, c)))
        line = f"{name} {compression:g}x {structure}"
        print(f"{line:36s}" + "".join(f"{d:18.1e}" for d in differences), flush=True)


if __name__ == "__main__":
    main()
