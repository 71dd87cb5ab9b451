"""The report: what it says in each form, measured against a baseline in real runtimes."""

import html.parser
import json
import re

import deployment_files
import pytest

import tf_synflow
from tf_synflow import errors
from tf_synflow.deployment.machine import is_host, machine

VOID = ("meta", "rect", "br")


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects words and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read_page(report, path):
    report.save(path)
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in ("mlp_dense", "mlp_blocks", "shaped", "mlp_csr"):
        deployment_files.file(folder, name)
    return folder


@pytest.fixture(scope="module")
def measured(folder):
    return tf_synflow.deployment_report(
        folder / "mlp_blocks.tflite",
        baseline=folder / "mlp_dense.tflite",
        seconds=0.05,
        verbose=False,
    )


def test_totals_are_those_of_the_file(measured, folder):
    path = folder / "mlp_blocks.tflite"
    assert measured.file_bytes == path.stat().st_size
    assert measured.baseline_bytes == (folder / "mlp_dense.tflite").stat().st_size
    assert measured.elements == 64 * 64 + 64 * 48 + 48 * 8
    assert measured.zeros == pytest.approx(0.8 * measured.elements, rel=0.05)
    assert measured.floor_bytes < measured.file_bytes
    assert measured.zlib_bytes < measured.file_bytes
    assert measured.counts() == {"sparse": 3, "dense": 0, "refused": 0}


def test_measurements_are_of_both_files(measured, folder):
    baseline, own = measured.measured.measurements
    assert [baseline.path, own.path] == [measured.baseline, measured.path]
    assert baseline.times_faster == 1
    assert own.latency_ms > 0 and own.load_ms > 0 and own.inferences >= 10
    assert measured.measured.of(folder / "mlp_blocks.tflite") is own


def test_console(measured):
    text = str(measured)
    for said in ("first_1", "block 1x4", "sparse", "entropy floor", "times smaller than"):
        assert said in text
    assert "not measured" not in text.replace("zstd: not measured", "")


def test_json_is_everything(measured, tmp_path):
    measured.save(tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["totals"]["zeros"] == measured.zeros
    assert values["ops"][0]["content"]["encoding"] == "block 1x4"
    assert values["measured"]["machine"]["cores"] == machine()["cores"]
    assert "ai-edge-litert" in values["versions"]


@pytest.mark.parametrize(
    ("name", "target"),
    [("mlp_blocks", "cpu-x86"), ("shaped", "wasm"), ("mlp_csr", "microcontroller")],
)
def test_a_page_that_needs_nothing_else(folder, tmp_path, name, target):
    path = folder / f"{name}.tflite"
    report = tf_synflow.deployment_report(path, target=target, measure=False)
    page = read_page(report, tmp_path / "report.html")
    assert not [t for t, _ in page.tags if t in ("script", "link", "img", "iframe", "a")]
    assert not [a for _, a in page.tags if {"src", "href", "onload"} & a.keys()]
    words = " ".join(page.words)
    assert not re.search(r"https?:|url\(|@import", (tmp_path / "report.html").read_text())
    assert not re.search(r"\b(None|nan|inf)\b", words)
    assert all(op.layer in words for op in report.ops)
    assert "not measured" in words
    strips = [a for t, a in page.tags if t == "svg" and a["class"] == "strip"]
    assert len(strips) == 2
    widths = [float(a["width"]) for t, a in page.tags if t == "rect"]
    assert widths and all(0 < width <= 100 for width in widths)


def test_a_page_with_measurements(measured, tmp_path):
    words = " ".join(read_page(measured, tmp_path / "report.html").words)
    assert "times as fast as the baseline" in words
    assert "peak memory" in words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mlp_dense", "Nothing is left to skip"),
        ("mlp_blocks", "skip their zeros there"),
        ("shaped", "No op skips those zeros there"),
    ],
)
def test_what_a_page_begins_with(tmp_path, name, words):
    path = tmp_path / "model.tflite"
    path.write_bytes(deployment_files.content(name))
    report = tf_synflow.deployment_report(path, target="cpu-x86", measure=False)
    assert words in " ".join(read_page(report, tmp_path / "report.html").words)


def test_files_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / name / "model.tflite" for name in ("dense", "sparse")]
    for path, name in zip(paths, ("mlp_dense", "mlp_csr"), strict=True):
        path.parent.mkdir()
        path.write_bytes(deployment_files.content(name))
    report = tf_synflow.deployment_report(paths[1], baseline=paths[0], seconds=0.05)
    page = read_page(report, tmp_path / "report.html")
    assert all(str(path) in page.words and str(path) in str(report) for path in paths)


def test_what_was_not_measured_is_said(folder):
    path = folder / "shaped.tflite"
    report = tf_synflow.deployment_report(path, target="wasm", measure=False)
    assert report.measured is None
    assert any("not measured" in note for note in report.notes())
    here = tf_synflow.deployment_report(path, target="wasm", seconds=0.02, verbose=False)
    assert any("on wasm nothing was measured" in note for note in here.notes())


def test_hosts():
    assert not is_host("wasm") and not is_host("microcontroller")
    assert is_host("cpu-x86") == machine()["architecture"].startswith(("x86", "AMD64"))


def test_bad_arguments(folder, measured, tmp_path):
    path = folder / "mlp_dense.tflite"
    with pytest.raises(errors.UnknownNameError, match="target"):
        tf_synflow.deployment_report(path, target="gpu")
    with pytest.raises(errors.OutputError, match="received None; expected the name"):
        tf_synflow.deployment_report(None)
    with pytest.raises(errors.OutputError, match="could not be read"):
        tf_synflow.deployment_report(folder / "nowhere.tflite")
    with pytest.raises(errors.OutputError, match="could not be read"):
        tf_synflow.deployment_report(path, baseline=folder)
    with pytest.raises(errors.OutputError, match=r"received None; expected \.json or \.html"):
        measured.save(None)
    with pytest.raises(errors.OutputError, match=r"expected \.json or \.html"):
        measured.save(tmp_path / "report.pdf")
    with pytest.raises(errors.OutputError, match="could not be written"):
        measured.save(tmp_path / "nowhere" / "report.html")
    (tmp_path / "text.tflite").write_text("a text and no model")
    with pytest.raises(errors.ModelError, match=r"text\.tflite.*expected a TFLite flatbuffer"):
        tf_synflow.deployment_report(tmp_path / "text.tflite")
    with pytest.raises(errors.ModelError, match=r"text\.tflite.*expected a TFLite flatbuffer"):
        tf_synflow.deployment_report(path, baseline=tmp_path / "text.tflite", measure=False)
