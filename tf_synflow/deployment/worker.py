"""A child process that holds one model: it loads and runs it on command and says what it saw.

What a file does to the runtime, it does here. Commands come as lines on standard input and answers
go as lines of JSON to standard output; the runtime's own output is sent to standard error.
"""

import contextlib
import gc
import json
import math
import os
import sys
import time
from typing import Any

import numpy as np

_SAMPLES = 1000
"""Latencies sent back of one run: of more, every n-th."""


class Interpreted:
    """A file in ai_edge_litert's Interpreter, with its default delegate."""

    def __init__(self, path: str, threads: int):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        self._interpreter.allocate_tensors()
        self.run = self._interpreter.invoke

    def fill(self, rng: np.random.Generator) -> list[str]:
        """Sets random inputs; returns their types and shapes."""
        inputs = self._interpreter.get_input_details()
        for item in inputs:
            self._interpreter.set_tensor(
                item["index"], _random(rng, tuple(item["shape"]), np.dtype(item["dtype"]))
            )
        return [_described(tuple(item["shape"]), np.dtype(item["dtype"])) for item in inputs]


class Compiled:
    """A file in ai_edge_litert's CompiledModel, on the CPU."""

    def __init__(self, path: str, threads: int):
        from ai_edge_litert import compiled_model

        options = compiled_model.Options(
            hardware_accelerators=compiled_model.HardwareAccelerator.CPU,
            cpu_options=compiled_model.CpuOptions(num_threads=threads),
        )
        self._model = compiled_model.CompiledModel.from_file(path, options=options)
        self._inputs = self._model.create_input_buffers(0)
        self._outputs = self._model.create_output_buffers(0)

    def fill(self, rng: np.random.Generator) -> list[str]:
        """As of `Interpreted`."""
        key = next(iter(self._model.get_signature_list()))
        names = self._model.get_signature_by_index(0)["inputs"]
        details = self._model.get_input_tensor_details(key)
        found = []
        for name, buffer in zip(names, self._inputs, strict=True):
            shape = tuple(max(size, 1) for size in details[name]["shape"])
            dtype = np.dtype(details[name]["dtype"])
            buffer.write(_random(rng, shape, dtype))
            found.append(_described(shape, dtype))
        return found

    def run(self) -> None:
        """One inference."""
        self._model.run_by_index(0, self._inputs, self._outputs)


RUNTIMES = {"interpreter": Interpreted, "compiled": Compiled}


class Session:
    """What the commands do, each a method; the answers are what they return.

    Args:
      path: of the file.
      runtime: one of `RUNTIMES`.
      threads: at least 1.
      seed: of the random inputs.
    """

    def __init__(self, path: str, runtime: str, threads: str, seed: str):
        self._make = lambda: RUNTIMES[runtime](path, int(threads))
        self._seed = int(seed)
        self._model: Any = None
        self._idle = 0

    def idle(self) -> dict[str, int | None]:
        """Imports the runtime and notes the memory of a process that has nothing loaded."""
        from ai_edge_litert import compiled_model, interpreter  # noqa: F401

        gc.collect()
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
        self._idle = _memory("VmRSS") or 0
        return {"bytes": self._idle or None}

    def load(self) -> dict[str, Any]:
        """Loads the file anew and times it; then fills its inputs and runs it once."""
        self._model = None
        start = time.perf_counter()
        self._model = self._make()
        seconds = time.perf_counter() - start
        inputs = self._model.fill(np.random.default_rng(self._seed))
        self._model.run()
        return {"seconds": seconds, "inputs": inputs}

    def peak(self) -> dict[str, int | None]:
        """The most memory so far, in bytes over that of the idle process."""
        most = _memory("VmHWM")
        return {"bytes": most - self._idle if most and self._idle else None}

    def run(self, seconds: str) -> dict[str, Any]:
        """Runs for so long, once at least; the latencies in seconds."""
        times, run, clock = [], self._model.run, time.perf_counter
        end = clock() + float(seconds)
        now = clock()
        while not times or now < end:
            run()
            times.append(-now + (now := clock()))
        return {"count": len(times), "seconds": times[:: 1 + len(times) // _SAMPLES]}


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Standard normal floats, any int8 or uint8, else zeros, an index of any table."""
    if dtype.kind == "f":
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        return np.frombuffer(rng.bytes(math.prod(shape)), dtype).reshape(shape)
    return np.zeros(shape, dtype)


def _described(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{dtype.name} {'x'.join(map(str, shape)) or 'scalar'}"


def _memory(field: str) -> int | None:
    """Bytes of a field of /proc/self/status; None where there is none."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return None


def _limit() -> None:
    """Leaves the machine a quarter of its memory, and no core file."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_DATA, (total * 3 // 4,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serves commands until standard input ends."""
    _limit()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    session = Session(*sys.argv[1:])
    for line in sys.stdin:
        command, *arguments = line.split()
        try:
            answer = getattr(session, command)(*arguments)
        except Exception as error:  # whatever a runtime raises at a file goes to the parent
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
