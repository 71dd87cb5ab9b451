"""Whether a file is told apart from a constant, and a good one is not taken for one."""

import keras
import numpy as np
import pytest

from tf_synflow import errors
from tf_synflow.export import export_tflite
from tf_synflow.export.following import Following


def followed(expected, received, batch=8):
    following = Following("y", "Interpreter")
    for start in range(0, len(expected), batch):
        some = slice(start, start + batch)
        following.add(*(np.asarray(a[some], np.float64) for a in (expected, received)))
    return following


@pytest.fixture
def varied():
    return np.random.default_rng(0).standard_normal((64, 3))


def test_the_share_is_what_no_line_through_the_pairs_explains(varied):
    noise = np.random.default_rng(1).standard_normal(64)[:, np.newaxis]
    model = 1000 + varied[:, :1]
    file = 5 + 2 * model + noise
    correlation = np.corrcoef(model[:, 0], file[:, 0])[0, 1]
    share = followed(model, file).unfollowed
    assert share == pytest.approx(np.sqrt(1 - correlation**2), rel=1e-9)
    assert followed(model, 2 * model + 5).unfollowed == pytest.approx(0, abs=1e-6)
    assert followed(model, np.full_like(model, 1000)).unfollowed == 1
    assert followed(model, -model).unfollowed == 1


def test_each_element_varies_about_its_own_mean(varied):
    maps = np.stack([varied, varied + 50], axis=1)  # two positions, three channels
    assert followed(maps, maps).unfollowed == pytest.approx(0, abs=1e-6)
    only_means = np.broadcast_to(maps.mean(axis=0), maps.shape)
    assert followed(maps, only_means).unfollowed == 1


def test_what_half_of_the_columns_lost_is_refused(varied):
    """As boxes in pixels beside scores, in one tensor of int8."""
    table = np.concatenate([640 * varied[:, :2], 0.3 * varied], axis=1)
    lost = table.copy()
    lost[:, 2:] = 0.1
    following = followed(table, lost)
    with pytest.raises(
        errors.ExportError, match=r"in 3 of 5 columns that vary, the last axis: 2, 3, 4\)"
    ):
        following.check()
    lost[:, 3:] = table[:, 3:]
    following = followed(table, lost)
    following.check()
    (note,) = following.notes()
    assert (
        "output 'y' does not follow the model's (in 1 of 5 columns that vary, the last axis: 2)"
        in note
    )


def test_a_saturated_sigmoid_is_as_near_as_int8_has_it():
    sure = 0.9999 + 1e-4 * np.random.default_rng(0).random((64, 1))
    following = followed(sure, np.full_like(sure, 255 / 256))
    assert following.unfollowed == 1
    following.check()
    (note,) = following.notes()
    assert "step of 1/256" in note and "WARNING" not in note
    with pytest.raises(errors.ExportError, match="a constant would do as well"):
        followed(sure, np.full_like(sure, 0.9991)).check()  # no step of a sigmoid


def test_where_nothing_can_be_told(varied):
    table = varied[:, :1]
    constant = np.full((64, 1), 3.0) * (1 + 1e-7 * table)  # what float32 rounds
    for expected, received in (
        (table[:15], np.zeros((15, 1))),
        (constant, constant + 1),
        (np.zeros((64, 0)), np.zeros((64, 0))),
        (np.float64(3), np.float64(4)),
    ):
        following = Following("y", "Interpreter")
        following.add(expected, received)
        following.check()
        assert following.notes() == []
    following = followed(table, table)
    following.add(np.ones((4, 2)), np.zeros((4, 2)))  # of another size
    assert following.unfollowed is None


def _trained_on_two_classes():
    """A sure softmax, and its data listed by class."""
    keras.utils.set_random_seed(0)
    labels = np.arange(400) >= 200
    inputs = np.random.default_rng(0).standard_normal((400, 8), np.float32)
    inputs[:, 0] += np.where(labels, 8, -8)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2, "softmax")]
    )
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    model.fit(inputs, labels, epochs=5, verbose=0)
    return model, inputs


def test_data_listed_by_class_are_compared_all_over(tmp_path):
    model, inputs = _trained_on_two_classes()
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, quantize="int8", representative_data=inputs)
    assert report.agreement.unfollowed < 0.1
    # And those of one class alone, of which it is sure, are no reason to refuse the file.
    one = export_tflite(model, path, quantize="int8", representative_data=inputs[:200])
    assert one.agreement.unfollowed > 0.5
    assert one.notes == one.agreement.notes == ()


def test_scores_beside_pixels_in_one_output_are_refused_in_int8(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    boxes = keras.layers.Rescaling(640.0)(keras.layers.Dense(4, "sigmoid")(inputs))
    scores = keras.layers.Dense(10, "softmax")(inputs)
    together = keras.Model(inputs, keras.layers.Concatenate(name="both")([boxes, scores]))
    data = np.random.default_rng(0).standard_normal((64, 8), np.float32)
    int8 = {"quantize": "int8", "representative_data": data}
    path = tmp_path / "model.tflite"
    with pytest.raises(
        errors.ExportError,
        match="output 'both': .*in 10 of 14 columns that vary, the last axis: 4, 5",
    ):
        export_tflite(together, path, **int8)
    assert not path.exists()
    assert export_tflite(together, path).agreement.unfollowed < 1e-4
    apart = export_tflite(keras.Model(inputs, [boxes, scores]), path, **int8)
    assert apart.agreement.unfollowed < 0.2
