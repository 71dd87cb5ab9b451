"""Masks: which weights of a network are kept, and the file that remembers it."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tf_synflow import errors, files, version
from tf_synflow.masks import bits

SCHEMA = "tf_synflow.masks/1"


class Masks(Mapping[str, np.ndarray]):
    """A mapping from weight name to a bool array of the weight's shape, True = kept.

    The arrays cannot be written to.

    Args:
      arrays: by weight name; bool, or numbers that are all 0 or 1.
      info: JSON-able facts about where the masks come from (scorer, schedule, seed, versions).

    Raises:
      MaskError: no masks, or a value other than 0 and 1.

    Example:
      >>> masks = Masks({"dense/kernel": np.array([[1, 0], [0, 0]])})
      >>> masks.density, masks.compression
      (0.25, 4.0)
    """

    def __init__(self, arrays: Mapping[str, Any], info: Mapping[str, Any] | None = None):
        if not isinstance(arrays, Mapping):
            raise errors.MaskError(
                f"masks: received {type(arrays).__name__}; expected a mapping from weight name to "
                "0/1 array. A mask file is read by Masks.load(path)."
            )
        if not arrays:
            raise errors.MaskError(
                "masks: received none; expected at least one array. A model that was not pruned, "
                "or was stripped, has none."
            )
        self._arrays = {name: _as_mask(name, array) for name, array in arrays.items()}
        self.info = dict(info or {})

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(np.array_equal(self[n], other[n]) for n in self)

    __hash__ = None

    def __repr__(self) -> str:
        return (
            f"Masks({len(self)} tensors, {self.kept:,} of {self.size:,} weights kept, "
            f"compression {self.compression:.6g})"
        )

    @property
    def size(self) -> int:
        """Number of prunable weights, N."""
        return sum(mask.size for mask in self.values())

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return sum(int(np.count_nonzero(mask)) for mask in self.values())

    @property
    def density(self) -> float:
        """Kept / prunable weights, in [0, 1]."""
        return self.kept / self.size

    @property
    def compression(self) -> float:
        """Prunable / kept weights; infinite where nothing is kept."""
        return self.size / self.kept if self.kept else float("inf")

    def summary(self) -> str:
        """A table of the tensors: shape, weights kept, density."""
        width = max(len(name) for name in [*self, "weight"])
        lines = [f"{'weight':{width}}  {'shape':>18}  {'kept':>12}  {'of':>12}  density"]
        for name, mask in self.items():
            shape = "×".join(map(str, mask.shape))
            kept = int(np.count_nonzero(mask))
            lines.append(
                f"{name:{width}}  {shape:>18}  {kept:12,}  {mask.size:12,}  {kept / mask.size:.4g}"
            )
        total = f"{'total':{width}}  {'':>18}  {self.kept:12,}  {self.size:12,}  {self.density:.4g}"
        return "\n".join([*lines, total])

    def check_fits(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Checks that there is one mask for each weight, of its shape.

        Args:
          shapes: shapes of the weights by name.

        Raises:
          MaskError: says which names or shapes differ.
        """
        unknown = [name for name in self if name not in shapes]
        if unknown:
            raise errors.MaskError(
                f"masks: received masks for {_some(unknown)}, which the model does not have; its "
                f"weights are {_some(list(shapes))}. Are they the masks of another model?"
            )
        for name, mask in self.items():
            if mask.shape != tuple(shapes[name]):
                raise errors.MaskError(
                    f"mask of {name!r}: received shape {mask.shape}; expected "
                    f"{tuple(shapes[name])}, that of the weight. Are they the masks of another "
                    "model?"
                )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the masks to one file: bits, shapes and `info`; nothing is pickled.

        The file appears whole or not at all.

        Args:
          path: where to; the usual ending is `.npz`.

        Raises:
          OutputError: the folder is missing or cannot be written.
        """
        header = json.dumps(
            {
                "schema": SCHEMA,
                "tf_synflow": version.__version__,
                "shapes": {name: list(mask.shape) for name, mask in self.items()},
                "info": self.info,
            }
        )
        packed = {f"bits/{name}": bits.pack(mask) for name, mask in self.items()}
        with files.whole(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, header=np.array(header), **packed)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Masks":
        """Reads what `save` wrote.

        Raises:
          MaskFileError: no file, truncated or damaged, not a mask file, of another schema.

        Example:
          >>> masks.save("masks.npz"); Masks.load("masks.npz") == masks
          True
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header.get("schema") != SCHEMA:
                    raise errors.MaskFileError(
                        f"mask file {str(path)!r}: received schema {header.get('schema')!r}; "
                        f"expected {SCHEMA!r}. Write it again with this version of tf_synflow "
                        f"({version.__version__})."
                    )
                arrays = {
                    name: bits.unpack(file[f"bits/{name}"], tuple(shape))
                    for name, shape in header["shapes"].items()
                }
                return cls(arrays, header["info"])
        except errors.MaskFileError:
            raise
        except FileNotFoundError as error:
            raise errors.MaskFileError(
                f"mask file {str(path)!r} does not exist; expected one written by Masks.save."
            ) from error
        except Exception as error:  # whatever zipfile, zlib, json or NumPy make of foreign bytes
            raise errors.MaskFileError(
                f"mask file {str(path)!r} could not be read ({error or type(error).__name__}); "
                "expected a whole file written by Masks.save. It may be truncated, or something "
                "else."
            ) from error


def _as_mask(name: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    mask = array.astype(bool)
    if array.dtype != bool and not (
        np.issubdtype(array.dtype, np.number) and np.array_equal(array, mask)
    ):
        raise errors.MaskError(
            f"mask of {name!r}: received values other than 0 and 1 (dtype {array.dtype}); expected "
            "only those, 1 for a weight that is kept."
        )
    mask.setflags(write=False)
    return mask


def _some(names: list[str], most: int = 4) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
