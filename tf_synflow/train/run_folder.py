"""The folder of a run: what it was asked, what it did, what came out."""

import contextlib
import json
import os
import platform
import tempfile
from pathlib import Path

from tf_synflow import files, version
from tf_synflow.errors import OutputError
from tf_synflow.masks.masks import Masks
from tf_synflow.train.config import TrainConfig

_CONFIG = "config.json"


class RunFolder:
    """Paths and records of one run.

    `flags.cfg` (a flagfile that repeats the run), `config.json` (the same, to compare on resume),
    `versions.json`, `metrics.jsonl` (a line an epoch), `masks.npz`, `checkpoints/`,
    `tensorboard/`, `model.keras`, `model.tflite` if asked for, `report.json`, `report.txt`.

    Args:
      path: The folder to write.
      source: The folder that the state of the run is read from; by default the same. A worker
        other than the chief reads the chief's and writes its own, which nobody keeps.
    """

    def __init__(self, path: str | os.PathLike, source: "RunFolder | None" = None):
        self.path = Path(path).expanduser()
        self.source = source or self

    @property
    def masks(self) -> Path:
        return self.path / "masks.npz"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def tflite(self) -> Path:
        return self.path / "model.tflite"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def dense(self) -> "RunFolder":
        """Where the dense twin of the run trains."""
        source = None if self.source is self else self.source.dense
        return RunFolder(self.path / "dense", source)

    def check(self, config: TrainConfig, *, resume: bool) -> None:
        """Checks that a new run may have the folder, or that it holds this run to be resumed.

        Nothing is written.

        Raises:
          OutputError: The folder holds something else, cannot be written, or there is nothing to
            resume or not this run.
        """
        if resume:
            self._check_same_run(config)
        else:
            self._check_free()
        self._check_writable()

    def claim(self, config: TrainConfig, masks: Masks | None) -> None:
        """Files what the run was asked and its masks, unless they are there already."""
        if (self.path / _CONFIG).exists():
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if config.compare_dense:
                self.dense.path.mkdir(exist_ok=True)
            if masks is not None:
                masks.save(self.masks)
            self._write_records(config)
        except OSError as error:
            raise self._not_writable(error) from error

    def append_metrics(self, line: dict) -> None:
        """Adds one epoch; it is on disk on return."""
        with open(self.metrics, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict]:
        """The epochs so far; a line that a kill cut off is left out."""
        lines = []
        if self.metrics.exists():
            for line in self.metrics.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    lines.append(json.loads(line))
        return lines

    def cut_metrics(self, epochs: int) -> None:
        """Forgets the epochs after the first `epochs`, which are about to be trained again."""
        kept = [line for line in self.read_metrics() if line["epoch"] <= epochs]
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, name: str, text: str) -> Path:
        """Writes a text file of the folder, whole or not at all."""
        path = self.path / name
        with files.whole(path) as temporary:
            temporary.write_text(text)
        return path

    def _write_records(self, config: TrainConfig) -> None:
        header = [
            "# A run of tf_synflow. To repeat it:",
            f"#   tf-synflow-train --flagfile={self.path / 'flags.cfg'} --output_dir=<new folder>",
        ]
        self.write("flags.cfg", "\n".join([*header, *config.flag_lines(), ""]))
        versions = {"python": platform.python_version(), **version.versions()}
        self.write("versions.json", json.dumps(versions, indent=2) + "\n")
        # Last: a folder with this file is a run.
        self.write(_CONFIG, json.dumps(config.__dict__, indent=2) + "\n")

    def _check_free(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise OutputError(
                f"Output folder {str(self.path)!r} is a file; expected a folder or a path that is "
                "free. Choose another --output_dir."
            )
        if (self.path / _CONFIG).exists():
            raise OutputError(
                f"Output folder {str(self.path)!r} holds another run; expected a new or empty "
                "folder. Choose another --output_dir, or go on with that run: --resume."
            )
        if any(self.path.iterdir()):
            raise OutputError(
                f"Output folder {str(self.path)!r} is not empty; expected a new or empty folder. "
                "Choose another --output_dir."
            )

    def _check_same_run(self, config: TrainConfig) -> None:
        record = self.path / _CONFIG
        try:
            saved = json.loads(record.read_text())
            saved["lr_drops"] = tuple(saved["lr_drops"])
            saved = TrainConfig(**saved)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"There is no run to resume in {str(self.path)!r} ({error}); expected the folder "
                "of a run. Correct --output_dir, or start anew without --resume."
            ) from error
        differences = config.differences(saved)
        if differences:
            raise OutputError(
                f"{str(self.path)!r} holds another run: {'; '.join(differences)}. Expected the "
                f"same flags: --flagfile={self.path / 'flags.cfg'} --resume."
            )

    def _check_writable(self) -> None:
        existing = self.path
        while not existing.exists():
            existing = existing.parent
        try:
            with tempfile.NamedTemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> OutputError:
        return OutputError(
            f"Output folder {str(self.path)!r} cannot be written ({error}); expected a folder "
            "that can be made and written to. Change its permissions or choose another "
            "--output_dir."
        )
