"""Prune a network at initialization, train it sparse, and report.

    tf-synflow-train --flagfile=configs/digits.cfg
    tf-synflow-train --flagfile=configs/cifar10_resnet20.cfg --compression=100 --scorer=magnitude

Flags after --flagfile override what it says.
"""

import datetime
from dataclasses import fields

from absl import flags

from tf_synflow import densities
from tf_synflow.cli import common
from tf_synflow.masks import select
from tf_synflow.targets import TARGETS
from tf_synflow.train import config as train_config
from tf_synflow.train import models

_DEFAULTS = train_config.TrainConfig()

flags.DEFINE_string(
    "data",
    _DEFAULTS.data,
    "Data set: 'digits' (part of scikit-learn, no download), or an image-classification set of "
    "TensorFlow Datasets such as 'mnist', 'cifar10', 'cifar100'.",
)
flags.DEFINE_string(
    "data_dir",
    _DEFAULTS.data_dir,
    "Folder that holds TensorFlow Datasets' sets, or takes the download; by default TFDS's own.",
)
flags.DEFINE_integer(
    "image_size",
    _DEFAULTS.image_size,
    "Side in pixels to resize images to; needed for sets whose images vary in size.",
)
flags.DEFINE_bool(
    "augment", _DEFAULTS.augment, "Crop and mirror training images (cifar10 and cifar100)."
)
flags.DEFINE_enum("model", _DEFAULTS.model, models.names(), "Network to train.")
flags.DEFINE_float(
    "width", _DEFAULTS.width, "Factor on the channels of every layer; 1 is the paper's network."
)
flags.DEFINE_float(
    "compression",
    _DEFAULTS.compression,
    "Prunable weights / kept weights: 100 keeps 1 %. 1 trains the dense network.",
)
flags.DEFINE_enum(
    "scorer", _DEFAULTS.scorer, train_config.SCORERS, "How weights are scored; low scores go."
)
flags.DEFINE_integer(
    "rounds",
    _DEFAULTS.rounds,
    "Rounds of scoring and masking; by default 100, or 1 for scorers that gain nothing by more.",
)
flags.DEFINE_enum(
    "schedule", _DEFAULTS.schedule, densities.KINDS, "How the density falls over the rounds."
)
flags.DEFINE_enum(
    "scope",
    _DEFAULTS.scope,
    select.SCOPES,
    "'global': all weights compete; 'layer': each tensor keeps the same share.",
)
flags.DEFINE_string(
    "structure",
    _DEFAULTS.structure,
    "Weights that stay or go together: '1x4', '1x16', '2x1', '4x1', 'channel', 'channel:16' for "
    "multiples of 16 channels, or '2:4'.",
)
flags.DEFINE_enum(
    "target",
    _DEFAULTS.target,
    TARGETS,
    "Prune only what this runtime computes faster for its zeros, in the structure it reads.",
)
flags.DEFINE_bool(
    "shrink",
    _DEFAULTS.shrink,
    "Train without the channels and units that nothing flows through: the same network, faster.",
)
flags.DEFINE_bool(
    "allow_collapse",
    _DEFAULTS.allow_collapse,
    "Train even if the masks leave no path from input to output.",
)
flags.DEFINE_integer("epochs", _DEFAULTS.epochs, "Passes over the training set.")
flags.DEFINE_integer(
    "batch_size", _DEFAULTS.batch_size, "Images in a batch, which all replicas share."
)
flags.DEFINE_enum(
    "optimizer",
    _DEFAULTS.optimizer,
    train_config.OPTIMIZERS,
    "'sgd' has Nesterov momentum 0.9; 'adamw' decouples weight decay from the gradient.",
)
flags.DEFINE_float("learning_rate", _DEFAULTS.learning_rate, "Learning rate at its highest.")
flags.DEFINE_enum(
    "lr_schedule",
    _DEFAULTS.lr_schedule,
    train_config.LEARNING_RATE_SCHEDULES,
    "'step': falls at --lr_drops; 'cosine': half a cosine to zero; 'constant'.",
)
flags.DEFINE_list(
    "lr_drops", list(_DEFAULTS.lr_drops), "Epochs after which the learning rate falls: 60,120."
)
flags.DEFINE_float("lr_drop_factor", _DEFAULTS.lr_drop_factor, "Factor of each fall.")
flags.DEFINE_float(
    "warmup_epochs", _DEFAULTS.warmup_epochs, "Epochs over which the learning rate rises from 0."
)
flags.DEFINE_float(
    "weight_decay",
    _DEFAULTS.weight_decay,
    "For sgd and adam λ of an L2 penalty λ/2·θ² on every trainable weight, as in the paper; for "
    "adamw decoupled.",
)
flags.DEFINE_integer(
    "steps_per_execution",
    _DEFAULTS.steps_per_execution,
    "Steps in one call of the compiled training function; more is faster for tiny networks.",
)
flags.DEFINE_enum(
    "mixed_precision",
    _DEFAULTS.mixed_precision,
    train_config.PRECISIONS,
    "Precision of the layers; the head and all variables are float32 under each.",
)
flags.DEFINE_enum(
    "strategy",
    _DEFAULTS.strategy,
    train_config.STRATEGIES,
    "'mirrored': all GPUs of this machine (tf.distribute.MirroredStrategy); 'multiworker': this "
    "same command on every worker that the environment variable TF_CONFIG names "
    "(MultiWorkerMirroredStrategy), with --output_dir on a disk they all see; the chief writes.",
)
flags.DEFINE_integer("seed", _DEFAULTS.seed, "Weights, masks, order and augmentation follow.")
flags.DEFINE_bool(
    "compare_dense", _DEFAULTS.compare_dense, "Train the dense twin too, for the table."
)
flags.DEFINE_bool("export", _DEFAULTS.export, "Write a TFLite file, run it and compare it.")

_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "New or empty folder for the run; by default one is made under runs/."
)
_RESUME = flags.DEFINE_bool(
    "resume", False, "Go on with the run in --output_dir after its last checkpoint."
)
_VERBOSE = flags.DEFINE_bool("verbose", True, "Show progress.")


def main() -> None:
    """Flags → one run → its report."""
    values = {field.name: flags.FLAGS[field.name].value for field in fields(_DEFAULTS)}
    values["lr_drops"] = tuple(_whole(drop) for drop in values["lr_drops"])
    config = train_config.TrainConfig(**values)
    output_dir = _OUTPUT_DIR.value or _new_folder(config)

    common.import_tensorflow()
    from tf_synflow.train import loop

    report = loop.run(config, output_dir, resume=_RESUME.value, verbose=_VERBOSE.value)
    if report is not None:  # which it is on workers other than the chief
        print(f"\n{report}")


def _new_folder(config: train_config.TrainConfig) -> str:
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return (
        f"runs/{config.data.replace('/', '_')}-{config.model}-{config.scorer}-"
        f"{config.compression:g}x-{time}"
    )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise common.usage_error("lr_drops", text, "whole epochs separated by commas") from None


def run() -> None:
    """Entry point of the console script."""
    common.run(main, __name__)


if __name__ == "__main__":
    run()
