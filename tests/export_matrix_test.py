"""A slice of benchmarks/export_matrix.py: every cell is right or refused, and the table says so."""

import csv
import importlib.util
import pathlib

import pytest
from absl import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("m", ROOT / "benchmarks" / "export_matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("models", "zeros", "quantize", "out", "docs", "docs_only"):
        delattr(flags.FLAGS, name)


def test_a_slice(matrix, tmp_path):
    model = matrix.pruned("mlp", "random", "97")
    found = []
    for quantize in matrix.FORMATS:
        key = ("mlp", "random", "97", quantize, "True")
        found += matrix.rows(key, matrix.cell(model, quantize, "True"))
    assert len(found) == 4 * 3
    assert all(bool(row["difference"]) != bool(row["reason"]) for row in found)
    assert {row["quantize"] for row in found if row["reason"]} == {"dynamic"}
    page = tmp_path / "export.md"
    page.write_text(f"before\n{matrix.START}\nold\n{matrix.END}\nafter\n")
    matrix.write_table(page, found)
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| mlp | 97 % |" in text


def test_the_matrix_in_the_docs_is_whole_and_right():
    rows = list(csv.DictReader((ROOT / "docs" / "results" / "export_matrix.csv").open()))
    assert {row["quantize"] for row in rows} == {"float32", "float16", "dynamic", "int8"}
    assert {row["zeros"] for row in rows} == {"50", "80", "90", "96", "97", "99", "99.9"}
    assert {row["runtime"] for row in rows} == {"Interpreter", "CompiledModel", "tf.lite"}
    assert len({tuple(row.items())[:5] for row in rows}) * 3 == len(rows) == 6 * 7 * 4 * 2 * 3
    assert all(row["difference"] or row["reason"] for row in rows)
    limits = {"float32": 1e-4, "float16": 1e-2, "dynamic": 1e-1, "int8": 2e-1}
    assert all(float(row["difference"] or 0) <= limits[row["quantize"]] for row in rows)
