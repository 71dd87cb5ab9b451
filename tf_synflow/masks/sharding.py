"""Weights cut over the devices of a `tf.distribute` strategy, and the masks of their scores.

`select` of all scores in one place needs all scores in one place. Here no score leaves its device:
the devices sum histograms of theirs, and refine the bucket that holds the threshold until it is
one number. The bits of a double from 0 on, read as an integer, are in the order of the doubles;
so 64 bits, 16 at a time, are four histograms, and the threshold is exact.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors, quantities

BITS = 16  # of a key, a pass; 2^BITS counts are what a device sends
BUCKETS = 2**BITS
CHUNK = 2**20  # scores at a time: what is computed of them stays in the cache
INFINITE = 0x7FF0  # the first 16 bits of infinity; NaN and what is negative come after it

PerReplica = Any  # a tf.distribute.DistributedValues, or a tensor where there is one replica
PerReplicas = Mapping[str, PerReplica]


@dataclasses.dataclass(frozen=True)
class Sharding:
    """How a weight is cut into pieces along one axis, one piece for each replica.

    Args:
      shape: of the whole weight.
      axis: the one that is cut.
      bounds: replica r holds `bounds[r]` up to `bounds[r + 1]` of the axis; pieces may be empty.

    Raises:
      MaskError: bounds that do not go from 0 to the end of the axis.

    Example:
      >>> Sharding.even((4, 6), axis=1, replicas=2).bounds
      (0, 3, 6)
    """

    shape: tuple[int, ...]
    axis: int
    bounds: tuple[int, ...]

    def __post_init__(self):
        length = self.shape[self.axis] if 0 <= self.axis < len(self.shape) else None
        ends = self.bounds[:1] + self.bounds[-1:]
        if ends != (0, length) or list(self.bounds) != sorted(self.bounds):
            raise errors.MaskError(
                f"sharding: received axis {self.axis} of the shape {self.shape} and the bounds "
                f"{self.bounds}; expected bounds that go from 0 to the length of that axis and "
                "never back. Sharding.even(shape, axis, replicas) makes such."
            )

    @classmethod
    def even(cls, shape: Sequence[int], axis: int, replicas: int) -> "Sharding":
        """Pieces that differ by one row at most."""
        length = shape[axis]
        return cls(tuple(shape), axis, tuple(length * r // replicas for r in range(replicas + 1)))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def replicas(self) -> int:
        return len(self.bounds) - 1

    def cut(self, array: np.ndarray) -> list[np.ndarray]:
        """The piece of each replica."""
        return np.split(array, self.bounds[1:-1], self.axis)

    def join(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """The whole weight."""
        return np.concatenate(pieces, self.axis)

    def check_piece(self, what: str, piece: tf.Tensor, replica: tf.Tensor) -> None:
        """Checks the shape of a replica's piece, where the replica is known as a graph is made.

        Raises:
          MaskError: it is another.
        """
        index = tf.get_static_value(replica)
        if index is None:
            return
        rows = self.bounds[index + 1] - self.bounds[index]
        expected = (*self.shape[: self.axis], rows, *self.shape[self.axis + 1 :])
        if tuple(piece.shape) != expected:
            raise errors.MaskError(
                f"{what}: received a piece of the shape {tuple(piece.shape)} on replica {index}; "
                f"expected {expected}, from {self.bounds[index]} up to {self.bounds[index + 1]} "
                f"of axis {self.axis}."
            )

    def positions(self, replica: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Where in the flat weight the elements of a flat piece lie."""
        inner = math.prod(self.shape[self.axis + 1 :])
        starts = tf.constant(self.bounds, tf.int64) * inner
        start, end = starts[replica], starts[replica + 1]
        run = tf.maximum(end - start, 1)  # what lies side by side in piece and weight; none: any
        return indices // run * starts[-1] + start + indices % run


