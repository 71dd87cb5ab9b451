"""A process of its own for each framework: it is told what to do in JSON, a line a command.

Standard library alone, as both environments import it.
"""

import contextlib
import ctypes
import gc
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
THREADS = (
    "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS "
    "TF_NUM_INTRAOP_THREADS TF_NUM_INTEROP_THREADS"
).split()


class Worker:
    """The driver's end.

    Args:
      module: whose commands the process serves, `paper.our_worker` or `paper.reference_worker`.
      python: the interpreter of that module's environment.
      threads: what its libraries are told; it is also held to that many processors, so that
        nothing in it can take more.

    Example:
      >>> with Worker("paper.our_worker", sys.executable, threads=1) as ours:
      ...     ours("load", network="vgg16_bn", size=32)
    """

    def __init__(self, module: str, python: str, threads: int):
        processors = sorted(os.sched_getaffinity(0))[:threads]
        if len(processors) < threads:
            raise SystemExit(f"threads: received {threads}; there are {len(processors)} processors")
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                **dict.fromkeys(THREADS, str(threads)),
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            preexec_fn=lambda: os.sched_setaffinity(0, processors),
        )

    def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            status = self._process.wait()
            raise RuntimeError(f"{self._module} ended with status {status} at {command!r}.")
        return json.loads(reply)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and said why
            self._process.stdin.close()
        self._process.wait()


def serve(commands: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """The worker's end: answers until the driver closes the pipe."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints does not get among the replies
    for line in sys.stdin:
        command, arguments = json.loads(line)
        replies.write(json.dumps(commands[command](**arguments)) + "\n")
        replies.flush()


def seconds_of(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds on the clock, seconds of the processors, and what the work returned."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - clock, time.process_time() - processor, result


def start_of_peak() -> int:
    """Bytes resident now; from here on `peak` looks for the highest."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building the model left free is not in use
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The most bytes resident since `start_of_peak`."""
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: run on Linux.")
