"""Scores as products of small factors, made where they are looked at."""

from collections.abc import Iterator, Sequence

import numpy as np

from tf_synflow.flow.weights import is_additive
from tf_synflow.masks.cut import TiledScores
from tf_synflow.masks.survivors import Survivors

# Scores of a tile: one megabyte in float64, what a cache holds.
_TILE = 2**17

# Infinity and NaN are found in the scores, and said there.
_UNCHECKED = np.errstate(over="ignore", invalid="ignore")


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
