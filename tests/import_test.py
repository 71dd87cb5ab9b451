"""What importing the package costs, and what its public names say of themselves."""

import os
import pathlib
import subprocess
import sys

import pytest

import tf_synflow

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "tensorflow_datasets")


def python(code, **environment):
    """What a fresh process prints."""
    clean = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = (
        f"import sys, tf_synflow; dir(tf_synflow); print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_pruning_a_model_of_keras_3_imports_nothing_of_the_other_keras():
    code = """
import sys, keras
keras_imports_it = "matplotlib" in sys.modules  # as it does where that is installed
import tf_synflow
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
tf_synflow.prune_at_init(model, 2, verbose=False)
others = ("tf_keras", "tensorflow_model_optimization", "tensorflow_datasets", "ai_edge_litert")
others = others if keras_imports_it else (*others, "matplotlib")
print([m for m in others if m in sys.modules])
"""
    assert python(code) == "[]"


def test_public_names_of_pruning_import_no_keras_but_the_one_of_tensorflow():
    code = """
import sys, tensorflow, tf_synflow
before = set(sys.modules)
tf_synflow.prune_at_init, tf_synflow.score, tf_synflow.Masks, tf_synflow.summary
new = {m.split(".")[0] for m in set(sys.modules) - before}
print(sorted(new - {"tf_synflow", "tqdm", *sys.stdlib_module_names}))
"""
    assert python(code) == "[]"


@pytest.mark.parametrize("value", [None, "0"])
def test_tfmot_leaves_the_choice_of_keras_as_it_was(value):
    code = (
        "import os, tf_synflow; tf_synflow.SynFlowPruningSchedule;"
        "print(os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    environment = {} if value is None else {"TF_USE_LEGACY_KERAS": value}
    assert python(code, **environment) == str(value)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        tf_synflow.prune  # noqa: B018


def test_dir_lists_the_public_names():
    assert set(tf_synflow.__all__) <= set(dir(tf_synflow))


@pytest.mark.parametrize("name", tf_synflow.__all__)
def test_every_public_name_exists_and_says_what_it_is(name):
    value = getattr(tf_synflow, name)
    if name == "__version__":
        assert value.count(".") == 2
        return
    assert value.__doc__ and value.__doc__.strip()
    if callable(value):
        assert "Example:" in value.__doc__, f"{name}: its docstring has no Example"
        assert ">>>" in value.__doc__
