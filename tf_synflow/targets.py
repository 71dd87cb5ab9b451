"""The targets: where an exported file shall run."""

from typing import Literal

from tf_synflow import errors

Target = Literal["cpu-x86", "cpu-arm", "wasm", "microcontroller"]

TARGETS = {
    "cpu-x86": "x86 CPU, LiteRT with XNNPACK",
    "cpu-arm": "ARM CPU, LiteRT with XNNPACK",
    "wasm": "WebAssembly, LiteRT.js with XNNPACK",
    "microcontroller": "microcontroller, LiteRT Micro (tflite-micro)",
}
"""The targets by name, and what stands behind each."""


def check_target(target: str) -> None:
    """`UnknownNameError` unless there is such a target."""
    if not isinstance(target, str) or target not in TARGETS:
        raise errors.UnknownNameError("target", target, TARGETS)
