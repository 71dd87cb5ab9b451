"""What a shrunk model has less than the one it was made from, per layer."""

import dataclasses
from typing import Any

import numpy as np

from tf_synflow.flow import graph, weights


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
      name: path of the layer.
      kind: its class.
      units_before, units_after: channels, units or heads that it makes; 0 for a layer that is
        gone.
      weights_before, weights_after: entries of all its weights.
    """

    name: str
    kind: str
    units_before: int
    units_after: int
    weights_before: int
    weights_after: int


@dataclasses.dataclass(frozen=True)
class ShrinkReport:
    """What `shrink_report` found; `print` it, or read its rows.

    Attributes:
      rows: one for each layer with weights, in the order of the larger model.
    """

    rows: tuple[Row, ...]

    @property
    def weights_before(self) -> int:
        return sum(row.weights_before for row in self.rows)

    @property
    def weights_after(self) -> int:
        return sum(row.weights_after for row in self.rows)

    @property
    def gone(self) -> list[str]:
        """Names of the layers of which nothing is left."""
        return [row.name for row in self.rows if not row.weights_after]

    def to_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "weights_before": self.weights_before,
            "weights_after": self.weights_after,
            "gone": self.gone,
        }

    def table(self, *, all_layers: bool = True) -> str:
        """A line for each layer, or for each that has become smaller, and the totals."""
        rows = [r for r in self.rows if all_layers or r.weights_after < r.weights_before]
        if not rows:
            return f"nothing is dead: all {self.weights_before:,} weights stay"
        width = max(map(len, ("layer", *(row.name for row in rows))))
        kinds = max(map(len, ("kind", *(row.kind for row in rows))))
        head = (
            f"{'layer':{width}} {'kind':{kinds}} {'units':>7} {'left':>7} "
            f"{'weights':>12} {'left':>12}"
        )
        lines = [head, "-" * len(head)]
        lines += [
            f"{row.name:{width}} {row.kind:{kinds}} {row.units_before:7,} {row.units_after:7,} "
            f"{row.weights_before:12,} {row.weights_after:12,}"
            for row in rows
        ]
        times = self.weights_before / max(self.weights_after, 1)
        lines += [
            "-" * len(head),
            f"{'total':{width}} {'':{kinds}} {'':7} {'':7} {self.weights_before:12,} "
            f"{self.weights_after:12,}",
            f"{times:.4g} times fewer weights",
        ]
        if self.gone:
            lines.append(f"gone: {', '.join(self.gone)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def shrink_report(before: Any, after: Any) -> ShrinkReport:
    """Compares a model with what `shrink` made of it, layer by layer.

    Args:
      before, after: the two models, pruned or plain; layers are known by their names.

    Returns:
      A `ShrinkReport`; `print` shows it as a table.

    Raises:
      ModelError: not built models of a Keras.

    Example:
      >>> small = tf_synflow.shrink(pruned)
      >>> print(tf_synflow.shrink_report(pruned, small))
      >>> tf_synflow.shrink_report(pruned, small).weights_after
      16384
    """
    graph.check_model(before)
    graph.check_model(after)
    left = {name: (units, size) for name, _, units, size in _layers(after)}
    return ShrinkReport(
        tuple(
            Row(name, kind, units, left.get(name, (0, 0))[0], size, left.get(name, (0, 0))[1])
            for name, kind, units, size in _layers(before)
        )
    )


def _layers(model: Any) -> list[tuple[str, str, int, int]]:
    """(path, class, units, entries) of each layer that is called as one and has weights."""
    sizes = {name: weight.variable.shape for name, weight in weights.all_weights(model).items()}
    found, last = [], "/"
    for path, layer in weights.layers_of(model):
        if weights.is_model(layer) or path.startswith(last):
            continue
        last = f"{path}/"
        size = sum(int(np.prod(shape)) for name, shape in sizes.items() if name.startswith(last))
        if size:
            found.append((path, type(layer).__name__, _units(layer), size))
    return found


def _units(layer: Any) -> int:
    """The width of a layer: what it says of itself, or that of its last weight."""
    if hasattr(layer, "forward_layer"):
        return _units(layer.forward_layer) + _units(layer.backward_layer)
    if hasattr(layer, "layer"):  # TimeDistributed
        return _units(layer.layer)
    for attribute in ("filters", "units", "output_dim", "num_heads", "_num_heads"):
        if isinstance(getattr(layer, attribute, None), int):
            return getattr(layer, attribute)
    if hasattr(layer, "depth_multiplier"):  # a depthwise kernel: inputs, channels from each
        return int(np.prod(layer.weights[0].shape[-2:]))
    shape = tuple(layer.weights[-1].shape)
    return int(shape[-1]) if shape else 1
