"""Sums over positions: what lies behind a tensor reads some of them alike.

The mirror image of classes (see `positions`). What lies before a tensor tells its positions apart
by their distance to a border, and so does what lies behind it: near the output little is told
apart. In front of a global mean all positions are read alike; in front of one more 3×3 convolution
there are nine groups, the corners, the edges and the interior. As long as all that lies behind are
sums with weights, only the sum of the positions of a group is needed: patches are summed before
they are multiplied with a kernel, and one gradient comes back for the whole group. Classes grow in
number from layer to layer and groups shrink, and along each axis whatever is fewer is held.

An axis is an integer array, the group of each of its positions, numbered as they come.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from tf_synflow.flow import positions
from tf_synflow.flow.positions import OUTSIDE, Classes, distinct


def alike(size: int, readers: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> Classes:
    """The groups of positions that nothing reads in different ways.

    Args:
      size: number of positions of an axis.
      readers: for each op that reads it the groups of the positions behind, and the windows under
        which they read this axis, see `positions.windows`; None for each its own position.

    Returns:
      The group of each position, None where each is a group of its own.

    Example:
      >>> alike(5, [(np.zeros(5, int), positions.windows(5, 3, padding="same"))])
      array([0, 1, 1, 1, 2])
    """
    columns = [np.zeros((size, 1), int)]
    for groups, windows in readers:
        own = groups[:, np.newaxis] if windows is None else _places_in(windows, groups, size)
        columns.append(own)
    return distinct(np.concatenate(columns, axis=1))[0]


def _places_in(windows: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """For each position in which places of windows of which groups it lies, in a row, then -1."""
    rows, place = np.nonzero(windows != OUTSIDE)
    position, where = windows[rows, place], place * len(groups) + groups[rows]
    order = np.lexsort((where, position))
    position, where = position[order], where[order]
    nth = np.arange(len(position)) - np.searchsorted(position, position)
    places = np.full((size, nth.max(initial=-1) + 1), -1)
    places[position, nth] = where
    return places


def behind(
    windows: np.ndarray, size: int, classes: Classes, groups: Classes, planned: Classes
) -> tuple[np.ndarray | sparse.csr_matrix, Classes, Classes]:
    """An axis behind windows: in classes, or in the planned groups where those are fewer.

    Args:
      windows: over the positions of the axis, see `positions.windows`.
      size: its number of positions.
      classes, groups: of a tensor along it.
      planned: groups of the positions behind the windows, of which nothing reads one in another
        way than others; None for each on its own.

    Returns:
      What is under the windows: as `positions.seen` has it, or as `summing`. And the classes and
      groups behind them.
    """
    if groups is not None:
        each = np.arange(len(windows)) if planned is None else planned
        return summing(windows, each, groups, are_sums=True), None, planned
    behind, seen = positions.seen(classes, windows)
    if planned is None or planned.max() + 1 >= len(seen):
        return seen, behind, None
    held = np.arange(size) if classes is None else classes
    return summing(windows, planned, held, are_sums=False), None, planned


def coarser(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The finest groups that hold those of several divisions whole.

    Example:
      >>> coarser([np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])])
      array([0, 0, 0, 1])
    """
    size = len(groups[0])
    positions = np.tile(np.arange(size), len(groups))
    own = np.concatenate([(i + 1) * size + one for i, one in enumerate(groups)])
    nodes = (len(groups) + 1) * size
    graph = sparse.csr_matrix((np.ones(len(own)), (positions, own)), (nodes, nodes))
    joint = sparse.csgraph.connected_components(graph, directed=False)[1][:size]
    return np.unique(joint, return_inverse=True)[1]


def summing(
    windows: np.ndarray, groups: np.ndarray, held: np.ndarray, are_sums: bool
) -> sparse.csr_matrix:
    """The sums under windows over all positions of a group.

    Args:
      windows: over the positions of an axis, see `positions.windows`.
      groups: of the positions behind them.
      held: where a tensor holds each position of the axis.
      are_sums: whether it holds the sums of positions there, all of them read alike, or what each
        of them is.

    Returns:
      A matrix (groups · places, number that is held) of whole numbers.
    """
    number, places = groups.max() + 1, windows.shape[1]
    rows, place = np.nonzero(windows != OUTSIDE)
    columns = held[windows[rows, place]]
    at = (groups[rows] * places + place, columns)
    times = np.ones(len(rows))
    if are_sums:
        times /= np.bincount(held)[columns]
    matrix = sparse.csr_matrix((times, at), (number * places, held.max() + 1))
    matrix.data = np.rint(matrix.data)
    return matrix
