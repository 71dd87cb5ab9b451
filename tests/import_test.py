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
