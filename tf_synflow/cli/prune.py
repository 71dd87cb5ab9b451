"""Prune a saved model at initialization, without data.

    tf-synflow-prune --model=model.keras --compression=100 --output=pruned.keras

Writes the pruned model, ready for `tf_synflow.load_model` and `fit`, and its masks.
"""

from pathlib import Path

from absl import flags

from tf_synflow import densities
from tf_synflow.cli import common, model_files
from tf_synflow.masks import select
from tf_synflow.targets import TARGETS
from tf_synflow.train import config as train_config

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Saved model of either Keras: a .keras or .h5 file or a SavedModel folder.",
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where the pruned model goes: .keras, .h5, or a folder.", required=True
)
_MASKS = flags.DEFINE_string(
    "masks", None, "Where the masks go; by default the output's name with .masks.npz."
)
_COMPRESSION = flags.DEFINE_float(
    "compression", 100.0, "Prunable weights / kept weights: 100 keeps 1 %."
)
_SCORER = flags.DEFINE_enum(
    "scorer", "synflow", train_config.SCORERS, "How weights are scored; low scores go."
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", None, "Rounds; by default 100, or 1 for scorers that gain nothing by more."
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule", "exponential", densities.KINDS, "How the density falls over the rounds."
)
_SCOPE = flags.DEFINE_enum(
    "scope",
    "global",
    select.SCOPES,
    "'global': all weights compete; 'layer': each tensor keeps the same share.",
)
_PRUNABLE = flags.DEFINE_list(
    "prunable", None, "Patterns of weight names, 'conv*/kernel'; by default kernels and embeddings."
)
_STRUCTURE = flags.DEFINE_string(
    "structure",
    None,
    "Weights that stay or go together: '1x4', '1x16', '2x1', '4x1', 'channel', 'channel:16' for "
    "multiples of 16 channels, or '2:4'.",
)
_TARGET = flags.DEFINE_enum(
    "target",
    None,
    TARGETS,
    "Prune only what this runtime computes faster for its zeros, in the structure it reads.",
)
_SEED = flags.DEFINE_integer("seed", None, "Seed of scorers that draw random numbers.")
_ALLOW_COLLAPSE = flags.DEFINE_bool(
    "allow_collapse", False, "Write the model even if no path is left from input to output."
)
_VERBOSE = flags.DEFINE_bool("verbose", True, "Show progress.")


def main() -> None:
    """Flags → pruned model and masks."""
    output = _OUTPUT.value
    masks_path = _MASKS.value or str(Path(output).with_suffix(".masks.npz"))
    model_files.check_free(output, model_files.SUFFIXES)
    model_files.check_free(masks_path, (".npz",))

    common.import_tensorflow()
    import tf_synflow
    from tf_synflow import inject
    from tf_synflow.train.pruning_schedule import make_schedule

    model = model_files.load(_MODEL.value)
    inject.prepared(model)  # what cannot be wrapped is refused before the rounds, not after them
    schedule = make_schedule(_COMPRESSION.value, _SCORER.value, _ROUNDS.value, _SCHEDULE.value)
    masks = tf_synflow.compute_masks(
        model,
        _COMPRESSION.value,
        scorer=_SCORER.value,
        schedule=schedule,
        scope=_SCOPE.value,
        prunable=_PRUNABLE.value,
        structure=_STRUCTURE.value,
        target=_TARGET.value,
        seed=_SEED.value,
        verbose=_VERBOSE.value,
    )
    pruned = tf_synflow.apply_masks(model, masks, allow_collapse=_ALLOW_COLLAPSE.value)
    model_files.save(pruned, output)
    masks.save(masks_path)
    print(f"{tf_synflow.summary(pruned)}\n\nPruned model: {output}\nMasks: {masks_path}")


def run() -> None:
    """Entry point of the console script."""
    common.run(main, __name__)


if __name__ == "__main__":
    run()
