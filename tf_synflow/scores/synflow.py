"""SynFlow: the flow through a weight, without data (Tanaka et al. 2020, equation 6)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow.kernel import MatrixKernel
from tf_synflow.flow.network import Network
from tf_synflow.flow.weights import is_additive
from tf_synflow.flow.windows import Windows
from tf_synflow.masks.cut import TiledScores
from tf_synflow.masks.survivors import Survivors
from tf_synflow.scores.scorer import Scorer, Scores

DTYPES = ("float64", "float32")

# Scores of a tile: one megabyte in float64, what a cache holds.
_TILE = 2**17

# Infinity and NaN are found in the scores, and said there.
_UNCHECKED = np.errstate(over="ignore", invalid="ignore")


class SynFlow(Scorer):
    """score = θ ⊙ ∂R/∂θ with R = 1ᵀ(∏|θ|)1, on the masked network of |θ|.

    R is the sum of the outputs for one input of ones, with the absolute value of everything the
    model holds (weights, biases, γ, β, moving mean and variance), in inference mode.

    Args:
      dtype: `"float64"`, whatever the model's own dtype; `"float32"` halves time and memory but
        cannot tell near-ties, so that two runs may keep different weights.

    Example:
      >>> tf_synflow.score(model, scorer=SynFlow(dtype="float32"))
    """

    name = "synflow"
    single_shot = False

    def __init__(self, dtype: str = "float64"):
        if dtype not in DTYPES:
            raise errors.UnknownNameError("dtype of SynFlow", dtype, DTYPES)
        self.dtype = dtype

    def bind(self, network: Network) -> "SynapticFlow":
        return SynapticFlow(network, self.dtype)

    def get_config(self) -> dict:
        return {"dtype": self.dtype}


class SynapticFlow:
    """The flow through one network, traced once, whatever is left of its weights.

    ∂R/∂θ of a kernel is a product of two small factors, Σ inputsᵀ·signals over the positions that
    it is applied at: the flow that arrives at it, and the gradient of R by what leaves it. The
    graph gives the factors, and a score is made from them where it is looked at.

    Args:
      network: whose model must stay as it is while this is used.
      dtype: of the scores.
    """

    def __init__(self, network: Network, dtype: str = "float64"):
        self._network, self._dtype = network, dtype
        self._survivors: dict[str, Survivors] = {}
        self._windows: dict[str, list[Windows | None]] = {}
        self.restart()
        self._trace()

    def __call__(self, masks: Mapping[str, np.ndarray]) -> Scores:
        """The scores of all weights on the network of those that masks leave."""
        self.restart(masks)
        tensors, log2_scale = self.factors()
        return Scores({one.name: one.all() for one in tensors}, log2_scale)

    def restart(self, masks: Mapping[str, np.ndarray] | None = None) -> None:
        """Reads the prunable weights again, and removes those that masks, by name, do not keep."""
        for name in self._network.prunable:
            before, mask = self._survivors.get(name), None if masks is None else masks[name]
            if mask is None and before is not None and before.count == before.size:
                continue  # as it was; a second copy of all weights would be the peak of memory
            value = self._network.weights[name].variable.numpy()
            # float32 holds every smaller type; a copy in float64 would double the memory.
            held = np.float64 if value.dtype == np.float64 == self._dtype else np.float32
            value = np.abs(value.astype(held, copy=False))
            if before is None:
                self._survivors[name] = Survivors(value, mask)
            else:
                before.restart(value, mask)

    def factors(self) -> tuple[list["Factors"], float]:
        """The scores of the weights that are left, and the exponent of their common scale."""
        found, log2_scale = self._flow(tf.ones([], self._dtype), self._fixed)
        found = tf.nest.map_structure(lambda tensor: tensor.numpy(), found)
        tensors = []
        for name, survivors in self._survivors.items():
            rows, signals, gradients = found[name]
            inputs = [
                own if windows is None else windows.patches(own)
                for own, windows in zip(rows, self._windows[name], strict=True)
            ]
            tensors.append(Factors(name, survivors, inputs, signals, gradients))
        return tensors, float(log2_scale)

    def masks(self) -> dict[str, np.ndarray]:
        """Which weights are left, by name."""
        return {name: one.full_mask() for name, one in self._survivors.items()}

    def _trace(self) -> None:
        network, dtype = self._network, tf.as_dtype(self._dtype)
        # Fed, for TensorFlow never forgets a graph with custom gradients, nor what it captures.
        self._fixed = {}
        for name, weight in network.weights.items():
            if name not in self._survivors:
                value = np.abs(weight.value())
                if np.any(value) or not is_additive(name):
                    self._fixed[name] = tf.constant(value, dtype)
        absent = {
            name
            for name, one in self._survivors.items()
            if is_additive(name) and not np.any(one.values)
        }

        def flow(one: tf.Tensor, fixed: dict[str, tf.Tensor]) -> tuple[dict, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(one)
                kernels = {
                    name: MatrixKernel(survivors, one, tape)
                    for name, survivors in self._survivors.items()
                    if name not in absent
                }
                total = network({**fixed, **kernels}, one)
            products = {name: kernel.products for name, kernel in kernels.items()}
            dense = {name: k.tensor for name, k in kernels.items() if k.tensor is not None}
            signals, gradients = tape.gradient(
                total.value,
                ({name: [one.output for one in own] for name, own in products.items()}, dense),
                output_gradients=one,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            found = {}
            for name in self._survivors:
                own = products.get(name, [])
                rows = [product.rows for product in own]
                self._windows[name] = [product.windows for product in own]
                gradient = [gradients[name]] if name in gradients else []
                found[name] = (rows, signals.get(name, []), gradient)
            return found, total.log2_scale

        # One trace a network, kept as such: TensorFlow warns of a tf.function that is made anew.
        self._flow = tf.function(flow, autograph=False).get_concrete_function(
            tf.TensorSpec([], dtype),
            {name: tf.TensorSpec(value.shape, dtype) for name, value in self._fixed.items()},
        )


class Factors(TiledScores):
    """The scores of one weight: |θ| ⊙ Σ inputsᵀ·signals.

    None of the factors is below zero as a rule, and then a sum of products in float32 is near the
    true one: by less than one part in 2^24 for each operation. Tiles are made so, at half the cost,
    and what is too near the threshold is scored in float64.

    Args:
      name: of the weight.
      survivors: what is left of it.
      inputs: the rows (n, inputs) that it is multiplied with, one array a product.
      signals: for each of them the gradient (n, outputs) of R by what it gives.
      gradients: of R by the weight itself, in its shape, where it is used otherwise; one or none.
    """

    def __init__(
        self,
        name: str,
        survivors: Survivors,
        inputs: Sequence[np.ndarray],
        signals: Sequence[np.ndarray],
        gradients: Sequence[np.ndarray],
    ):
        self.name, self.survivors = name, survivors
        self._inputs = _joined([survivors.inputs(rows) for rows in inputs])
        self._signals = _joined([survivors.outputs(rows) for rows in signals])
        self._gradient = survivors.live(gradients[0]) if gradients else None
        self._near: tuple[np.ndarray, np.ndarray] | None = None
        self.unit, self.error = 1.0, 0.0
        factors = [factor for factor in (self._inputs, self._signals) if factor is not None]
        self._finite = all(np.isfinite(f.sum()) for f in (*factors, *gradients))
        if (
            self._finite
            and self._gradient is None
            and factors
            and all(f.dtype == np.float64 and f.size and f.min() >= 0 and f.max() for f in factors)
            and survivors.values.dtype == np.float32
        ):
            exponents = [int(np.frexp(factor.max())[1]) for factor in factors]
            self._near = tuple(
                np.ldexp(factor, -exponent).astype(np.float32)
                for factor, exponent in zip(factors, exponents, strict=True)
            )
            self.unit = float(np.ldexp(1.0, sum(exponents)))
            self.error = (len(self._inputs) + 8) * 2.0**-24

    @property
    def can_be_ranked(self) -> bool:
        """Whether the scores are finite, and not all zero while no weight is removed."""
        if not self._finite:
            return False
        return self.flows or self.survivors.count < self.survivors.size or is_additive(self.name)

    @property
    def flows(self) -> bool:
        """Whether there is a score above zero, unless all are that zeros of θ itself make so."""
        if self._gradient is not None and self._gradient.any():
            return True
        # None is below zero: a score is there where some position has both an input and a signal.
        return self._inputs is not None and bool(
            (self._inputs.any(axis=1) & self._signals.any(axis=1)).any()
        )

    def exactly(self) -> None:
        self._near, self.unit, self.error = None, 1.0, 0.0

    def tiles(self, part: slice) -> Iterator[tuple[slice, np.ndarray]]:
        columns = self.survivors.values.shape[1]
        dtype = np.float32 if self._near else self._dtype
        step = min(max(1, _TILE // max(columns, 1)), part.stop - part.start)
        buffer = np.empty((step, columns), dtype)
        for start in range(part.start, part.stop, max(step, 1)):
            chosen = slice(start, min(start + step, part.stop))
            yield chosen, self._scores(chosen, buffer[: chosen.stop - start])

    @_UNCHECKED
    def at(self, places: np.ndarray) -> np.ndarray:
        rows, columns = np.divmod(places, self.survivors.values.shape[1])
        gradient = np.zeros(len(places), self._dtype)
        for inputs, signals in zip(
            *(() if f is None else f for f in (self._inputs, self._signals)), strict=True
        ):
            gradient += inputs[rows] * signals[columns]
        if self._gradient is not None:
            gradient += self._gradient[rows, columns]
        return gradient * self.survivors.values[rows, columns]

    def all(self) -> np.ndarray:
        """All scores, in the weight's shape, exactly."""
        self.exactly()
        live = np.empty(self.survivors.values.shape)
        for rows, tile in self.tiles(slice(0, len(live))):
            live[rows] = tile
        return self.survivors.spread(live)

    @property
    def _dtype(self) -> np.dtype:
        factors = (self._inputs, self._signals, self._gradient)
        return next((f.dtype for f in factors if f is not None), self.survivors.values.dtype)

    @_UNCHECKED
    def _scores(self, rows: slice, out: np.ndarray) -> np.ndarray:
        """∂R/∂θ of some rows, times |θ|, in `unit`."""
        if self._inputs is None:
            out[:] = 0 if self._gradient is None else self._gradient[rows]
        else:
            inputs, signals = self._near or (self._inputs, self._signals)
            _outer(inputs[:, rows], signals, out)
            if self._gradient is not None:
                out += self._gradient[rows]
        return np.multiply(out, self.survivors.values[rows], out=out)


def _outer(inputs: np.ndarray, signals: np.ndarray, out: np.ndarray) -> None:
    """Σ inputsᵀ·signals; BLAS takes six times as long for one outer product as NumPy."""
    if len(inputs) == 1:
        np.multiply(inputs[0][:, np.newaxis], signals[0], out=out)
    else:
        np.matmul(inputs.T, signals, out=out)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    return np.concatenate(parts) if len(parts) > 1 else next(iter(parts), None)
