"""SynFlow: the flow through a weight, without data (Tanaka et al. 2020, equation 6)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import plan
from tf_synflow.flow.kernel import MatrixKernel, NoKernel
from tf_synflow.flow.network import Network
from tf_synflow.flow.outside import as_traced
from tf_synflow.flow.weights import is_additive
from tf_synflow.flow.windows import Windows
from tf_synflow.masks.survivors import Survivors
from tf_synflow.scores.factors import Factors
from tf_synflow.scores.scorer import Scorer, Scores

DTYPES = ("float64", "float32")

# Weights from which on it pays to run a network once more, to find what may be summed.
_WORTH_A_PLAN = 2**20


class SynFlow(Scorer):
    """score = |θ ⊙ ∂R/∂θ| with R = 1ᵀ(∏|θ|)1, on the masked network of |θ|.

    R is the sum of the outputs for one input of ones, with the absolute value of everything the
    model holds (weights, biases, γ, β, moving mean and variance), in inference mode.

    Args:
      dtype: `"float64"`, whatever the model's own dtype; `"float32"` has half the arithmetic but
        cannot tell near-ties, so that two machines may keep different weights.

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
            held = self._dtype if value.dtype == np.float64 else np.float32
            value = value.astype(held, copy=False)
            if before is None:
                self._survivors[name] = Survivors(value, mask)
            else:
                before.restart(value, mask)

    @property
    def has_constants(self) -> bool:
        """Whether there is flow that comes from no input, but from a bias or the like."""
        return any(map(is_additive, (*self._fixed, *self._survivors)))

    def factors(self, constants: bool = True) -> tuple[list[Factors], float]:
        """The scores of the weights that are left, and the exponent of their common scale.

        Args:
          constants: whether the flow from biases and the like counts, as far as they are not
            prunable.
        """
        fixed = self._fixed
        if not constants:
            fixed = {n: tf.zeros_like(v) if is_additive(n) else v for n, v in fixed.items()}
        with as_traced():
            found, log2_scale = self._flow(self._one, fixed)
        tensors = []
        for name, survivors in self._survivors.items():
            # By the buffer protocol: `numpy` copies, and there is as much of this as in a product.
            rows, signals, gradients = (
                [np.asarray(memoryview(one)) for one in part] for part in found[name]
            )
            rows, signals = map(_flat, rows), map(_flat, signals)
            products = [*zip(rows, self._windows[name], signals, strict=True)]
            tensors.append(Factors(name, survivors, products, gradients))
        return tensors, float(log2_scale)

    def masks(self) -> dict[str, np.ndarray]:
        """Which weights are left, by name."""
        return {name: one.full_mask() for name, one in self._survivors.items()}

    def on_path(self, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is left of masks where a flow from an input to an output passes; by name."""
        self.restart(masks)
        has_zeros = any(
            one.count > np.count_nonzero(one.values) for one in self._survivors.values()
        )
        if has_zeros or any(map(is_additive, self._survivors)):
            return self._network.on_path(masks)  # for which a weight of zero is one that may grow
        tensors, _ = self.factors(constants=False)
        return {one.name: one.survivors.spread(one.reached()) for one in tensors}

    def _trace(self) -> None:
        network, dtype = self._network, tf.as_dtype(self._dtype)
        self._one = tf.ones([], dtype)
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
        shapes = {name: one.shape for name, one in self._survivors.items() if name not in absent}
        specs = [
            tf.TensorSpec([], dtype),
            {name: tf.TensorSpec(value.shape, dtype) for name, value in self._fixed.items()},
        ]
        record = self._record(shapes, specs)

        def flow(one: tf.Tensor, fixed: dict[str, tf.Tensor]) -> tuple[dict, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(one)
                kernels = {name: MatrixKernel(self._survivors[name], one, tape) for name in shapes}
                with plan.Plan(record):
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
        self._flow = tf.function(flow, autograph=False).get_concrete_function(*specs)

    def _record(self, shapes: Mapping[str, tuple[int, ...]], specs: Sequence[Any]) -> plan.Record:
        """What reads each tensor; of a small network nothing, for tracing is most of its time."""
        record, dtype = plan.Record(), tf.as_dtype(self._dtype)

        def recorded(one: tf.Tensor, fixed: dict[str, tf.Tensor]) -> None:
            kernels = {name: NoKernel(shape, dtype) for name, shape in shapes.items()}
            with record:
                self._network({**fixed, **kernels}, one)

        if self._network.size >= _WORTH_A_PLAN:
            tf.function(recorded, autograph=False).get_concrete_function(*specs)
        return record


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])
