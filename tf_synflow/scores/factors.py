"""Scores as products of small factors, made where they are looked at."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from tf_synflow.flow.weights import is_additive
from tf_synflow.flow.windows import Windows
from tf_synflow.masks.cut import TiledScores
from tf_synflow.masks.survivors import Survivors

# Scores of a tile: one megabyte in float64, what a cache holds.
_TILE = 2**17

# Infinity and NaN are found in the scores, and said there.
_UNCHECKED = np.errstate(over="ignore", invalid="ignore")


class Factors(TiledScores):
    """The scores of one weight: |θ| ⊙ |Σ inputsᵀ·signals|.

    None of the factors is below zero as a rule, and then a sum of products in float32 is near the
    true one: by less than one part in 2^24 for each operation. Tiles are made so, at half the cost,
    and what is too near the threshold is scored in float64. Where one is below zero (behind a
    normalization whose mean is not zero, with no ReLU between) it is the size that is ranked, as
    in the paper's code.

    Args:
      name: of the weight.
      survivors: what is left of it.
      products: for each product what it is multiplied with, rows (n, inputs) or windows over rows,
        and the gradient (n, outputs) of R by what it gives.
      gradients: of R by the weight itself, in its shape, where it is used otherwise; one or none.
    """

    def __init__(
        self,
        name: str,
        survivors: Survivors,
        products: Sequence[tuple[np.ndarray, Windows | None, np.ndarray]],
        gradients: Sequence[np.ndarray] = (),
    ):
        self.name, self.survivors = name, survivors
        self._rows = [(rows, windows) for rows, windows, _ in products]
        self._signals = _joined([survivors.outputs(signals) for *_, signals in products])
        self._gradient = survivors.live(gradients[0]) if gradients else None
        self._near: tuple[np.ndarray, np.ndarray] | None = None
        self.unit, self.error = 1.0, 0.0
        factors = [array for rows, _, signals in products for array in (rows, signals)]
        ranges = [(f.min(initial=0), f.max(initial=0)) for f in (*factors, *gradients)]
        self._finite = bool(np.isfinite(ranges).all())
        self._signed = any(low < 0 for low, _ in ranges)
        if (
            self._finite
            and factors
            and not gradients
            and not self._signed
            and all(factor.dtype == np.float64 for factor in factors)
            and survivors.values.dtype == np.float32
        ):
            highest = [high for _, high in ranges]
            self._take_near(max(highest[::2]), max(highest[1::2]))

    def _take_near(self, input: float, signal: float) -> None:
        """The factors in float32, the largest of each, which are given, near one."""
        # Those below 2^-1000 are near what float64 holds at all, and stay small.
        inputs, signals = (max(int(np.frexp(number)[1]), -1000) for number in (input, signal))
        self._near = (
            self._inputs_of([(_scaled(rows, -inputs), windows) for rows, windows in self._rows]),
            _scaled(self._signals, -signals),
        )
        self.unit = float(np.ldexp(1.0, inputs + signals))
        terms = max(windows.terms if windows else 1 for _, windows in self._rows)
        self.error = (len(self._signals) + terms + 8) * 2.0**-24

    def _inputs_of(self, products: Sequence[tuple[np.ndarray, Windows | None]]) -> np.ndarray:
        """The live inputs of all products, of shape (n, live rows of the matrix)."""
        return _joined([self.survivors.inputs(*product) for product in products])

    @functools.cached_property
    def _inputs(self) -> np.ndarray | None:
        return self._inputs_of(self._rows)

    @property
    def can_be_ranked(self) -> bool:
        """Whether the scores are finite, and not all zero while no weight is removed."""
        if not self._finite:
            return False
        return self.survivors.count < self.survivors.size or is_additive(self.name) or self.flows

    @property
    def flows(self) -> bool:
        """Whether there is a score above zero, unless all are that zeros of θ itself make so."""
        if self._gradient is not None and self._gradient.any():
            return True
        # A score is there where some position has both an input and a signal.
        return self._signals is not None and bool(
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
        positions = 0 if self._signals is None else len(self._signals)
        if len(places) * positions > _TILE and len(places) > 1:
            halves = np.array_split(places, 2)
            return np.concatenate([self.at(half) for half in halves])
        if not places.size:
            return np.empty(0, self._dtype)
        rows, columns = np.divmod(places, self.survivors.values.shape[1])
        gradient = np.zeros(len(places), self._dtype)
        numbers, start = self.survivors.rows[rows], 0
        for own, windows in self._rows:
            inputs = own[:, numbers] if windows is None else windows.patches_at(own, numbers)
            for product in inputs * self._signals[start : start + len(inputs), columns]:
                gradient += product  # one by one, so that equal products have equal sums
            start += len(inputs)
        if self._gradient is not None:
            gradient += self._gradient[rows, columns]
        return self._sized(gradient) * self.survivors.values[rows, columns]

    @_UNCHECKED
    def about(self, places: np.ndarray) -> np.ndarray:
        if self._near is None:
            return self.at(places)
        rows, columns = np.divmod(places, self.survivors.values.shape[1])
        inputs, signals = self._near
        gradient = np.zeros(len(places), np.float32)
        step = max(1, _TILE // max(len(places), 1))
        for start in range(0, len(inputs), step):
            some = slice(start, start + step)
            own = inputs[some].take(rows, 1), signals[some].take(columns, 1)
            gradient += np.einsum("pn,pn->n", *own)
        return self.unit * (gradient * self.survivors.values[rows, columns]).astype(np.float64)

    def all(self) -> np.ndarray:
        """All scores, in the weight's shape, exactly."""
        return self.survivors.spread(self.live())

    def live(self) -> np.ndarray:
        """The scores of the live rows and columns, exactly."""
        self.exactly()
        live = np.empty(self.survivors.values.shape)
        for rows, tile in self.tiles(slice(0, len(live))):
            live[rows] = tile
        return live

    def reached(self) -> np.ndarray:
        """Which of the weights that are left a flow comes to and leads on from; bool."""
        reached = np.zeros(self.survivors.values.shape, bool)
        if self._signals is not None:
            positions = self._inputs != 0, self._signals != 0
            inputs, signals = (one.astype(np.float32) for one in positions)
            reached |= inputs.T @ signals > 0
        if self._gradient is not None:
            reached |= self._gradient != 0
        return reached & self.survivors.mask

    @property
    def _dtype(self) -> np.dtype:
        factors = (self._signals, self._gradient)
        return next((f.dtype for f in factors if f is not None), self.survivors.values.dtype)

    @_UNCHECKED
    def _scores(self, rows: slice, out: np.ndarray) -> np.ndarray:
        """∂R/∂θ of some rows, times |θ|, in `unit`."""
        if self._signals is None:
            out[:] = 0 if self._gradient is None else self._gradient[rows]
        else:
            inputs, signals = self._near or (self._inputs, self._signals)
            _outer(inputs[:, rows], signals, out)
            if self._gradient is not None:
                out += self._gradient[rows]
        return np.multiply(self._sized(out), self.survivors.values[rows], out=out)

    def _sized(self, gradient: np.ndarray) -> np.ndarray:
        """The size of ∂R/∂θ, in place."""
        return np.abs(gradient, out=gradient) if self._signed else gradient


def _outer(inputs: np.ndarray, signals: np.ndarray, out: np.ndarray) -> None:
    """Σ inputsᵀ·signals; BLAS takes six times as long for one outer product as NumPy."""
    if len(inputs) == 1:
        np.multiply(inputs[0][:, np.newaxis], signals[0], out=out)
    else:
        np.matmul(inputs.T, signals, out=out)


def _scaled(array: np.ndarray, exponent: int) -> np.ndarray:
    scaled = np.empty(array.shape, np.float32)  # into which it is cast block by block
    return np.multiply(array, np.ldexp(1.0, exponent), out=scaled, casting="same_kind")


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    return np.concatenate(parts) if len(parts) > 1 else next(iter(parts), None)
