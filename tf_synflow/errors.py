"""Typed errors: each says what came, what was expected and how to mend it.

Every error derives from `TfSynflowError`, and from the built-in exception that a caller who has
never heard of this package would catch (`ValueError`, `TypeError`, `OSError`, ...).
"""

import difflib
from collections.abc import Iterable


class TfSynflowError(Exception):
    """Base of all errors raised on purpose by tf_synflow."""


class QuantityError(TfSynflowError, ValueError):
    """A compression, density, sparsity or number of rounds outside its range."""


class UnknownNameError(TfSynflowError, ValueError):
    """A name (scorer, scope, schedule, model, data set, ...) that is not registered."""

    def __init__(self, kind: str, received: object, known: Iterable[str]):
        known = sorted(known)
        close = _closest(str(received), known)
        super().__init__(
            f"Unknown {kind}: received {received!r}; expected one of {', '.join(known)}."
            + (f" Did you mean {close}?" if close else "")
        )


class ModelError(TfSynflowError, ValueError):
    """A model that cannot be pruned as it is: not built, unknown input shape, another kind."""


class UnsupportedLayerError(ModelError):
    """A layer or op without a flow rule."""


class NoPrunableWeightsError(ModelError):
    """No weight of the model is prunable."""


class WeightsError(ModelError):
    """Weights that cannot be scored: non-finite, or a whole tensor of zeros."""


class ScoreError(TfSynflowError, ValueError):
    """Scores that cannot be ranked: non-finite, or a whole tensor of zeros."""


class MaskError(TfSynflowError, ValueError):
    """Masks that do not fit: wrong names, shapes or values, or a model that is already pruned."""


class MaskFileError(MaskError):
    """A mask file that is truncated, of another schema, or not a mask file."""


class LayerCollapseError(TfSynflowError, ValueError):
    """The masks leave no flow from input to output: the network could not learn anything."""


class ShrinkError(TfSynflowError, RuntimeError):
    """A shrunk model that does not compute what the given one computes."""


class DependencyError(TfSynflowError, ImportError):
    """A package is missing, or its version does not fit."""


class DataError(TfSynflowError, ValueError):
    """A data set that is missing, incomplete or not an image-classification set."""


class OutputError(TfSynflowError, OSError):
    """An output path that cannot be written, or that holds something else already."""


class ClusterError(TfSynflowError, RuntimeError):
    """Workers that cannot start or go on together: TF_CONFIG, or folders that differ."""


class BudgetError(TfSynflowError, ValueError):
    """A budget of bytes, FLOPs or milliseconds that no compression meets; says the nearest."""


class ExportError(TfSynflowError, RuntimeError):
    """An exported file that does not compute what the Keras model computes.

    Attributes:
      reason: what came and what was expected; all that is worth a note where another file was
        written.
      advice: what to do about it.
    """

    def __init__(self, reason: str, advice: str = ""):
        super().__init__(f"{reason} {advice}" if advice else reason)
        self.reason, self.advice = reason, advice


def _closest(received: str, known: list[str]) -> str | None:
    """The name that was meant, by all appearance: `cpu-arm` for `arm`, `int8` for `INT8`."""
    names = {name.lower(): name for name in known}
    received = received.lower()
    within = [name for name in names if received and received in name]
    close = within or difflib.get_close_matches(received, names, n=1)
    return names[close[0]] if len(close) == 1 else None


def first_line(error: BaseException) -> str:
    """What an exception of others says first, to be quoted in one of ours."""
    return next(iter(str(error).strip().splitlines()), "no message")[:300]
