"""The stages of the flow are layers: imports go down only, and BUILD says the same."""

import ast
import pathlib

import pytest

import tf_synflow

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tf_synflow"

# A stage may import stages of earlier lines only. "base" is the package's own __init__ with what
# it imports: every import of a stage runs it.
LEVELS = (
    ("base",),
    ("quantities", "compat", "files", "progress", "entropy", "tables", "targets", "process"),
    ("densities", "parallel", "flow"),
    ("schedule", "masks"),
    ("scores",),
    ("rounds",),
    ("inject",),
    ("report", "shrinking"),
    ("tflite",),
    ("export", "deployment"),
    ("budget",),
    ("api",),
    ("train",),
    ("cli",),
)
LEVEL = {stage: level for level, stages in enumerate(LEVELS) for stage in stages}
BASE = ("__init__", "errors", "version")

KERASES = ("keras", "tf_keras", "tensorflow_model_optimization")


def _sources() -> list[pathlib.Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _id(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _stage(module: str) -> str:
    """`tf_synflow.flow.rules` → `flow`; what belongs to no stage raises KeyError in `LEVEL`."""
    parts = [*module.split("."), "__init__"]
    return "base" if parts[1] in BASE else parts[1]


def _stage_of(path: pathlib.Path) -> str:
    return _stage(".".join(path.relative_to(ROOT).with_suffix("").parts))


def _imported(tree: ast.AST) -> set[str]:
    """Full names of the modules that a file imports anywhere, `from a import b` as `a.b`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: the file does not say which stage it needs"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def _stages_used(path: pathlib.Path) -> set[str]:
    """Stages that a file imports, those behind the lazy public names included."""
    tree = _tree(path)
    modules = {name for name in _imported(tree) if name.split(".")[0] == "tf_synflow"}
    if "tf_synflow" in modules:
        modules |= {
            tf_synflow._PUBLIC.get(node.attr, f"tf_synflow.{node.attr}")
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tf_synflow"
        }
    return {_stage(module) for module in modules}


def _build_rules() -> dict[str, dict[str, ast.expr]]:
    """Keyword arguments of the py_library rules of BUILD, by name; Starlark parses as Python."""
    tree = ast.parse((ROOT / "BUILD").read_text(encoding="utf-8"))
    rules = {}
    for node in tree.body:
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith("py_library("):
            arguments = {keyword.arg: keyword.value for keyword in node.value.keywords}
            rules[ast.literal_eval(arguments["name"])] = arguments
    return rules


def _rule_sources(value: ast.expr) -> set[pathlib.Path]:
    if isinstance(value, ast.Call):  # glob([...])
        return {path for p in ast.literal_eval(value.args[0]) for path in ROOT.glob(p)}
    return {ROOT / name for name in ast.literal_eval(value)}


def test_the_table_names_every_stage_and_nothing_else():
    assert {_stage_of(path) for path in _sources()} == set(LEVEL)


@pytest.mark.parametrize("path", _sources(), ids=_id)
def test_imports_go_down(path):
    own = _stage_of(path)
    upward = {stage for stage in _stages_used(path) - {own} if LEVEL[stage] >= LEVEL[own]}
    assert not upward, f"{_id(path)} ({own}) imports {sorted(upward)}, which is not below it"


@pytest.mark.parametrize("stage", sorted(LEVEL))
def test_build_target_holds_the_files_and_the_imports_of_its_stage(stage):
    rule = _build_rules()[stage]
    files = {path for path in _sources() if _stage_of(path) == stage}
    assert _rule_sources(rule["srcs"]) == files
    # Every stage runs the package's __init__, whether or not it imports an error.
    used = set().union(*map(_stages_used, files), {"base"}) - {stage}
    deps = ast.literal_eval(rule["deps"]) if "deps" in rule else []
    expected = sorted(f":{dependency}" for dependency in used)
    assert deps == expected, f"BUILD: deps of {stage!r} should be {expected}"


@pytest.mark.parametrize("path", _sources(), ids=_id)
def test_only_compat_imports_a_keras_or_tfmot(path):
    roots = {name.split(".")[0] for name in _imported(_tree(path))}
    assert path.name == "compat.py" or not roots & set(KERASES)


@pytest.mark.parametrize(
    "path",
    [p for folder in ("tf_synflow", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py")],
    ids=_id,
)
def test_nobody_touches_the_keras_inside_tensorflow(path):
    tree = _tree(path)
    used = _imported(tree) | {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }
    inside = {name for name in used if name.startswith(("tf.keras", "tensorflow.keras"))}
    assert not inside, f"{_id(path)}: which Keras tf.keras is depends on the environment"


@pytest.mark.parametrize("path", _sources(), ids=_id)
def test_only_the_command_line_knows_flags(path):
    flags = {name for name in _imported(_tree(path)) if name.startswith(("absl.app", "absl.flags"))}
    assert _stage_of(path) == "cli" or not flags