class Selection:
    """`masks.select` over scores that stay where they are, bit for bit the same masks.

    Every device needs memory for one piece of scores and masks, and for the scores of one bucket.
    A call sends, for each device, four histograms of 2^16 counts and those that settle ties, of
    whatever number of scores. Scope is global, weights go one by one, ties by position.

    Args:
      strategy: of the devices; any in whose replicas `all_reduce` works.
      shardings: by weight name, in the model's order.

    Raises:
      MaskError: shardings of another number of replicas than the strategy has.

    Example:
      >>> strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
      >>> selection = Selection(strategy, {"d/kernel": Sharding.even((4, 6), 1, replicas=2)})
      >>> masks = selection(scores, masks, density=0.5)  # of values that strategy.run gave
    """

    def __init__(self, strategy: tf.distribute.Strategy, shardings: Mapping[str, Sharding]):
        self.strategy = strategy
        self.shardings = dict(shardings)
        for name, sharding in self.shardings.items():
            if sharding.replicas != strategy.num_replicas_in_sync:
                raise errors.MaskError(
                    f"sharding of {name!r}: received {sharding.replicas} pieces; expected "
                    f"{strategy.num_replicas_in_sync}, one for each replica of the strategy."
                )
        # One trace, whatever the density and the round.
        self._run = tf.function(
            lambda *args: strategy.run(self._of_replica, args=args), autograph=False
        )

    def __call__(
        self, scores: PerReplicas, masks: PerReplicas, density: float
    ) -> dict[str, PerReplica]:
        """Keeps the highest scores among the weights that are still there.

        Args:
          scores: by weight name, each replica's piece; finite and not negative.
          masks: bool, of the same names and pieces; a weight that is removed stays removed.
          density: share of all weights to keep, in (0, 1].

        Returns:
          New bool pieces by name, each on the device of its scores.

        Raises:
          ScoreError: a score of a weight that is left is NaN, infinite or negative.
          MaskError: pieces that are not those of the shardings.
        """
        total = sum(sharding.size for sharding in self.shardings.values())
        keep = quantities.kept_count(total, density)
        scores, masks = ({name: of[name] for name in self.shardings} for of in (scores, masks))
        kept, broken = self._run(scores, masks, tf.constant(keep, tf.int64))
        # All replicas hold the same sums, so that every worker raises, or none.
        counts = self.strategy.experimental_local_results(broken)[0].numpy()
        for name, count in zip(self.shardings, counts, strict=True):
            if count:
                raise errors.ScoreError(
                    f"scores of {name!r}: received {count} of {self.shardings[name].size} NaN, "
                    "infinite or negative; expected finite ones from 0 on. Score in float64."
                )
        return kept

    def _of_replica(
        self, scores: dict[str, tf.Tensor], masks: dict[str, tf.Tensor], keep: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The masks of one replica's pieces, and how many scores of each weight are no scores."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        pieces = []
        for name, sharding in self.shardings.items():
            sharding.check_piece(f"scores of {name!r}", scores[name], replica)
            sharding.check_piece(f"masks of {name!r}", masks[name], replica)
            keys = tf.bitcast(tf.cast(scores[name], tf.float64), tf.int64)
            pieces.append((tf.reshape(keys, [-1]), tf.reshape(masks[name], [-1])))
        threshold, ties, counts = _threshold(pieces, keep, bits=64)
        broken = tf.stack([tf.reduce_sum(of_piece[INFINITE:]) for of_piece in counts])

        # Of those that tie the first stay: the highest of the distances to the end of the model.
        tied, distances = [], []
        distance = total = sum(sharding.size for sharding in self.shardings.values())
        for sharding, piece in zip(self.shardings.values(), pieces, strict=True):
            equal = _mapped(lambda keys, mask: mask & (keys == threshold), tf.bool, *piece)
            tied.append(tf.where(equal))
            distances.append(distance - sharding.positions(replica, tied[-1][:, 0]))
            distance -= sharding.size
        nearest, _, _ = _threshold([_all(tf.concat(distances, 0))], ties, total.bit_length())

        kept = {}
        for name, piece, indices, distance in zip(masks, pieces, tied, distances, strict=True):
            above = _mapped(lambda keys, mask: mask & (keys > threshold), tf.bool, *piece)
            flat = tf.tensor_scatter_nd_update(above, indices, distance >= nearest)
            kept[name] = tf.reshape(flat, tf.shape(masks[name]))
        return kept, _sum(broken)


Piece = tuple[tf.Tensor, tf.Tensor]  # int64 keys from 0 on, and which of them count


def _threshold(
    pieces: Sequence[Piece], keep: tf.Tensor, bits: int
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """The lowest of the `keep` highest keys of all replicas.

    Args:
      pieces: this replica's keys.
      keep: how many; more than there are is all.
      bits: of a key that count; those above are 0.

    Returns:
      The key; how many of the `keep` are equal to it; the first counts of each piece.
    """
    threshold, first_counts = tf.constant(0, tf.int64), None
    for shift in range((bits - 1) // BITS * BITS, -1, -BITS):
        counts = [_counts(*piece, shift) for piece in pieces]
        first_counts = first_counts or counts
        reach = tf.cumsum(_sum(tf.add_n(counts)), reverse=True)  # keys in this bucket or a higher
        keep = tf.minimum(keep, reach[0])
        bucket = tf.math.count_nonzero(reach >= keep) - 1
        keep -= tf.concat([reach, [0]], 0)[bucket + 1]
        threshold = threshold * BUCKETS + bucket
        pieces = [_all(tf.concat([_bucket(*piece, shift, bucket) for piece in pieces], 0))]
    # Of none, none is the lowest.
    return tf.where(keep > 0, threshold, tf.int64.max), keep, first_counts


def _sum(value: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def _digits(keys: tf.Tensor, shift: int) -> tf.Tensor:
    """The bits of one pass, as numbers below `BUCKETS`."""
    shifted = tf.bitwise.right_shift(keys, tf.constant(shift, tf.int64))
    return tf.cast(tf.bitwise.bitwise_and(shifted, BUCKETS - 1), tf.int32)


def _counts(keys: tf.Tensor, mask: tf.Tensor, shift: int) -> tf.Tensor:
    """How many keys lie in each bucket."""

    def count(keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        bins = tf.where(mask, _digits(keys, shift), BUCKETS)  # past the last: not counted
        none = tf.constant([], tf.int64)
        # What tf.math.bincount calls, which adds a dozen ops of checks to each of our many.
        return tf.raw_ops.DenseBincount(input=bins, size=BUCKETS, weights=none)

    if keys.shape.is_fully_defined() and keys.shape[0] <= CHUNK:
        return count(*_chunk(0, keys, mask))
    return tf.foldl(
        lambda counts, start: counts + count(*_chunk(start, keys, mask)),
        _starts(keys),
        tf.zeros(BUCKETS, tf.int64),
    )


def _bucket(keys: tf.Tensor, mask: tf.Tensor, shift: int, bucket: tf.Tensor) -> tf.Tensor:
    """The keys of one bucket."""
    bucket = tf.cast(bucket, tf.int32)

    def inside(keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(keys, tf.where(mask & (_digits(keys, shift) == bucket)))

    return _mapped(inside, tf.int64, keys, mask)


def _all(keys: tf.Tensor) -> Piece:
    return keys, tf.ones_like(keys, tf.bool)


def _mapped(
    function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    dtype: tf.DType,
    keys: tf.Tensor,
    mask: tf.Tensor,
) -> tf.Tensor:
    """What a function makes of chunk after chunk, in one row."""
    if keys.shape.is_fully_defined() and keys.shape[0] <= CHUNK:
        return function(*_chunk(0, keys, mask))
    return tf.map_fn(
        lambda start: function(*_chunk(start, keys, mask)),
        _starts(keys),
        fn_output_signature=tf.RaggedTensorSpec([None], dtype),
    ).flat_values


def _starts(keys: tf.Tensor) -> tf.Tensor:
    return tf.range(0, tf.size(keys, tf.int64), CHUNK)


def _chunk(start: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> Piece:
    keys, mask = keys[start : start + CHUNK], mask[start : start + CHUNK]
    # The bits of −0 are the lowest integer; as a score it is 0.
    return tf.where(keys == tf.int64.min, tf.constant(0, tf.int64), keys), mask
