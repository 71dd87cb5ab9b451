"""Which weights a target's runtime computes faster for their zeros, and in which structure."""

import dataclasses
from collections.abc import Mapping, Sequence

from tf_synflow import errors

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
    """

    kernels: str
    shape: tuple[int | None, ...] | None
    structure: str | None
    above: float = 0.0
    scope: str | None = None

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
_XNNPACK = Acceleration("1x1 convolutions", (1, 1, None, None), None, above=2 / 3, scope="layer")
TARGETS = {
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
    if target not in TARGETS:
        raise errors.UnknownNameError("target", target, TARGETS)
    acceleration = TARGETS[target]
    names = acceleration.names(shapes)
    if not names:
        raise errors.NoPrunableWeightsError(
            f"target={target!r}: received a model without {acceleration.kernels}; expected some, "
            "for only those gain from zeros there. Leave target= out to prune for size alone."
        )
    least = 1 / (1 - acceleration.above)
    if acceleration.above and compression <= least * (1 + 1e-9):
        raise errors.QuantityError(
            f"compression: received {compression:g} for target={target!r}; expected more than "
            f"{least:.4g}, for its runtime computes {acceleration.kernels} sparsely only when more "
            f"than {acceleration.above:.0%} of their weights, taken together, are zero."
        )
    return names, acceleration
