"""Verification finds files that do not compute what the model computes."""

import keras
import numpy as np
import pytest

from tf_synflow import errors
from tf_synflow.export.convert import convert
from tf_synflow.export.probes import probes
from tf_synflow.export.signature import Signature
from tf_synflow.export.verify import verify


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return network()


def network():
    return keras.Sequential(
        [
            keras.Input((12,), name="x"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(4, name="y"),
        ]
    )


@pytest.fixture(scope="module")
def content(model):
    return convert(Signature(model))


def run(content, model):
    signature = Signature(model)
    return verify(content, signature, probes(signature, batch_size=None))


def test_the_models_own_file_agrees(content, model):
    agreement = run(content, model)
    assert agreement.max_rel < 1e-6
    assert agreement.argmax == 1.0
    assert tuple(agreement.runtimes) == ("Interpreter", "CompiledModel", "tf.lite")
    assert not agreement.not_run


def test_another_models_file_is_found_out(content, model):
    with pytest.raises(
        errors.ExportError, match="differs from the Keras model in output 'y'"
    ) as said:
        run(content, network())
    for runtime in ("Interpreter", "CompiledModel", "tf.lite"):  # one of which may be the reason
        assert f"in {runtime}" in str(said.value)


@pytest.mark.parametrize("value", [np.float32(np.nan), np.float32(7.0)])
def test_one_weight_changed_in_the_file_is_found_out(content, model, value):
    weight = np.float32(model.layers[-1].get_weights()[0][3, 1]).tobytes()
    assert content.count(weight) == 1
    with pytest.raises(errors.ExportError, match="NaN|differs"):
        run(content.replace(weight, value.tobytes()), model)


def test_a_file_that_follows_nothing_is_refused_or_warned_of():
    """Within any tolerance of the largest value, for both have the same large biases."""

    def far_from_zero():
        other = network()
        other.layers[-1].bias.assign([1e3] * 4)
        return Signature(other)

    content, reference = convert(far_from_zero()), far_from_zero()
    data = np.random.default_rng(0).standard_normal((64, 12))
    batches = list(probes(reference, batch_size=None, samples=data))
    with pytest.raises(errors.ExportError, match="does not follow the Keras model in output 'y'"):
        verify(content, reference, batches, 1e-2)
    agreement = verify(content, reference, batches, 1e-2, must_follow=False)
    assert "WARNING" in agreement.notes[0]
    assert agreement.unfollowed > 0.95


def test_bytes_that_are_no_model_do_not_load(model):
    with pytest.raises(errors.ExportError, match="cannot load"):
        run(b"not a flatbuffer at all", model)


def test_samples_reach_what_random_inputs_do_not():
    inputs = keras.Input((2,), name="x")

    def clipped(limit):
        return Signature(keras.Model(inputs, keras.layers.ReLU(limit, name="y")(inputs)))

    content = convert(clipped(50.0))
    reference = clipped(60.0)
    verify(content, reference, probes(reference, batch_size=None))
    samples = np.array([[55.0, 70.0]])
    with pytest.raises(errors.ExportError, match="on a sample input in Interpreter"):
        verify(content, reference, probes(reference, batch_size=None, samples=samples))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.ones((3, 11)), "have shape"),
        (np.ones((0, 12)), "at least one"),
        (np.full((2, 12), np.nan), "not finite"),
        ([np.ones((2, 12)), np.ones((2, 12))], "have shape"),
    ],
)
def test_samples_that_do_not_fit(model, samples, words):
    with pytest.raises(errors.DataError, match=words):
        list(probes(Signature(model), batch_size=None, samples=samples))


def test_probes_depend_on_the_seed_alone(model):
    def drawn(seed):
        return [batch for _, batch in probes(Signature(model), batch_size=2, seed=seed)]

    name = Signature(model).inputs[0].name
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not np.array_equal(drawn(1)[-1][name], drawn(2)[-1][name])
