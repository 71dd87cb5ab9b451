"""Classes of positions: why scoring need not depend on the size of an image.

The input is all ones, so that a feature map holds few distinct rows and columns: those near a
border, which grow by one a convolution, and one interior. Along each axis positions fall into
classes. At the input all positions are of one class; the class of a position behind a window
(a convolution, a pooling) is the tuple of the classes in its window, with the padding as a class of
its own. One representative a class is computed, and what is computed is exact.

An axis is an integer array, the class of each of its positions, or None where each position is a
class of its own.
"""

from collections.abc import Iterable, Sequence

import numpy as np

Classes = np.ndarray | None

# The class of what lies outside an axis, in the padding of a window.
OUTSIDE = -1


def uniform(size: int) -> Classes:
    """All positions of an axis in one class."""
    return np.zeros(size, int) if size > 1 else None


def any_of(classes: Iterable[Classes]) -> bool:
    """Whether positions are in classes, or groups, along any axis."""
    return any(one is not None for one in classes)


def counts(classes: np.ndarray) -> np.ndarray:
    """How many positions each class has."""
    return np.bincount(classes)


def common(axes: Sequence[Classes], size: int) -> tuple[Classes, list[Classes]]:
    """The coarsest classes that tell apart what any of several axes tells apart.

    Args:
      axes: classes of the same positions in different tensors.
      size: number of positions.

    Returns:
      The classes, and for each of the given axes the representatives to take for them (None: those
      it has, as they are).

    Example:
      >>> common([np.array([0, 0, 1]), np.array([0, 1, 1])], 3)
      (array([0, 1, 2]), [array([0, 0, 1]), array([0, 1, 1])])
    """
    first = axes[0]
    if all(_same(axis, first) for axis in axes[1:]):
        return first, [None] * len(axes)
    full = np.stack([np.arange(size) if axis is None else axis for axis in axes], axis=1)
    classes, tuples = distinct(full)
    return classes, list(tuples.T)


def windows(
    size: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    padding: str | tuple[int, int] = "valid",
) -> np.ndarray:
    """Windows that slide along an axis.

    Args:
      size: number of positions of the axis.
      kernel, stride, dilation: of the window, in positions.
      padding: `"valid"`, `"same"`, `"causal"`, or how many positions before and after.

    Returns:
      For each position behind the windows one row, the position at each place of the kernel;
      `OUTSIDE` in the padding.

    Example:
      >>> windows(4, 3, padding="same")
      array([[-1,  0,  1],
             [ 0,  1,  2],
             [ 1,  2,  3],
             [ 2,  3, -1]])
    """
    before, after = _padding(padding, size, kernel, stride, dilation)
    starts = np.arange(0, size + before + after - dilation * (kernel - 1), stride) - before
    return _inside(starts[:, None] + dilation * np.arange(kernel), size)


def transposed_windows(
    size: int,
    output_size: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    padding: str = "valid",
) -> np.ndarray:
    """The windows of a transposed convolution: the inputs that reach each position of the output.

    The arguments and what is returned are those of `windows`; `output_size` is the number of
    positions behind.
    """
    before, _ = _padding(padding, output_size, kernel, stride, dilation)
    reached = np.arange(output_size)[:, None] + before - dilation * np.arange(kernel)
    return _inside(np.where(reached % stride, OUTSIDE, reached // stride), size)


def repeated(size: int, times: int) -> np.ndarray:
    """Each position several times in a row; what is returned is that of `windows`."""
    return np.repeat(np.arange(size), times)[:, None]


def seen(classes: Classes, windows: np.ndarray) -> tuple[Classes, np.ndarray]:
    """Windows of which only different ones are kept.

    Args:
      classes: of the axis that the windows slide along.
      windows: over its positions, see `windows`.

    Returns:
      The classes of the positions behind the windows, and the windows, one row a class: the class
      at each place of the kernel, `OUTSIDE` in the padding.

    Example:
      >>> seen(np.zeros(5, int), windows(5, 3, padding="same"))
      (array([0, 1, 1, 1, 2]), array([[-1,  0,  0],
             [ 0,  0,  0],
             [ 0,  0, -1]]))
    """
    if classes is None:
        return None, windows
    return distinct(np.where(windows == OUTSIDE, OUTSIDE, classes[windows]))


def distinct(rows: np.ndarray) -> tuple[Classes, np.ndarray]:
    """Equal rows as one class each, numbered as they come, and one row of each class."""
    _, first, classes = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(rows):
        return None, rows
    order = np.argsort(first)
    return np.argsort(order)[classes.ravel()], rows[first[order]]


def _inside(index: np.ndarray, size: int) -> np.ndarray:
    return np.where((index >= 0) & (index < size), index, OUTSIDE)


def _padding(
    padding: str | tuple[int, int], size: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int]:
    if not isinstance(padding, str):
        return padding
    extent = dilation * (kernel - 1)
    if padding.lower() == "causal":
        return extent, 0
    if padding.lower() != "same":
        return 0, 0
    missing = max((-(-size // stride) - 1) * stride + extent + 1 - size, 0)
    return missing // 2, missing - missing // 2


def _same(a: Classes, b: Classes) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
