"""What each encoding of a dense layer costs: three in a row, batch 1, one thread.

    python benchmarks/export_speed.py
    python benchmarks/export_speed.py --size=256  # all weights in a cache

Times are interleaved, medians of 50 runs in ai-edge-litert, in one process. The costs in
tf_synflow/export/encodings.py are from here: time over the dense time, over the share that is
stored.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

from tf_synflow import compat
from tf_synflow.export.convert import convert
from tf_synflow.export.encode import encode
from tf_synflow.export.signature import Signature

_SIZE = flags.DEFINE_integer("size", 1024, "Inputs and outputs of each layer.")


def dense_file(zeros: float, block: int, quantize: str | None) -> bytes:
    """An MLP whose zeros come in blocks of 1 x `block` along the input."""
    keras, size = compat.keras(), _SIZE.value
    rng = np.random.default_rng(0)
    layers = [keras.layers.Dense(size, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((size,), name="x"), *layers])
    for layer in layers:
        kernel, bias = layer.get_weights()
        kernel[np.repeat(rng.random((size // block, size)) < zeros, block, axis=0)] = 0
        layer.set_weights([kernel, bias])
    inputs = {"x": rng.standard_normal((16, size)).astype(np.float32)}
    known = inputs if quantize == "int8" else None
    return convert(Signature(model), quantize=quantize, representative=known)


def encoded(content: bytes, encoding: str) -> bytes:
    """The file with its kernels in an encoding."""
    return encode(content, lambda weight: encoding if weight.values.ndim == 2 else "dense")


def times(files: dict[str, bytes]) -> dict[str, float]:
    """Median microseconds of each file, interleaved."""
    from ai_edge_litert.interpreter import Interpreter

    found: dict[str, list[float]] = {name: [] for name in files}
    loaded = {name: Interpreter(model_content=file, num_threads=1) for name, file in files.items()}
    inputs = np.random.default_rng(1).standard_normal((1, _SIZE.value)).astype(np.float32)
    for interpreter in loaded.values():
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
        interpreter.invoke()
    for _ in range(50):
        for name, interpreter in loaded.items():
            interpreter.invoke()  # brings back to the cache what the others have put out of it
            start = time.perf_counter()
            interpreter.invoke()
            found[name].append(time.perf_counter() - start)
    return {name: 1e6 * float(np.median(values)) for name, values in found.items()}


def main(argv: list[str]) -> None:
    """Prints a line for each share of zeros."""
    del argv
    print("| zeros | encoding | bytes | µs | dense / this | cost |")
    print("| --- | --- | --- | --- | --- | --- |")
    for zeros in (0.8, 0.9, 0.95, 0.98, 0.99):
        plain, blocks = dense_file(zeros, 1, None), dense_file(zeros, 4, None)
        whole, quantized = dense_file(zeros, 16, "int8"), "dense int8"
        files = {
            "dense": plain,
            "csr, DENSIFY": encoded(plain, "csr"),
            "csr, no DENSIFY": encoded(plain, "rows"),
            "1x4": encoded(blocks, "block 1x4"),
            quantized: whole,
            "1x16 int8": encoded(whole, "block 1x16"),
        }
        found = times(files)
        for name, file in files.items():
            ratio = found[name] / found[quantized if "int8" in name else "dense"]
            print(
                f"| {zeros:.0%} | {name} | {len(file):,} | {found[name]:.0f} | {1 / ratio:.2f} "
                f"| {ratio / (1 - zeros):.1f} |"
            )


if __name__ == "__main__":
    app.run(main)
