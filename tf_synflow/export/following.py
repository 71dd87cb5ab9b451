"""Whether a file follows what an output of its model varies by, or might as well be a constant.

The largest error, relative to the largest value, does not tell: an output of 290 ± 0.4 that is 291
throughout is within any tolerance. In int8 one range holds all values of an output, from zero on,
in 256 steps; what varies by less than a step is lost.
"""

import numpy as np

from tf_synflow import errors

_FEWEST = 16
"""Over fewer inputs, or such as are nearly the same, what an output varies by says little."""

_LOST = 0.95
"""A share of the variation that is as good as all of it."""

_HARDLY = 0.5
"""A share of the variation that is worth a word."""

_NO_VARIATION = 1e-6
"""Relative to the largest value: what float32 rounds is nothing that a file could follow."""

_FIXED_STEPS = 256
"""Of a softmax and a sigmoid in int8, over the range from 0 to 1, whatever the data."""

_ADVICE = (
    "In int8 one range holds all of an output in 256 steps: take an offset out of the network, "
    "give values of another size an output of their own, or take another quantize; and see that "
    "representative_data are shuffled, none of them an outlier, and a pruned network trained."
)


class Following:
    """How far a file's output varies with that of the model.

    By column, for each entry of the last axis, as the columns of a table may be of other sizes:
    √(1 − r²), with r the correlation of file and model over the inputs, about the mean of each
    element; 0 where they vary alike, 1 where the file tells nothing.

    Args:
      name: of the output.
      runtime: that the file is run in.
    """

    def __init__(self, name: str, runtime: str):
        self._name, self._runtime = name, runtime
        self._inputs = 0
        self._is_uneven = False
        self._has_fixed_range = True

    def add(self, expected: np.ndarray, received: np.ndarray) -> None:
        """What the model and the file give for some inputs, along the first axis, in float64."""
        if not expected.size:
            return
        pair = np.stack([np.atleast_1d(expected), np.atleast_1d(received)])
        if pair.ndim == 2:
            pair = pair[..., np.newaxis]  # a single column
        if not self._inputs:
            self._first = pair[:, 0]
            self._sums, self._squares = np.zeros_like(self._first), np.zeros_like(self._first)
            self._both, self._largest = np.zeros_like(self._first[0]), np.zeros_like(self._first[0])
        if pair.shape[2:] != self._first.shape[1:]:
            self._is_uneven = True  # of inputs of several sizes
            return
        steps = pair[1] * _FIXED_STEPS
        is_one = (steps == np.round(steps)) & (np.abs(steps) <= _FIXED_STEPS)
        self._has_fixed_range &= bool(is_one.all())
        self._inputs += pair.shape[1]
        self._largest = np.maximum(self._largest, np.abs(pair[0]).max(axis=0))
        moved = pair - self._first[:, np.newaxis]  # near zero, so that squares lose nothing
        self._sums += moved.sum(axis=1)
        self._squares += (moved**2).sum(axis=1)
        self._both += (moved[0] * moved[1]).sum(axis=0)

    @property
    def unfollowed(self) -> float | None:
        """Of the column in the middle; None where nothing varies, or inputs differ in size."""
        shares = self._by_column()[1]
        return float(np.quantile(shares, 0.5, method="higher")) if shares.size else None

    def check(self) -> None:
        """Looks whether a constant would do as well as the file, in half of the columns or more.

        A softmax or a sigmoid may vary by less than its step: it is as near as int8 has it.

        Raises:
          ExportError: it would.
        """
        if self._can_tell() and not self._has_fixed_range and self.unfollowed >= _LOST:
            raise errors.ExportError(
                f"The TFLite file does not follow the Keras model in output {self._name!r}: over "
                f"{self._inputs} inputs {self.unfollowed:.1%} of what that varies by are lost in "
                f"{self._runtime}{self._where()}, and a constant would do as well; expected less "
                f"than {_LOST:.0%}.",
                f"No file was written. {_ADVICE}",
            )

    def notes(self) -> list[str]:
        """What a user should know of a file that is not refused."""
        if not self._can_tell():
            return []
        if self._has_fixed_range:
            if self.unfollowed < _LOST:
                return []
            return [
                f"output {self._name!r} varies by less than the step of 1/{_FIXED_STEPS} that a "
                "softmax or sigmoid has in int8; where that matters, end the model in logits"
            ]
        if self.unfollowed > _HARDLY:
            return [
                f"WARNING: output {self._name!r} hardly follows the model's: {self.unfollowed:.0%} "
                f"of what that varies by over these inputs are lost{self._where()}. {_ADVICE}"
            ]
        if where := self._where():
            return [f"WARNING: output {self._name!r} does not follow the model's{where}. {_ADVICE}"]
        return []

    def _can_tell(self) -> bool:
        return self._inputs >= _FEWEST and self.unfollowed is not None

    def _by_column(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns that vary in the model, and the share of it that the file does not follow."""
        if not self._inputs or self._is_uneven:
            return np.empty(0, int), np.empty(0)
        means = self._sums / self._inputs
        of_model, of_file = (
            _by_last_axis(variance).mean(axis=0)
            for variance in self._squares / self._inputs - means**2
        )
        of_both = _by_last_axis(self._both / self._inputs - means[0] * means[1]).mean(axis=0)
        largest = _by_last_axis(self._largest).max(axis=0)
        columns = np.flatnonzero(of_model > (_NO_VARIATION * largest) ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):  # where the file is constant
            correlation = (of_both / np.sqrt(of_model * of_file))[columns]
        correlation = np.nan_to_num(correlation, posinf=0, neginf=0).clip(0, 1)
        return columns, np.sqrt(1 - correlation**2)

    def _where(self) -> str:
        """The columns that are lost, where there are several columns."""
        columns, shares = self._by_column()
        lost = columns[shares >= _LOST]
        if self._first.shape[-1] == 1 or not lost.size:
            return ""
        listed = ", ".join(map(str, lost[:5])) + (", …" if lost.size > 5 else "")
        return f" (in {lost.size} of {columns.size} columns that vary, the last axis: {listed})"


def _by_last_axis(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])
