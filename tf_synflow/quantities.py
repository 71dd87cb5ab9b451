"""Compression, density, sparsity: compression = 1 / density, sparsity = 1 − density."""

import math
import numbers

from tf_synflow import errors


class _Default(int):
    """An int that a function can tell, by identity, from the same number given by its caller."""


DEFAULT_COMPRESSION = _Default(100)
DEFAULT_ROUNDS = 100


def check_compression(compression: float, *, maximal: float = math.inf) -> float:
    """Returns `compression` as a float, once it is a finite number in [1, maximal].

    Args:
      compression: prunable weights / kept weights; 100 keeps 1 %.
      maximal: the largest compression that makes sense for a network: one weight a tensor.

    Raises:
      QuantityError: not a number, NaN, infinite, below 1 or above `maximal`.
    """
    if isinstance(compression, bool) or not isinstance(compression, numbers.Real):
        raise errors.QuantityError(
            f"compression: received {compression!r}; expected a number of at least 1 "
            "(100 keeps 1 % of the prunable weights)."
        )
    value = float(compression)
    if not math.isfinite(value) or value < 1:
        raise errors.QuantityError(
            f"compression: received {compression!r}; expected a finite number of at least 1. "
            "It is prunable weights / kept weights: 1 keeps all, 100 keeps 1 %. "
            "To keep a density d, give 1 / d."
        )
    if value > maximal:
        raise errors.QuantityError(
            f"compression: received {compression!r}; expected at most {maximal:.6g}, the maximal "
            "compression of this model (one weight for each prunable tensor). Lower it, or make "
            "fewer tensors prunable with `prunable=`."
        )
    return value


def check_rounds(rounds: int) -> int:
    """Returns `rounds` as an int, once it is a whole number of at least 1."""
    if isinstance(rounds, bool) or not isinstance(rounds, numbers.Integral) or rounds < 1:
        raise errors.QuantityError(
            f"rounds: received {rounds!r}; expected a whole number of at least 1 (the paper: 100)."
        )
    return int(rounds)


def check_seed(seed: int) -> int:
    """Returns `seed` as an int, once it is a whole number of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise errors.QuantityError(
            f"seed: received {seed!r}; expected a whole number of at least 0."
        )
    return int(seed)


def kept_count(total: int, density: float) -> int:
    """Weights kept of `total` at a density d: N − int((1 − d)·N), the paper's rounding."""
    return total - int((1.0 - density) * total)
