"""The README's code runs, and its commands are the ones that CI runs."""

import pathlib
import re
import shlex

import keras
import numpy as np

import tf_synflow

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.Conv2D(32, 1, activation="relu", name="pointwise"),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )
    random = np.random.default_rng(0)
    names = {
        "model": model,
        "images": random.normal(size=(32, 8, 8, 1)).astype("float32"),
        "labels": random.integers(0, 10, 32),
    }
    for block in _blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert "Agrees with Keras" in capsys.readouterr().out
    zeros = [np.mean(x == 0) for x in names["final"].get_weights() if x.ndim > 1]
    assert max(zeros) > 0.98
    assert (tmp_path / "model.tflite").exists()
    assert tf_synflow.Masks.load(tmp_path / "masks.npz") == names["masks"]


def test_the_layers_of_the_docs_have_the_rules_they_show():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(_blocks("python", text)[-1], "models.md", "exec"), names)
    inputs = keras.Input((6, 4))
    x = keras.layers.Dense(3, use_bias=False, name="a")(inputs)
    x = names["Scale"](name="scale")(names["Positions"](name="positions")(x))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="b")(x))
    scores = tf_synflow.score(model, prunable="*")
    total = scores["a/kernel"].sum() + scores["positions/positions"].sum()
    np.testing.assert_allclose([scores[n].sum() for n in ("scale/scale", "b/kernel")], total)


def test_the_scorer_of_the_docs_scores():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(_blocks("python", text)[-2], "models.md", "exec"), names)
    model = keras.Sequential([keras.Input((6,)), *map(keras.layers.Dense, (8, 3))])
    masks = tf_synflow.compute_masks(model, 4, scorer=names["Relative"]())
    assert masks.kept == 18 and masks.info["scorer"] == {"name": "relative"}


def test_commands_name_files_and_tools_that_are_here():
    words = [word for block in _blocks("sh") for word in shlex.split(block)]
    recipes = {word.split("=")[1] for word in words if word.startswith("--flagfile=configs/")}
    assert recipes and all((ROOT / recipe).is_file() for recipe in recipes)
    scripts = [word for word in words if word.endswith(".py")]
    assert scripts and all((ROOT / script).is_file() for script in scripts)
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    tools = {word.split("/")[-1] for word in words if "tf-synflow-" in word}
    assert len(tools) == 4 and all(f'"{tool} = ' in setup for tool in tools)


def test_ci_finds_one_test_command():
    pattern = re.search(r"grep -E '(.*)' README.md", (ROOT / ".ci" / "run").read_text()).group(1)
    assert len(re.findall(pattern, README, re.MULTILINE)) == 1
