"""The parent's side of a `worker`: commands, time limits, and typed errors for what goes wrong."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

from tf_synflow import errors

_PATIENCE = 120.0
"""Seconds that a command may take beyond those that it was told to run for."""


class Child:
    """A process with one file in one runtime; a context manager, which ends it.

    Whatever the file does to the runtime (a crash, a hang, all memory) is a `ModelError` here.

    Args:
      path: of the .tflite file.
      runtime: "interpreter" or "compiled".
      threads: at least 1.
      seed: of the random inputs.
      patience: seconds that a command may take beyond those that it was told to run for.

    Example:
      >>> with Child("model.tflite") as child:
      ...     child.ask("idle"), child.ask("load"), child.ask("run", 1.0)["seconds"]
    """

    def __init__(
        self,
        path: str | os.PathLike,
        runtime: str = "interpreter",
        threads: int = 1,
        seed: int = 0,
        patience: float = _PATIENCE,
    ):
        self._path = pathlib.Path(path)
        self._patience = patience
        self._log = tempfile.TemporaryFile()
        root = str(pathlib.Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        arguments = [str(self._path.resolve()), runtime, str(threads), str(seed)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tf_synflow.deployment.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def ask(self, command: str, seconds: float = 0.0) -> dict[str, Any]:
        """Sends a command, `idle`, `load`, `peak` or `run`, and waits for the answer.

        Args:
          command: a method of the worker's `Session`.
          seconds: for `run`, how long.

        Raises:
          ModelError: the runtime refuses the file, crashes at it, or does not come to an end.
        """
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self._patience + seconds, stop)
        timer.start()
        try:
            line = f"{command} {seconds}\n" if command == "run" else f"{command}\n"
            self._process.stdin.write(line)
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if not answer:
            raise self._ended(command, late.is_set())
        found = json.loads(answer)
        if "error" in found:
            raise errors.ModelError(
                f"{str(self._path)!r}: the runtime cannot {command} it ({found['error']}); "
                "expected a file that loads and runs. Export it again, with sparse=False if it "
                "is sparse."
            )
        return found

    def _ended(self, command: str, late: bool) -> errors.ModelError:
        if late:
            return errors.ModelError(
                f"{str(self._path)!r}: the runtime did not {command} it within "
                f"{self._patience:.0f} seconds and was stopped; expected a file that loads and "
                "runs. Export it again."
            )
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        quoted = f"; it last said: {said[-1][:200]}" if said else ""
        return errors.ModelError(
            f"{str(self._path)!r}: the runtime crashed at it (to {command} it, the process {how}"
            f"{quoted}); expected a file that loads and runs. Export it again."
        )
