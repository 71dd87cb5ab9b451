"""Every benchmark can still be run as the docs say: what it imports exists, and so do its flags."""

import ast
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
FILES = sorted(FOLDER.rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _id(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _own(module: str) -> pathlib.Path | None:
    """The file of a benchmark's module, as its neighbours import it; None of anything else."""
    path = FOLDER.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def _is_folder(module: str) -> bool:
    return FOLDER.joinpath(*module.split(".")).is_dir()


def _top_names(path: pathlib.Path) -> set[str]:
    """What a module defines or imports at its top."""
    names = set()
    for node in _tree(path).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return names


def _has(module: str, name: str) -> bool:
    path = _own(module)
    if path is not None:
        return name in _top_names(path)
    if _is_folder(module):
        return _own(f"{module}.{name}") is not None
    found = importlib.import_module(module)
    folder = hasattr(found, "__path__")
    return hasattr(found, name) or (
        folder and importlib.util.find_spec(f"{module}.{name}") is not None
    )


@pytest.mark.parametrize("path", FILES, ids=_id)
def test_what_it_imports_from_us_exists(path):
    looked = 0
    for node in ast.walk(_tree(path)):
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        ours = node.module.split(".")[0] == "tf_synflow"
        if ours or _own(node.module) or _is_folder(node.module):
            for alias in node.names:
                assert _has(node.module, alias.name), f"{node.module} has no {alias.name}"
                looked += 1
    if path.name in ("paper_speed.py", "edge_speed.py", "masked_step.py"):
        assert looked  # else nothing was checked


def test_a_name_that_went_is_missed():
    assert _has("where", "processor_line") and not _has("where", "no_such_name")
    assert _has("paper", "networks") and not _has("paper", "no_such_module")
    assert _has("tf_synflow", "compat") and not _has("tf_synflow.tables", "no_such_name")


def _commands() -> list[tuple[str, str, str]]:
    """Of each benchmark's command in the docs and in the benchmarks: where, the file, the rest."""
    found = []
    for page in [*PAGES, *FILES]:
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        for file, rest in re.findall(r"python3? (benchmarks/[\w/]+\.py)([^`\n#|]*)", text):
            found.append((_id(page), file, rest))
    return found


COMMANDS = _commands()


@pytest.mark.parametrize(
    ("page", "file", "rest"),
    COMMANDS,
    ids=[f"{page}:{file}{rest}" for page, file, rest in COMMANDS],
)
def test_a_command_has_the_flags_it_is_given(page, file, rest):
    assert (ROOT / file).exists(), f"{page} names {file}"
    source = (ROOT / file).read_text(encoding="utf-8")
    defined = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    defined |= set(re.findall(r'add_argument\(\s*"--([\w-]+)"', source))
    for flag in re.findall(r"(?<=\s)--(?:no)?([\w-]+)", rest):
        names = {flag, f"no{flag}"}
        assert names & defined, f"{page}: {file} has no --{flag}; it has {sorted(defined)}"


def test_commands_are_found():
    assert len(COMMANDS) > 30 and {page for page, *_ in COMMANDS} >= {"README.md", "docs/speed.md"}
