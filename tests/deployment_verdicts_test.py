"""Which ops a target runs sparse: the conditions of XNNPACK, each broken in turn."""

import dataclasses

import deployment_files
import pytest

from tf_synflow import errors
from tf_synflow.deployment.chains import chains_of
from tf_synflow.deployment.verdicts import verdicts
from tf_synflow.targets import TARGETS
from tf_synflow.tflite.contents import read_contents
from tf_synflow.tflite.graph import SAME, read_graphs


def judged(name, target="wasm"):
    graphs = read_graphs(deployment_files.content(name))
    return verdicts(graphs, read_contents(graphs), target)


def pointwise(found):
    return [verdict for verdict in found if verdict.layer.startswith("pointwise")]


def changed(kind, place=0, **options):
    """The shaped MobileNet with options of one op changed; what becomes of its chains."""
    (graph,) = read_graphs(deployment_files.content("shaped"))
    contents = read_contents((graph,))
    number = [n for n, op in enumerate(graph.ops) if op.kind == kind][place]
    op = graph.ops[number]
    op = dataclasses.replace(op, options={**op.options, **options})
    graph = dataclasses.replace(graph, ops=(*graph.ops[:number], op, *graph.ops[number + 1 :]))
    return [chain.broken for chain in chains_of(graph, contents)]


@pytest.mark.parametrize("target", ["wasm", "cpu-arm"])
def test_a_network_shaped_for_xnnpack_runs_sparse(target):
    found = pointwise(judged("shaped", target))
    assert [verdict.runs for verdict in found] == ["sparse", "sparse"]
    assert all("XNNPACK" in verdict.why for verdict in found)


def test_x86_switches_it_off():
    found = pointwise(judged("shaped", "cpu-x86"))
    assert {verdict.runs for verdict in found} == {"dense"}
    assert all("x86 CPU with AVX" in verdict.why for verdict in found)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stock", "stem padded 'same'"),
        ("shaped_half", "more than 66.7 % are needed"),
        ("shaped_zeros", "no tensor is stored sparse"),
    ],
)
def test_one_condition_missing(name, why):
    found = pointwise(judged(name))
    assert {verdict.runs for verdict in found} == {"dense"}
    assert any(why in verdict.why for verdict in found)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "CONV_2D", "place": 0, "stride_h": 1}, "stem with stride 1×2"),
        ({"kind": "CONV_2D", "place": 0, "padding": SAME}, "stem padded 'same'"),
        ({"kind": "CONV_2D", "place": 0, "dilation_w": 2}, "dilated"),
        ({"kind": "CONV_2D", "place": 1, "stride_w": 2}, "1×1 with stride 1×2"),
        ({"kind": "DEPTHWISE_CONV_2D", "place": 1, "padding": SAME}, "padded 'same', not by 1"),
        ({"kind": "DEPTHWISE_CONV_2D", "place": 0, "padding": 1}, "padded by 0 above"),
        ({"kind": "DEPTHWISE_CONV_2D", "place": 0, "stride_h": 3}, "its stride is 3×1"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_each_rule_for_an_op(change, why):
    assert changed("CONV_2D") == [""]
    broken = changed(**change)
    assert all(broken) and any(why in cause for cause in broken)


def test_a_chain_without_an_end_or_with_a_leak():
    (graph,) = read_graphs(deployment_files.content("shaped"))
    contents = read_contents((graph,))
    mean = next(n for n, op in enumerate(graph.ops) if op.kind == "MEAN")
    headless = dataclasses.replace(graph, ops=graph.ops[:mean], outputs=graph.ops[mean - 1].outputs)
    assert "leaves it" in chains_of(headless, contents)[0].broken
    inner = graph.ops[mean - 1].outputs[0]
    leaking = dataclasses.replace(graph, outputs=(*graph.outputs, inner))
    assert "leaves it" in chains_of(leaking, contents)[0].broken
    inputs = graph.ops[mean].inputs[:1]
    other = dataclasses.replace(graph.ops[mean], kind="MAX_POOL_2D", inputs=inputs)
    pooled = dataclasses.replace(graph, ops=(*graph.ops[:mean], other, *graph.ops[mean + 1 :]))
    assert "MAX_POOL_2D: it has no NCHW kernel" in chains_of(pooled, contents)[0].broken


def test_dense_layers():
    assert {v.runs for v in judged("mlp_blocks")} == {"sparse"}
    unpacked = judged("mlp_csr")
    assert {v.runs for v in unpacked} == {"dense"}
    assert all("unpacked at load: a smaller file, no speed" in v.why for v in unpacked)
    assert all("1x16" in v.why for v in judged("mlp_int8"))
    assert all("no zeros" in v.why for v in judged("mlp_dense"))


@pytest.mark.parametrize("name", ["mlp_csr", "mlp_blocks"])
def test_a_microcontroller_refuses_sparse_files(name):
    found = judged(name, "microcontroller")
    assert {v.runs for v in found} == {"refused"}
    assert all("sparse=False" in v.why for v in found)
    assert {v.runs for v in judged("mlp_dense", "microcontroller")} == {"dense"}


def test_a_microcontroller_refuses_float16_and_dynamic_range():
    found = judged("mlp_float16", "microcontroller")
    assert {v.runs for v in found} == {"refused"}
    assert all("unpacks no float16" in v.why for v in found)
    found = judged("mlp_dynamic", "microcontroller")
    # the head has under 1,024 weights, which the converter leaves in float32
    assert [(v.content.dtype, v.runs) for v in found] == [
        ("int8", "refused"),
        ("int8", "refused"),
        ("float32", "dense"),
    ]
    assert "dynamic range" in found[0].why
    assert {v.runs for v in judged("mlp_int8", "microcontroller")} == {"dense"}
    assert {v.runs for v in judged("mlp_dynamic", "cpu-x86")} == {"dense"}


@pytest.mark.parametrize(("dtype", "why"), [("float16", "give NaN"), ("int8", "dynamic range")])
def test_what_computes_wrongly_is_refused(dtype, why):
    graphs = read_graphs(deployment_files.content("mlp_blocks"))
    contents = read_contents(graphs)
    other = {t: dataclasses.replace(content, dtype=dtype) for t, content in contents.items()}
    found = verdicts(graphs, other, "cpu-x86")
    assert {v.runs for v in found} == {"refused"}
    assert all(why in v.why for v in found)


def test_an_unknown_target():
    with pytest.raises(errors.UnknownNameError, match="expected one of cpu-arm, cpu-x86"):
        judged("mlp_dense", "phone")
    assert set(TARGETS) == {"cpu-x86", "cpu-arm", "wasm", "microcontroller"}
