"""tf_synflow: prune Keras models at initialization, train them sparse, ship them small.

    pruned = tf_synflow.prune_at_init(model, compression=100)
    pruned.compile(...)
    pruned.fit(...)
    final = tf_synflow.strip_pruning(pruned)
    report = tf_synflow.export_tflite(final, "model.tflite")

Names load on first use, so that importing the package imports neither TensorFlow nor a Keras.
"""

import importlib
from typing import Any

from tf_synflow import errors
from tf_synflow.version import __version__

_PUBLIC = {
    "prune_at_init": "tf_synflow.api",
    "score": "tf_synflow.api",
    "compute_masks": "tf_synflow.api",
    "apply_masks": "tf_synflow.api",
    "strip_pruning": "tf_synflow.inject",
    "masks_of": "tf_synflow.inject",
    "load_model": "tf_synflow.inject",
    "quantize_aware": "tf_synflow.inject.quantize",
    "Masks": "tf_synflow.masks.masks",
    "summary": "tf_synflow.report",
    "shrink": "tf_synflow.shrinking",
    "shrink_report": "tf_synflow.shrinking",
    "SynFlowPruningSchedule": "tf_synflow.schedule",
    "Scores": "tf_synflow.scores",
    "flow_rule": "tf_synflow.flow.rules",
    "export_tflite": "tf_synflow.export",
    "deployment_report": "tf_synflow.deployment.report",
    "benchmark": "tf_synflow.deployment.benchmark",
}
_MODULES = ("scores",)

__all__ = ["__version__", "errors", *_MODULES, *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"tf_synflow.{name}")
    else:
        raise AttributeError(f"module 'tf_synflow' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
