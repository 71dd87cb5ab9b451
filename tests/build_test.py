"""BUILD, as a real Bazel reads it."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bazel") is None, reason="Bazel is not installed"),
]


@pytest.fixture(scope="module")
def query(tmp_path_factory):
    """`bazel query`, run in a copy of the tree: Bazel wants a WORKSPACE and leaves links behind."""
    workspace = tmp_path_factory.mktemp("workspace")
    for name in ("tf_synflow", "tests", "configs", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / name, workspace / name, ignore=ignore)
    for name in ("BUILD", "LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, workspace)
    (workspace / "WORKSPACE").touch()
    output = tmp_path_factory.mktemp("bazel")

    def run(expression: str) -> set[str]:
        command = ["bazel", "--batch", f"--output_user_root={output}", "query", expression]
        done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    return run


def test_every_stage_tool_and_test_is_a_target(query):
    targets = query("//...")
    stages = {path.stem for path in (ROOT / "tf_synflow").iterdir() if path.stem[0] not in "_."}
    stages -= {"errors", "version"}  # in :base
    tests = {path.stem for path in (ROOT / "tests").glob("*_test.py")}
    tools = {"tf_synflow_train", "tf_synflow_prune", "tf_synflow_export"}
    expected = {f"//:{name}" for name in stages | tests | tools | {"base", "tf_synflow"}}
    assert expected <= targets


def test_every_source_file_belongs_to_a_target(query):
    files = {
        f"//:{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "tf_synflow").rglob("*.py")
    }
    assert files == query('filter("^//:tf_synflow/", labels(srcs, kind(py_library, //:all)))')


def test_low_stages_do_not_reach_high_ones(query):
    assert not query("deps(//:flow) intersect (//:inject + //:api + //:export + //:cli)")
    assert "//:flow" in query("deps(//:cli)")
