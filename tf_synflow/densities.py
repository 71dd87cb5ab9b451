"""The density of every round: how fast the weights go (paper, section 6 and algorithm 1)."""

from tf_synflow import errors, quantities

KINDS = ("exponential", "linear")


def densities(
    compression: float, rounds: int = quantities.DEFAULT_ROUNDS, kind: str = "exponential"
) -> list[float]:
    """Densities after each round, the last one being 1 / compression.

    Exponential (Tanaka et al. 2020, algorithm 1): d_k = compression^(−k/n).
    Linear: d_k = 1 − (1 − 1/compression)·k/n.

    Args:
      compression: prunable weights / kept weights, at least 1.
      rounds: n, at least 1.
      kind: `"exponential"` or `"linear"`.

    Returns:
      `rounds` densities in (0, 1], never increasing.

    Raises:
      QuantityError: compression or rounds out of range.
      UnknownNameError: an unknown kind.

    Example:
      >>> densities(100, rounds=2)
      [0.1, 0.01]
    """
    final = 1.0 / quantities.check_compression(compression)
    rounds = quantities.check_rounds(rounds)
    steps = [k / rounds for k in range(1, rounds + 1)]
    if kind == "exponential":
        return [final**step for step in steps]
    if kind == "linear":
        return [1.0 - (1.0 - final) * step for step in steps[:-1]] + [final]
    raise errors.UnknownNameError("schedule kind", kind, KINDS)
