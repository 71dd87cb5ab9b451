"""Truncated, damaged and hostile files: a typed error in bounded time, whatever is in them."""

import contextlib
import time

import deployment_files
import flatbuffers
import hypothesis
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies

from tf_synflow import errors
from tf_synflow.deployment.child import Child
from tf_synflow.deployment.report import deployment_report
from tf_synflow.tflite.graph import read_graphs

SECONDS = 5.0
names = strategies.sampled_from(["mlp_csr", "mlp_blocks", "shaped", "mlp_int8"])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "model.tflite"


def report_or_typed_error(path, content):
    """A report on the bytes, in every form, or a ModelError; in bounded time."""
    path.write_bytes(content)
    start = time.monotonic()
    with contextlib.suppress(errors.ModelError):
        report = deployment_report(path, target="wasm", measure=False)
        str(report)
        report.save(path.with_suffix(".html"))
        report.save(path.with_suffix(".json"))
    assert time.monotonic() - start < SECONDS


settings = hypothesis.settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@settings
@hypothesis.given(name=names, share=strategies.floats(0, 1))
def test_truncated(path, name, share):
    content = deployment_files.content(name)
    cut = content[: int(share * (len(content) - 1))]
    path.write_bytes(cut)
    if share < 0.5:  # what lies behind may be padding, or the name of a thing not read
        with pytest.raises(errors.ModelError):
            deployment_report(path, measure=False)
    report_or_typed_error(path, cut)


@settings
@hypothesis.given(
    name=names,
    flips=strategies.lists(
        strategies.tuples(strategies.floats(0, 1), strategies.integers(0, 255)), max_size=8
    ),
)
def test_bytes_changed(path, name, flips):
    content = bytearray(deployment_files.content(name))
    for share, value in flips:
        content[int(share * (len(content) - 1))] = value
    report_or_typed_error(path, bytes(content))


@settings
@hypothesis.given(
    name=names,
    words=strategies.lists(
        strategies.tuples(
            strategies.floats(0, 1),
            strategies.sampled_from([0, 1, 4, 2**16, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1]),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_offsets_and_lengths_changed(path, name, words):
    content = bytearray(deployment_files.content(name))
    for share, value in words:
        at = int(share * (len(content) - 8)) // 4 * 4
        content[at : at + 4] = value.to_bytes(4, "little")
    report_or_typed_error(path, bytes(content))


@settings
@hypothesis.given(tail=strategies.binary(max_size=400), magic=strategies.booleans())
def test_random_bytes(path, tail, magic):
    report_or_typed_error(path, b"\x10\0\0\0TFL3" * magic + tail)


def test_a_small_file_that_unfolds_into_billions_of_tables():
    count = 20_000
    builder = flatbuffers.Builder()

    def repeated(offset):
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    schema.TensorStart(builder)
    tensors = repeated(schema.TensorEnd(builder))
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = repeated(schema.SubGraphEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    start = time.monotonic()
    with pytest.raises(errors.ModelError, match="share their parts too often"):
        read_graphs(bytes(builder.Output()))
    assert time.monotonic() - start < SECONDS


def corrupted():
    """A file whose sparse indices point far beyond their tensors; at load the runtime follows."""
    content = deployment_files.content("mlp_csr")
    changed = bytearray(content)
    for tensor in read_graphs(content)[0].tensors:
        for dimension in tensor.sparsity.dimensions if tensor.sparsity else ():
            if dimension.indices is not None:
                stored = dimension.indices.tobytes()
                at = content.find(stored)
                changed[at : at + len(stored)] = b"\xff" * len(stored)
    return bytes(changed)


def test_a_crash_of_the_runtime_is_a_typed_error(path):
    path.write_bytes(corrupted())
    with pytest.raises(errors.ModelError, match="an index beyond its dimension"):
        deployment_report(path, measure=False)
    with Child(path) as child:
        child.ask("idle")
        with pytest.raises(errors.ModelError, match="crashed at it.*SIG"):
            for _ in range(20):  # memory is overwritten; some load is the last
                child.ask("load")


def test_a_file_that_the_runtime_refuses_is_a_typed_error(path):
    path.write_bytes(b"\x10\0\0\0TFL3" + bytes(100))
    with Child(path) as child, pytest.raises(errors.ModelError, match="cannot load it"):
        child.ask("load")


def test_a_runtime_that_takes_too_long_is_stopped(path):
    path.write_bytes(deployment_files.content("mlp_dense"))
    with Child(path, patience=0.01) as child:
        with pytest.raises(errors.ModelError, match="within 0 seconds and was stopped"):
            child.ask("idle")


def test_a_name_is_shown_and_not_obeyed(path):
    content = deployment_files.content("mlp_csr")
    for old, new in ((b"first_1/MatMul", b"<script>\x1b[2J\xff/Mat"), (b"head", b"\xf0\x9f<&")):
        content = content.replace(old, new[: len(old)].ljust(len(old), b"!"))
    path.write_bytes(content)
    report = deployment_report(path, measure=False)
    assert any("<script>" in tensor.name for tensor in report.tensors)
    assert "\x1b" not in str(report)
    report.save(path.with_suffix(".html"))
    assert "<script" not in path.with_suffix(".html").read_text()


def test_the_memory_of_a_hostile_shape_is_not_taken(path):
    content = bytearray(deployment_files.content("mlp_dense"))
    shape = np.array([64, 64], "<i4").tobytes()
    at = content.find(shape)
    content[at : at + 8] = np.array([2**31 - 1, 2**31 - 1], "<i4").tobytes()
    report_or_typed_error(path, bytes(content))
