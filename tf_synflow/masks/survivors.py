"""What is left of one weight as pruning goes on: a matrix without its dead rows and columns."""

import math
from collections.abc import Iterator

import numpy as np

from tf_synflow import parallel
from tf_synflow.flow.windows import Windows

# The matrix is looked through for dead rows and columns when this share of its weights has gone
# since the last look, and made anew when at least this share of it is dead.
_WORTH_A_LOOK = 0.15

_ROWS_AT_A_TIME = 256

# Multiplications of a matrix product that take as long as to bring one of its values to a dtype.
_BROUGHT = 16

# Values of a block that is brought to another dtype: one megabyte, what a cache holds.
_BLOCK = 2**17


class Survivors:
    """The weights of one kernel that are left, with their absolute values.

    A kernel is a matrix: its last axis the outputs, all others the inputs. Rows and columns in
    which no weight is left are taken out of it as rounds go.

    Args:
      weights: θ of the kernel, floating-point, in a dtype that holds it without loss; it stays as
        it is.
      mask: bool, which weights are left; None for all.

    Attributes:
      shape: of the kernel.
      values: |θ|, of shape (live rows, live columns), zero where a weight is removed.
      mask: which of those are left, of the same shape.
      count: how many weights are left.
    """

    def __init__(self, weights: np.ndarray, mask: np.ndarray | None = None):
        self.restart(weights, mask)

    def restart(self, weights: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Begins anew, with the arguments that made it."""
        self.shape = weights.shape
        weights = weights.reshape(-1, self.shape[-1] if self.shape else 1)
        self._rows: np.ndarray | None = None
        self._columns: np.ndarray | None = None
        self._live_channels: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        if mask is None:
            self.mask = np.ones(weights.shape, bool)
            self.values = np.abs(weights, order="C")
        else:
            self.mask, self.values = mask.reshape(weights.shape), weights
            if not self._compact():  # where it does, both are copies
                self.mask = self.mask.copy()
            self.values = np.abs(self.values, order="C")
            self.values *= self.mask
        self.count = self._counted = int(np.count_nonzero(self.mask))

    @property
    def size(self) -> int:
        """How many weights the kernel had."""
        return int(np.prod(self.shape))

    def inputs(self, rows: np.ndarray, windows: Windows | None = None) -> np.ndarray:
        """The live inputs: of rows (n, inputs), or of the patches under windows over a map."""
        if windows is None:
            return _taken(rows, self._rows)
        if self._rows is None:
            return windows.patches(rows)
        channels, places = self._channels(rows.shape[1])
        return _taken(windows.patches(_taken(rows, channels)), places)

    def all_inputs(
        self, live: np.ndarray, windows: Windows | None = None, channels: int = 0
    ) -> np.ndarray:
        """The transpose of `inputs`: zero at a dead input, patches summed back to their map."""
        if windows is None:
            return _scattered(live, self._rows, int(np.prod(self.shape[:-1])))
        if self._rows is None:
            return windows.spread(live)
        own, places = self._channels(channels)
        patches = _scattered(live, places, windows.places * len(own))
        return _scattered(windows.spread(patches), own, channels)

    @property
    def rows(self) -> np.ndarray:
        """Which rows of the whole matrix are live."""
        return np.arange(len(self.values)) if self._rows is None else self._rows

    @property
    def columns(self) -> np.ndarray:
        """Which columns of the whole matrix are live."""
        return np.arange(self.values.shape[1]) if self._columns is None else self._columns

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """The live ones among the outputs, the last axis of an array."""
        return _taken(rows, self._columns)

    def times(self, rows: np.ndarray, windows: Windows | None = None) -> np.ndarray:
        """Rows (n, inputs), or patches under windows, times the matrix, in the dtype of rows."""
        rows = self.inputs(rows, windows)
        product = np.zeros((len(rows), self.values.shape[1]), rows.dtype)

        def compute(part: tuple[slice, slice]) -> None:
            own, columns = part
            for some, values in self._blocks(slice(0, len(self.values)), columns, rows.dtype):
                product[own, columns] += rows[own, some] @ values

        parallel.each(compute, parallel.blocks(product.shape, self._work(rows)))
        return self._all_outputs(product)

    def times_transposed(
        self, rows: np.ndarray, windows: Windows | None = None, channels: int = 0
    ) -> np.ndarray:
        """Rows (n, outputs) times the matrix with its axes exchanged, as `all_inputs` has them."""
        rows = self.outputs(rows)
        product = np.empty((len(rows), len(self.values)), rows.dtype)

        def compute(part: slice) -> None:
            for some, values in self._blocks(part, slice(None), rows.dtype):
                np.matmul(rows, values.T, out=product[:, some])

        parallel.each(compute, parallel.parts(product.shape[1], self._work(rows)))
        return self.all_inputs(product, windows, channels)

    def _work(self, rows: np.ndarray) -> int:
        """Of a product with so many rows, see `parallel.each`."""
        return (len(rows) + _BROUGHT) * self.values.size

    def _blocks(
        self, rows: slice, columns: slice, dtype: np.dtype
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """A part of the matrix in another dtype, a few rows at a time; each good until the next."""
        if dtype == self.values.dtype:
            yield rows, self.values[rows, columns]
            return
        width = len(range(*columns.indices(self.values.shape[1])))
        step = max(1, _BLOCK // max(width, 1))
        buffer = np.empty((min(step, rows.stop - rows.start), width), dtype)
        for start in range(rows.start, rows.stop, step):
            some = slice(start, min(start + step, rows.stop))
            block = buffer[: some.stop - start]
            np.copyto(block, self.values[some, columns])
            yield some, block

    def dense(self) -> np.ndarray:
        """|θ| in the kernel's shape, zero where a weight is removed."""
        return self.spread(self.values)

    def full_mask(self) -> np.ndarray:
        """Which weights are left, in the kernel's shape."""
        return self.spread(self.mask)

    def live(self, array: np.ndarray) -> np.ndarray:
        """The live rows and columns of an array of the kernel's shape."""
        matrix = array.reshape(-1, self.shape[-1] if self.shape else 1)
        return self.outputs(matrix if self._rows is None else matrix[self._rows])

    def spread(self, live: np.ndarray) -> np.ndarray:
        """An array over the live rows and columns, as one of the kernel's shape, zero elsewhere."""
        return spread(live, self._rows, self._columns, self.shape)

    def remove(self, places: np.ndarray) -> None:
        """Removes weights that are left, given where they are in the flat matrix of `values`."""
        places = places.astype(np.intp, copy=False)  # as it would be twice
        self.values.reshape(-1)[places] = 0
        self.mask.reshape(-1)[places] = False
        self.count -= len(places)
        if self.count < (1 - _WORTH_A_LOOK) * self._counted:
            self._counted = self.count
            self._compact()

    def _compact(self) -> bool:
        """Takes dead rows and columns out, if there are enough of them; whether it did."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        if len(rows) * len(columns) > (1 - _WORTH_A_LOOK) * self.mask.size:
            return False
        self.values = _crossed(self.values, rows, columns)
        self.mask = _crossed(self.mask, rows, columns)
        self._live_channels.clear()
        self._rows = rows if self._rows is None else self._rows[rows]
        self._columns = columns if self._columns is None else self._columns[columns]
        return True

    def _channels(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Channels with a live input, and which of all their inputs are live; None for all.

        Inputs are the places of a window, each with all channels; most are dead because their
        channel is, and patches of few channels are soon made.
        """
        if number not in self._live_channels:
            place, channel = np.divmod(self._rows, number)
            is_live = np.zeros(number, bool)
            is_live[channel] = True
            channels = np.flatnonzero(is_live)
            inputs = place * len(channels) + (np.cumsum(is_live) - 1)[channel]
            all_live = len(inputs) == np.prod(self.shape[:-1]) // number * len(channels)
            self._live_channels[number] = channels, None if all_live else inputs
        return self._live_channels[number]

    def _all_outputs(self, live: np.ndarray) -> np.ndarray:
        return _scattered(live, self._columns, self.shape[-1] if self.shape else 1)


def spread(
    live: np.ndarray, rows: np.ndarray | None, columns: np.ndarray | None, shape: tuple[int, ...]
) -> np.ndarray:
    """An array over some rows and columns of a kernel's matrix, None for all, in its shape.

    It is zero elsewhere.
    """
    matrix = _scattered(live, columns, shape[-1] if shape else 1)
    number = math.prod(shape[:-1])
    if rows is not None and len(rows) < number:
        some, matrix = matrix, np.zeros((number, matrix.shape[1]), live.dtype)
        matrix[rows] = some
    return matrix.reshape(shape)


def _crossed(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some rows and columns, a few rows at a time: the largest matrix is most of a network."""
    crossed = np.empty((len(rows), len(columns)), matrix.dtype)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = slice(start, start + _ROWS_AT_A_TIME)
        # Places are in range, and "clip" does without a copy of what is taken.
        np.take(matrix[rows[some]], columns, axis=1, out=crossed[some], mode="clip")
    return crossed


def _taken(rows: np.ndarray, index: np.ndarray | None) -> np.ndarray:
    return rows if index is None else np.take(rows, index, axis=1)


def _scattered(live: np.ndarray, index: np.ndarray | None, size: int) -> np.ndarray:
    """Columns at their places among `size`, zero elsewhere."""
    if index is None or len(index) == size:
        return live
    # Each place takes its column, or one of zeros: to assign columns takes two to three times as
    # long.
    own = np.full(size, len(index))
    own[index] = np.arange(len(index))
    with_zeros = np.zeros((len(live), len(index) + 1), live.dtype)
    with_zeros[:, :-1] = live
    return with_zeros.take(own, axis=1, mode="clip")
