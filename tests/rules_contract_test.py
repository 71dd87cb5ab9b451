"""Every layer of both Kerases has a flow rule, or is listed here with the reason why not."""

import importlib
import inspect

import keras
import pytest
import tensorflow as tf
import tf_keras
from small_models import KERASES

from tf_synflow.flow.rules import registry

# What has no flow rule. A network that holds one is refused with an error that names it.
EXCLUDED = {
    "a base class": "Layer Wrapper AbstractRNNCell",
    "code of the user's own, which cannot be known": "Lambda TFSMLayer FlaxLayer JaxLayer "
    "TorchModuleWrapper",
    "text and categories in, integers out; it stands before the model": "CategoryEncoding "
    "Discretization HashedCrossing Hashing IntegerLookup StringLookup TextVectorization "
    "DenseFeatures MaxNumBoundingBoxes",
    "signal processing that stands before the model": "MelSpectrogram STFTSpectrogram "
    "ContrastLimitedAdaptiveHistogramEqualization",
    "a container of preprocessing": "Pipeline",
    "tf_keras alone has it, and deprecated": "LocallyConnected1D LocallyConnected2D",
}
REASONS = {name: why for why, names in EXCLUDED.items() for name in names.split()}

# Registered by the name of their class, which is not public: inside layers, exported under another
# name, or of keras.applications.
NOT_PUBLIC = set(
    "ConvLSTMCell GroupedQueryAttention LayerScale CustomScaleLayer StochasticDepth".split()
)


def layer_classes(k):
    found = vars(k.layers).items()
    return [n for n, c in found if inspect.isclass(c) and issubclass(c, k.layers.Layer)]


def has_rule(cls):
    """As `registry.find` decides it, without an instance."""
    for base in cls.__mro__:
        if base in registry._RULES or base.__name__ in registry._RULES:
            return True
        if "call" in vars(base):
            return False
    return False


@pytest.mark.parametrize(
    ("k", "name"), [(k.values[0], name) for k in KERASES for name in layer_classes(k.values[0])]
)
def test_a_layer_has_a_rule_or_a_reason(k, name):
    assert has_rule(getattr(k.layers, name)) != (name in REASONS), REASONS.get(name, "no rule")


def names(prefix=None):
    keys = [key for key in registry._RULES if isinstance(key, str)]
    if prefix:
        return sorted(key for key in keys if key.startswith(prefix))
    return sorted(key for key in keys if not key.startswith(("ops.", "tf.")))


@pytest.mark.parametrize("name", sorted({*names(), *REASONS}))
def test_a_registered_layer_exists(name):
    public = any(hasattr(k.layers, name) for k in (keras, tf_keras))
    assert public != (name in NOT_PUBLIC)


@pytest.mark.parametrize("name", names("ops."))
def test_a_registered_op_exists(name):
    modules = "core einops image linalg math nn numpy".split()
    found = (importlib.import_module(f"keras.src.ops.{module}") for module in modules)
    assert any(hasattr(module, name.removeprefix("ops.")) for module in found)


@pytest.mark.parametrize("name", names("tf."))
def test_a_registered_function_exists(name):
    found = tf
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert callable(found)
