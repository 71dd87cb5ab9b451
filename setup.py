"""All metadata of tf_synflow; the settings of the tools are in pyproject.toml."""

import pathlib
import runpy

import setuptools

ROOT = pathlib.Path(__file__).parent

# version.py imports only the standard library: TensorFlow is not needed to build.
VERSION = runpy.run_path(str(ROOT / "tf_synflow" / "version.py"))["__version__"]

setuptools.setup(
    name="tf-synflow",
    version=VERSION,
    description="Prune Keras models at initialization with SynFlow, train sparse, ship as TFLite",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="pruning sparsity synflow tensorflow keras tflite model-optimization",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=setuptools.find_packages(include=["tf_synflow", "tf_synflow.*"]),
    # TensorFlow 2.21 and ai-edge-litert have wheels for 3.10 to 3.13.
    python_requires=">=3.10,<3.14",
    install_requires=[
        "absl-py>=1.2",
        "ai-edge-litert>=2.1",
        # To write sparse tensors into a TFLite file; TensorFlow brings it too.
        "flatbuffers>=24.3",
        # TensorFlow Datasets asks for any; old pips search for minutes where newer ones are.
        "etils<1.14; python_version < '3.11'",
        # TensorFlow Datasets 4.9.10 imports it for a download, and asks for it on old Pythons only.
        "importlib-resources>=6.0",
        # 3.12 is the last Keras for Python 3.10.
        "keras>=3.12",
        "numpy>=1.26",
        # TFMOT imports distutils, which left the standard library in 3.12.
        "setuptools; python_version >= '3.12'",
        "scikit-learn>=1.3",
        "scipy>=1.10",
        # For the events of a training run; TensorFlow no longer brings it.
        "tensorboard>=2.20",
        "tensorflow>=2.21",
        "tensorflow-datasets>=4.9.9",
        "tensorflow-model-optimization>=0.8.1",
        "tf-keras>=2.21",
        "threadpoolctl>=3.1",
        "tqdm>=4.65",
        # Of a file, what a download takes.
        "zstandard>=0.22",
    ],
    extras_require={
        "test": ["hypothesis>=6.100", "pytest>=8.0", "pytest-xdist>=3.8", "ruff>=0.12"],
    },
    entry_points={
        "console_scripts": [
            "tf-synflow-train = tf_synflow.cli.train:run",
            "tf-synflow-prune = tf_synflow.cli.prune:run",
            "tf-synflow-export = tf_synflow.cli.export:run",
            "tf-synflow-benchmark = tf_synflow.cli.benchmark:run",
        ],
    },
)
