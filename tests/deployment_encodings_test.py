"""What export encodes for a target, and what the deployment report says of it there, agree."""

import functools

import deployment_files
import numpy as np
import pytest

from tf_synflow.deployment.verdicts import verdicts
from tf_synflow.export.convert import QUANTIZATIONS, convert
from tf_synflow.export.encode import encode
from tf_synflow.export.encodings import best
from tf_synflow.export.signature import Signature
from tf_synflow.targets import TARGETS
from tf_synflow.tflite.contents import read_contents
from tf_synflow.tflite.graph import read_graphs

MODELS = {
    "mlp, half": lambda: deployment_files.pruned(deployment_files.mlp(), 0.5),
    "mlp, one by one": lambda: deployment_files.pruned(deployment_files.mlp(), 0.96),
    "mlp, blocks of 4": lambda: deployment_files.pruned(deployment_files.mlp(), 0.9, block=4),
    "mlp, blocks of 16": lambda: deployment_files.pruned(deployment_files.mlp(), 0.95, block=16),
    "shaped": lambda: deployment_files.pruned(deployment_files.mobilenet(), 0.9),
    "stock": lambda: deployment_files.pruned(deployment_files.mobilenet(shaped=False), 0.9),
}

TAKEN = [
    (target, quantize)
    for target in TARGETS
    for quantize in QUANTIZATIONS
    if target != "microcontroller" or quantize not in ("float16", "dynamic")
]


@functools.cache
def dense(name, quantize):
    """The bytes of the dense file."""
    signature = Signature(MODELS[name]())
    shape = (20, *signature.inputs[0].shape[1:])
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    known = {signature.inputs[0].name: data} if quantize == "int8" else None
    return convert(signature, 1, quantize=quantize, representative=known)


def encoded(name, quantize, target, everything=False):
    """A verdict on each op of the file, and what export chose for each weight by name."""
    chosen = {}

    def choose(weight):
        chosen[weight.name] = best(weight, target, everything)[0]
        return chosen[weight.name]

    plain = dense(name, quantize)
    content = encode(plain, choose)
    if content is plain:  # the sparse file is no smaller
        chosen = dict.fromkeys(chosen, "dense")
    graphs = read_graphs(content)
    return verdicts(graphs, read_contents(graphs), target), chosen


@pytest.mark.parametrize("everything", [False, True], ids=["auto", "everything"])
@pytest.mark.parametrize(("target", "quantize"), TAKEN)
@pytest.mark.parametrize("name", MODELS)
def test_the_report_says_of_each_weight_what_export_chose_it_for(
    name, target, quantize, everything
):
    found, chosen = encoded(name, quantize, target, everything)
    assert found
    for verdict in found:
        encoding = chosen.get(verdict.content.name, "dense")
        assert verdict.runs != "refused", verdict
        assert (verdict.content.encoding == "dense") == (encoding == "dense"), verdict
        if encoding.startswith(("rows", "block")):  # for speed
            assert verdict.runs == "sparse" and not verdict.content.densified, verdict
        if verdict.runs == "sparse":
            in_chain = "XNNPACK" in verdict.why
            assert encoding == "csr" if in_chain else encoding.startswith(("rows", "block"))
            assert verdict.content.densified == in_chain


@pytest.mark.parametrize(
    ("name", "quantize", "target", "layers"),
    [
        ("mlp, one by one", None, "cpu-x86", {"first", "second", "head"}),
        ("mlp, blocks of 4", None, "cpu-x86", {"first", "second", "head"}),
        ("mlp, blocks of 4", None, "wasm", {"first", "second", "head"}),
        ("mlp, blocks of 16", "int8", "cpu-arm", {"first", "second", "head"}),
        ("mlp, half", None, "cpu-x86", set()),
        ("shaped", None, "wasm", {"pointwise0", "pointwise1", "head"}),
        ("shaped", "float16", "cpu-arm", {"pointwise0", "pointwise1"}),
        ("shaped", None, "cpu-x86", {"head"}),
        ("shaped", "int8", "wasm", set()),
        ("stock", None, "wasm", {"head"}),
        ("mlp, blocks of 4", None, "microcontroller", set()),
    ],
)
def test_what_runs_sparse(name, quantize, target, layers):
    found, _ = encoded(name, quantize, target)
    assert {verdict.layer.split("/")[-1] for verdict in found if verdict.runs == "sparse"} == layers
