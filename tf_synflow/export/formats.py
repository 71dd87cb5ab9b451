"""The formats that a model is exported in, and the file that they make: run and compared."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import tqdm

from tf_synflow import errors
from tf_synflow.export import samples as sample_data
from tf_synflow.export.convert import Quantize, convert
from tf_synflow.export.emitted import check_outputs, float_ops, read_tensors
from tf_synflow.export.encode import encode
from tf_synflow.export.encodings import Encoding, best
from tf_synflow.export.probes import probes
from tf_synflow.export.signature import Signature
from tf_synflow.export.verify import SAME_FORMAT_TOLERANCES, Agreement, check_same, verify
from tf_synflow.export.weights import Weight
from tf_synflow.flow.weights import is_quantization_aware
from tf_synflow.targets import Target

_ENOUGH = 32
"""With fewer representative samples a note says so."""

_COMPARED = 64
"""How many of the representative samples an int8 file is compared on."""


@dataclasses.dataclass(frozen=True)
class File:
    """A model as a file, dense and encoded, and the one of the two that is written.

    Attributes:
      dense: as the converter made it.
      encoded: with sparse weights; `dense` itself if none is.
      content: which of these is right, and wanted.
      batch_size: None for any.
      agreement: of the content with the model.
      reasons: by weight, why one with many zeros stays dense.
      notes: what a user should know besides.
    """

    dense: bytes
    encoded: bytes
    content: bytes
    batch_size: int | None
    agreement: Agreement
    reasons: dict[str, str]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Formats:
    """What a model is exported with, see `export_tflite`, whatever the batch.

    Attributes:
      signature: of the model that the file is compared with.
      plain: the model that is converted.
      known: representative data by input name, None where no ranges are measured.
      samples: to compare on as well, by input name, or None.
    """

    signature: Signature
    plain: Any
    quantize: Quantize
    known: sample_data.Batch | None
    target: Target
    sparse: Literal["auto"] | bool
    samples: sample_data.Batch | None
    seed: int
    tolerance: float

    def file(self, batch_size: int | None, steps: tqdm.tqdm) -> File:
        """Converts, encodes, runs and compares; a step for each.

        Raises:
          ExportError: the model cannot be converted, or the file is wrong.
        """
        names = [item.name for item in self.signature.inputs]
        dense = convert(
            Signature(self.plain, names),
            batch_size,
            quantize=self.quantize,
            representative=self.known,
        )
        check_outputs(dense, self.signature.model.name)
        steps.update()
        notes, reasons = [], {}
        if self.known and (count := len(next(iter(self.known.values())))) < _ENOUGH:
            notes.append(
                f"representative_data hold {count}, and a few hundred are expected: what lies "
                "outside of the ranges that are measured on them is clipped"
            )
        if self.quantize == "int8" and (ops := float_ops(dense)):
            notes.append(f"computed in float, for want of an int8 kernel: {', '.join(ops)}")
        if self.quantize == "dynamic" and all(t.dtype != "int8" for t in read_tensors(dense)):
            notes.append(
                "all is left in float32: TFLite stores weights of 1,024 elements or more in int8, "
                "and there is none"
            )
        encoded = encode(dense, _chooser(self.target, self.sparse is True, len(dense), reasons))
        steps.update()
        batches = list(
            probes(self.signature, batch_size=batch_size, samples=self.samples, seed=self.seed)
            if self.known is None
            else _calibrated(self.known, self.samples, batch_size)
        )

        def verified(content: bytes) -> Agreement:
            try:
                if content is not dense:
                    check_same(content, dense, batches, SAME_FORMAT_TOLERANCES[self.quantize])
                return verify(content, self.signature, batches, self.tolerance, self._must_follow)
            except errors.ExportError as error:
                advice = " ".join(filter(None, (error.advice, self._advice())))
                raise errors.ExportError(error.reason, advice) from error

        content, agreement = _choose(dense, encoded, self.sparse, verified, reasons, notes)
        steps.update()
        return File(dense, encoded, content, batch_size, agreement, reasons, notes)

    @property
    def _must_follow(self) -> bool:
        """Whether a file that tells no more than a constant is refused: in int8.

        There one range holds all of an activation, in steps. What floats lose lies below what they
        round, like the signal of a network beside its biases that was pruned and not trained.
        """
        return self.quantize == "int8" and self.tolerance < 1

    def _advice(self) -> str:
        """What else may mend a file that is wrong, by how it was asked for."""
        if is_quantization_aware(self.signature.model):
            return (
                "Ranges of quantization-aware training begin wide, and outputs within a step or "
                "two of them are coarse: train for some hundred steps first."
            )
        if self.sparse is True:
            return "Or take sparse='auto', which falls back to the dense file."
        return ""


def _chooser(
    target: Target, everything: bool, file_bytes: int, reasons: dict[str, str]
) -> Callable[[Weight], Encoding]:
    """Chooses the encoding of a weight, and notes why one with many zeros stays dense."""

    def choose(weight: Weight) -> Encoding:
        encoding, reason = best(weight, target, everything, file_bytes)
        if encoding == "dense" and weight.has_many_zeros:
            reasons[weight.name] = reason
        return encoding

    return choose


def _calibrated(
    known: sample_data.Batch, samples: sample_data.Batch | None, batch_size: int | None
) -> Iterator[tuple[str, sample_data.Batch]]:
    """What an int8 file is compared on: inputs in the range that it was made for."""
    size = batch_size or 8
    few = sample_data.spread(known, _COMPARED)
    given = [("representative", few)]
    if samples is not None:
        given.append(("sample", samples))
    for kind, arrays in given:
        for batch in sample_data.in_batches(arrays, size, whole=batch_size is not None):
            yield kind, batch


def _choose(
    dense: bytes,
    encoded: bytes,
    sparse: Literal["auto"] | bool,
    verified: Callable[[bytes], Agreement],
    reasons: dict[str, str],
    notes: list[str],
) -> tuple[bytes, Agreement]:
    """Which of the two files to write, and how it agrees with the model."""
    if sparse is True:
        if encoded is dense:
            why = "; ".join(sorted(set(reasons.values()))) or "no weight has 30 % zeros"
            raise errors.ExportError(
                f"sparse=True, and no tensor can be encoded: {why}. Expected a kernel of a "
                "convolution or dense layer with at least 30 % zeros, in a number format and for a "
                "target that run it right. Prune the model first, change quantize or target, or "
                "use sparse='auto', which falls back to dense."
            )
        return encoded, verified(encoded)
    if sparse == "auto" and encoded is not dense:
        try:
            return encoded, verified(encoded)
        except errors.ExportError as error:
            notes.append(
                f"stored dense, for the sparse file was wrong ({error.reason.rstrip('.')})"
            )
    return dense, verified(dense)
