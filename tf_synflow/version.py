"""The version, in one place, and the versions of what stands beneath; setup.py reads this file."""

from importlib import metadata

__version__ = "0.1.0"

_PACKAGES = (
    "tensorflow",
    "tf-keras",
    "keras",
    "tensorflow-model-optimization",
    "tensorflow-datasets",
    "ai-edge-litert",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of tf_synflow and of the packages whose numbers it builds on, for the record."""
    found = {"tf_synflow": __version__}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
