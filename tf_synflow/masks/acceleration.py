"""Which weights a target's runtime computes faster for their zeros, and in which structure."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tf_synflow import errors
from tf_synflow.targets import Target, check_target

Shapes = Mapping[str, Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Acceleration:
    """What a runtime makes of zeros.

    Attributes:
      kernels: how they are called in messages.
      shape: of the kernels that gain, None for any size; without a shape any kernel.
      structure: in which the zeros must come, see `masks.structure`.
      above: sparsity of all of them together from which on the runtime uses it.
      scope: `"layer"` where every kernel has to be sparse to gain: what SynFlow would leave in
        the first layers is what takes the time, and sparse kernels are slow there.
      stem: whether the kernels gain only behind a stem of the kind that XNNPACK knows.
    """

    kernels: str
    shape: tuple[int | None, ...] | None
    structure: str | None
    above: float = 0.0
    scope: str | None = None
    stem: bool = False

    @property
    def lowest_compression(self) -> float:
        """Of all of these kernels together, from which on the runtime uses their zeros."""
        return 1 / (1 - self.above) * (1 + 1e-9) if self.above else 1.0

    def names(self, shapes: Shapes) -> list[str]:
        """The kernels that gain."""
        return [name for name, shape in shapes.items() if self._gains(name, tuple(shape))]

    def _gains(self, name: str, shape: tuple[int, ...]) -> bool:
        own = name.split("/")[-1]
        if self.shape is None:
            return own in ("kernel", "depthwise_kernel", "pointwise_kernel")
        return (
            own in ("kernel", "pointwise_kernel")
            and len(shape) == len(self.shape)
            and all(want in (None, size) for want, size in zip(self.shape, shape, strict=True))
        )


# XNNPACK's sparse 1x1 convolutions are switched off on x86 with AVX; there the sparse kernel of
# TFLite's own FULLY_CONNECTED is what gains. A microcontroller has neither: only what is removed
# in whole channels (`tf_synflow.shrink`) is not computed.
_XNNPACK = Acceleration(
    "1x1 convolutions", (1, 1, None, None), None, above=2 / 3, scope="layer", stem=True
)
OF_TARGET: dict[Target, Acceleration] = {
    "cpu-x86": Acceleration("dense layers", (None, None), "1x4"),
    "cpu-arm": _XNNPACK,
    "wasm": _XNNPACK,
    "microcontroller": Acceleration("kernels", None, "channel"),
}


def of_target(target: str, shapes: Shapes, compression: float) -> tuple[list[str], Acceleration]:
    """What to prune for a target: names of weights, and in which structure and scope.

    Args:
      target: `"cpu-x86"`, `"cpu-arm"`, `"wasm"` or `"microcontroller"`.
      shapes: of all weights of the model, by name.
      compression: asked for, of these weights.

    Raises:
      UnknownNameError: an unknown target.
      NoPrunableWeightsError: the model has no such kernels.
      QuantityError: too few zeros for the runtime to use them.
    """
    check_target(target)
    acceleration = OF_TARGET[target]
    names = acceleration.names(shapes)
    if not names:
        raise errors.NoPrunableWeightsError(
            f"target={target!r}: received no {acceleration.kernels} among the prunable weights; "
            "expected some, for those are what is pruned for it. Dense layers gain in blocks, "
            "structure='1x4'. Leave target= out to prune for size alone."
        )
    least = acceleration.lowest_compression
    if compression < least:
        raise errors.QuantityError(
            f"compression: received {compression:g} for target={target!r}; expected more than "
            f"{least:.4g}, for its runtime computes {acceleration.kernels} sparsely only when more "
            f"than {acceleration.above:.0%} of their weights, taken together, are zero."
        )
    return names, acceleration


def missing_stem(layers: Iterable[tuple[str, Any]]) -> str:
    """Why no 1x1 convolution of a model will run sparse, as far as its stem tells; or nothing.

    XNNPACK turns activations to NCHW, in which its sparse kernels compute, at a stem alone. What
    else a chain of ops needs, the deployment report reads from the exported file.

    Args:
      layers: of the model, by path.
    """
    stems = [(path, layer.padding) for path, layer in layers if _is_stem(layer)]
    if not stems:
        return "no layer of this model is a 3x3 convolution of stride 2 from 3 channels"
    path, padding = stems[0]
    if any(padding != "same" for _, padding in stems):
        return ""
    return f"its stem {path!r} has padding={padding!r}, uneven at stride 2"


def _is_stem(layer: Any) -> bool:
    kernel = getattr(layer, "kernel", None)
    return (
        kernel is not None
        and tuple(kernel.shape[:3]) == (3, 3, 3)
        and tuple(getattr(layer, "strides", ())) == (2, 2)
    )
