"""How far two arrays are apart, NaN and infinity included."""

import keras
import numpy as np
import pytest

from tf_synflow.inject import agreement

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, -4], [1.5, -4], (0.5, 4)),
        ([NAN, 2], [NAN, 2], (0, 2)),
        ([INF, -INF, 2], [INF, -INF, 2], (0, 2)),
        ([INF, 2], [-INF, 2], (INF, 2)),
        ([NAN, 2], [1, 2], (INF, 2)),
        ([1, 2], [NAN, 2], (INF, 2)),
        ([], [], (0, 0)),
    ],
)
def test_apart(one, other, expected):
    assert agreement.apart(np.array(one, "float32"), np.array(other, "float32")) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("float32", 1e-4), ("mixed_float16", 2e-2), ("mixed_bfloat16", 1e-1)],
)
def test_tolerance(policy, expected):
    layers = [keras.Input((4,)), keras.layers.Dense(3, dtype=policy)]
    assert agreement.tolerance(keras.Sequential(layers)) == expected
