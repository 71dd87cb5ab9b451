"""Scores cut over replicas in every way that is hard, for tests/sharding_test.py and its worker."""

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from tf_synflow.masks.sharding import Sharding

# Zeros of both signs, the smallest and the largest numbers, and neighbours that only bits tell.
VALUES = (0.0, -0.0, 5e-324, 1e-300, 1.0, np.nextafter(1.0, 2), 2.0, np.finfo(float).max)


def shardings(replicas):
    """Columns, rows that leave some replicas without, all on the last, and unequal pieces."""
    unequal = [min(replica**2, 13) for replica in range(replicas)]
    return {
        "columns": Sharding.even((3, 17), 1, replicas),
        "rows": Sharding.even((5, 2, 3), 0, replicas),
        "last": Sharding((7,), 0, (0,) * replicas + (7,)),
        "unequal": Sharding((2, 13, 2), 1, (*unequal, 13)),
    }


@st.composite
def drawn(draw, shardings):
    """Scores, masks and a density."""
    total = sum(cut.size for cut in shardings.values())
    elements = draw(
        st.sampled_from([st.sampled_from(VALUES), st.floats(0, allow_infinity=False), st.just(3.0)])
    )
    scores = draw(st_np.arrays(float, total, elements=elements))
    masks = draw(st_np.arrays(bool, total)) | draw(st.booleans())
    ends = np.cumsum([cut.size for cut in shardings.values()])[:-1]

    def named(flat):
        parts = zip(shardings.items(), np.split(flat, ends), strict=True)
        return {name: part.reshape(cut.shape) for (name, cut), part in parts}

    return named(scores), named(masks), draw(st.floats(0, 1))


def distributed(strategy, shardings, arrays):
    """Each replica's piece of each array, as a strategy holds it."""

    def pieces_of(pieces):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(pieces[context.replica_id_in_sync_group])
        )

    return {name: pieces_of(shardings[name].cut(array)) for name, array in arrays.items()}


def local(strategy, value):
    return [piece.numpy() for piece in strategy.experimental_local_results(value)]


def gathered(strategy, shardings, values):
    """The whole arrays."""
    return {name: shardings[name].join(local(strategy, value)) for name, value in values.items()}
