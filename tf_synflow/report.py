"""What masks leave of a network: per layer and in all, and whether anything still flows."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import inject
from tf_synflow.flow.network import Network
from tf_synflow.flow.weights import Prunable, wrappers
from tf_synflow.scores import SynFlow


@dataclasses.dataclass(frozen=True)
class Row:
    """One prunable weight.

    Attributes:
      name: of the weight, `conv1/kernel`.
      shape: of the weight.
      size: number of its entries.
      kept: entries that are not pruned; in a model without wrappers, those that are not zero.
      effective: entries on some path of kept weights from input to output.
      flops: 2 · kept · positions at which the layer applies them, for one example, padding
        included; `dense_flops` the same with nothing pruned.
      log2_score: log2 of the sum of its SynFlow scores, −inf where there is none. A sum itself
        leaves float64 in a deep network.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    kept: int
    effective: int
    flops: int
    dense_flops: int
    log2_score: float

    @property
    def density(self) -> float:
        return self.kept / self.size

    @property
    def effective_density(self) -> float:
        return self.effective / self.size

    @property
    def score_sum(self) -> float:
        """Sum of the SynFlow scores; infinite or zero where float64 cannot hold it."""
        return float(np.exp2(self.log2_score))


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `summary` found; `print` it, or read its rows.

    Attributes:
      rows: one for each prunable weight, in the model's order.
      flow_left: whether any path of kept weights leads from input to output.
      dead_outputs, dead_inputs: those of several that no such path leads to, or from.
    """

    rows: tuple[Row, ...]
    flow_left: bool
    dead_outputs: tuple[str, ...] = ()
    dead_inputs: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(row.size for row in self.rows)

    @property
    def kept(self) -> int:
        return sum(row.kept for row in self.rows)

    @property
    def effective(self) -> int:
        return sum(row.effective for row in self.rows)

    @property
    def flops(self) -> int:
        return sum(row.flops for row in self.rows)

    @property
    def dense_flops(self) -> int:
        return sum(row.dense_flops for row in self.rows)

    @property
    def density(self) -> float:
        return self.kept / self.size

    @property
    def effective_density(self) -> float:
        return self.effective / self.size

    @property
    def compression(self) -> float:
        return self.size / self.kept if self.kept else float("inf")

    @property
    def empty_layers(self) -> list[str]:
        """Names of the weights that are pruned away entirely."""
        return [row.name for row in self.rows if not row.kept]

    @property
    def collapsed(self) -> bool:
        """Layer-collapse: no flow is left. An empty shortcut of a residual network is none."""
        return not self.flow_left

    def to_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        rows = [{**dataclasses.asdict(row), "shape": list(row.shape)} for row in self.rows]
        for row in rows:
            if not np.isfinite(row["log2_score"]):  # JSON has no infinity
                row["log2_score"] = None
        return {
            "rows": rows,
            "size": self.size,
            "kept": self.kept,
            "density": self.density,
            "compression": self.compression if self.kept else None,
            "effective_density": self.effective_density,
            "flops": self.flops,
            "dense_flops": self.dense_flops,
            "empty_layers": self.empty_layers,
            "flow_left": self.flow_left,
            "dead_outputs": list(self.dead_outputs),
            "dead_inputs": list(self.dead_inputs),
        }

    def __str__(self) -> str:
        width = max(len("weight"), *(len(row.name) for row in self.rows))
        head = (
            f"{'weight':{width}} {'shape':>14} {'kept':>12} {'of':>12} {'density':>9} "
            f"{'effective':>9} {'MFLOPs':>9} {'log2 score':>10}"
        )
        lines = [head, "-" * len(head)]
        for row in self.rows:
            shape = "×".join(map(str, row.shape))
            lines.append(
                f"{row.name:{width}} {shape:>14} {row.kept:12,} {row.size:12,} "
                f"{row.density:9.4g} {row.effective_density:9.4g} {row.flops / 1e6:9.3f} "
                f"{row.log2_score:10.2f}"
            )
        lines.append("-" * len(head))
        lines.append(
            f"{'total':{width}} {'':>14} {self.kept:12,} {self.size:12,} {self.density:9.4g} "
            f"{self.effective_density:9.4g} {self.flops / 1e6:9.3f}"
        )
        lines.append(
            f"compression {self.compression:.6g}×, FLOPs {self.flops / 1e6:.3f} M of "
            f"{self.dense_flops / 1e6:.3f} M"
        )
        if self.empty_layers:
            lines.append(f"empty: {', '.join(self.empty_layers)}")
        lines.append(
            "flow is left from input to output"
            if self.flow_left
            else "LAYER-COLLAPSE: no flow is left from input to output; this network cannot learn"
        )
        if self.dead_outputs:
            lines.append(f"NO FLOW TO {', '.join(self.dead_outputs)}: outputs that cannot learn")
        if self.dead_inputs:
            lines.append(f"NO FLOW FROM {', '.join(self.dead_inputs)}: inputs that are ignored")
        return "\n".join(lines)


def summary(model: Any, prunable: Prunable = None, *, input_shape: Any = None) -> Summary:
    """Densities, FLOPs and flow of a model, layer by layer.

    Args:
      model: built model of either Keras: pruned, stripped or dense. In a model without pruning
        wrappers, an entry that is zero counts as pruned.
      prunable, input_shape: which weights to report, and for which size of input, see
        `prune_at_init`.

    Returns:
      A `Summary`; `print` shows it as a table.

    Raises:
      ModelError: a model that cannot be walked.

    Example:
      >>> print(tf_synflow.summary(pruned))
    """
    network = Network(model, prunable, input_shape)
    masks = _masks(model, network)
    positions = _positions(network, masks)
    on_path = network.on_path(masks)
    effective = {name: int(np.count_nonzero(mask)) for name, mask in on_path.items()}
    scores = SynFlow().bind(network)(masks)
    rows = []
    for name, mask in masks.items():
        kept = int(np.count_nonzero(mask))
        with np.errstate(divide="ignore"):
            log2_score = float(np.log2(np.sum(scores[name]))) + scores.log2_scale
        rows.append(
            Row(
                name=name,
                shape=tuple(mask.shape),
                size=mask.size,
                kept=kept,
                effective=effective[name],
                flops=2 * kept * positions[name],
                dense_flops=2 * mask.size * positions[name],
                log2_score=log2_score,
            )
        )
    dead = map(tuple, network.dead_ends(masks))
    return Summary(tuple(rows), network.has_flow(masks), *dead)


def _masks(model: Any, network: Network) -> dict[str, np.ndarray]:
    masks = {name: value != 0 for name, value in network.prunable_values().items()}
    if wrappers(model):
        masks.update({n: m for n, m in inject.masks_of(model).items() if n in masks})
    return masks


def _positions(network: Network, masks: dict[str, np.ndarray]) -> dict[str, int]:
    """At how many positions of one example's feature map each weight is applied, over all calls."""
    by_layer: dict[int, int] = {}

    def observe(layer: Any, output: Any) -> None:
        by_layer[id(layer)] = by_layer.get(id(layer), 0) + _applications(layer, output)

    network.outputs(network.paths(masks), observe)
    return {name: by_layer.get(id(network.weights[name].layer), 0) for name in masks}


def _applications(layer: Any, output: Any) -> int:
    """How often each weight of a layer is applied in one call of it, by the call's output."""
    first = tf.nest.flatten(output)[0]
    shape = list(getattr(first, "shape", ()))
    if any(base.__name__ == "Embedding" for base in type(layer).__mro__):
        # A lookup multiplies nothing; the same table the other way round is a dense layer.
        return int(np.prod(shape[:-1])) if shape[-1] == layer.input_dim else 0
    if hasattr(layer, "equation"):  # EinsumDense: over the axes that the kernel does not have
        inputs, result = layer.equation.split("->")
        result = result.removeprefix("...").rjust(len(shape), ".")
        kernel = inputs.split(",")[1]
        return int(
            np.prod([n for n, axis in zip(shape, result, strict=True) if axis not in kernel])
        )
    if getattr(layer, "data_format", None) == "channels_first":
        shape = [shape[0], *shape[2:], shape[1]]
    count = int(np.prod(shape[:-1]))
    if "Transpose" in type(layer).__name__:  # applied at its inputs
        count //= int(np.prod(layer.strides))
    return count
