"""Strategies of tf.distribute: real devices, real processes, and one that is killed."""

import json
import re
import signal
import time

import numpy as np
import processes
import pytest
from processes import ROOT, TIMEOUT, finished, started, two_workers

from tf_synflow.errors import ClusterError, UnknownNameError
from tf_synflow.train import loop, strategy
from tf_synflow.train.config import TrainConfig

KERASES = ("tf_keras", "keras3")


def scenario(name, folder, *arguments, tf_configs=("",)):
    return processes.scenario(
        "distribute_worker.py", name, folder, *arguments, tf_configs=tf_configs
    )


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    return scenario("mirrored", tmp_path_factory.mktemp("mirrored"))[0]


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    """What a training leaves of which a worker was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    command = [str(ROOT / "tests" / "distribute_worker.py"), "backup", "none"]
    command += [str(folder / "backup"), "1"]
    with started(command, folder, two_workers()) as (chief, killed):
        assert killed.wait(TIMEOUT) == -signal.SIGKILL
        assert chief.wait(TIMEOUT) > 0
    assert any((folder / "backup").iterdir())
    return folder / "backup"


@pytest.fixture(scope="module")
def workers(tmp_path_factory, backup):
    folder = tmp_path_factory.mktemp("multiworker")
    return scenario("multiworker", folder, backup, tf_configs=two_workers())


def assert_trained_like(found, alone):
    """The same masks bit for bit, exact zeros, and the losses of one device with the batch."""
    assert found["masks"] == alone["masks"]
    assert found["not_zero"] == 0
    assert found["losses"] == pytest.approx(alone["losses"], abs=2e-6)
    assert alone["losses"][-1] < alone["losses"][0]


@pytest.mark.slow
@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(
    ("kind", "variables"), [("mirrored", ["MirroredVariable"]), ("one_device", None)]
)
def test_one_process_trains_as_one_device_does(mirrored, k, kind, variables):
    assert mirrored["replicas"] == 2
    alone, found = mirrored[k]["alone"], mirrored[k][kind]
    assert_trained_like(found, alone)
    assert found["evaluated"] == pytest.approx(alone["evaluated"], abs=2e-6)
    assert found["not_zero_when_stripped"] == 0
    assert found["model_unchanged"]
    assert found["variables"] == (variables or alone["variables"])


@pytest.mark.slow
@pytest.mark.parametrize("k", KERASES)
def test_every_kind_of_kernel_keeps_its_zeros(mirrored, k):
    found = mirrored[k]["zoo"]
    assert found["not_zero"] == found["not_zero_when_stripped"] == 0
    assert found["kept"] > 0
    assert found["losses"][-1] < found["losses"][0]


@pytest.mark.slow
@pytest.mark.parametrize("k", KERASES)
def test_in_or_out_of_the_scope_is_the_same(mirrored, k):
    inside, outside = mirrored[k]["inside_the_scope"], mirrored[k]["mirrored"]
    assert inside["masks"] == outside["masks"]
    assert inside["variables"] == outside["variables"] == ["MirroredVariable"]
    assert inside["not_zero"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("built_outside", "inside the scope of a MirroredStrategy, a model that was built outside"),
        ("built_in_another", "a model that was built in that of a MirroredStrategy"),
        ("built_in_parts", "made outside any scope and "),
    ],
)
def test_a_model_of_another_scope_is_refused(mirrored, k, case, words):
    message = mirrored[k][case]
    assert message.startswith("ModelError: ")
    assert words in message
    assert "inside strategy.scope()" in message


@pytest.mark.slow
def test_a_mirrored_run_is_the_run_on_one_device(mirrored):
    runs = mirrored["runs"]
    for name in ("loss", "accuracy", "test_loss", "test_accuracy", "learning_rate"):
        assert runs["mirrored"][name] == pytest.approx(runs["none"][name], abs=1e-5), name
    assert runs["odd"].startswith("QuantityError: batch_size received: 63, with 2 replicas")
    assert runs["odd_left"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("k", "how"), [("tf_keras", "alone"), ("keras3", "own_loop")])
def test_two_workers_train_as_one_device_does(workers, mirrored, k, how):
    for worker in workers:
        assert worker["workers"] == 2
        assert worker[k]["variables"] == ["MirroredVariable"]
        assert_trained_like(worker[k], mirrored[k][how])
    for key in ("masks", "weights", "losses"):
        assert workers[0][k][key] == workers[1][k][key]
    assert [worker["is_chief"] for worker in workers] == [True, False]


@pytest.mark.slow
def test_two_workers_evaluate_and_strip(workers, mirrored):
    for worker in workers:
        assert worker["tf_keras"]["evaluated"] == pytest.approx(
            mirrored["tf_keras"]["alone"]["evaluated"], abs=2e-6
        )
        assert worker["tf_keras"]["not_zero_when_stripped"] == 0
        assert worker["zoo"]["not_zero"] == worker["zoo"]["not_zero_when_stripped"] == 0
    assert workers[0]["zoo"]["weights"] == workers[1]["zoo"]["weights"]


@pytest.mark.slow
@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("weights", "workers hold different initial weights: received other ones on worker 1"),
        ("nan", "workers hold different initial weights: received other ones on worker 1"),
        ("masks", "workers hold different masks: received other ones on worker 1"),
    ],
)
def test_every_worker_notices_a_difference(workers, k, case, words):
    messages = [worker[f"{k}_{case}"] for worker in workers]
    assert messages[0] == messages[1]
    assert messages[0].startswith("MaskError: ")
    assert words in messages[0]


@pytest.mark.slow
def test_every_worker_stops_when_the_chief_cannot_start(workers):
    assert workers[0]["on_chief"] == "OutputError: the folder is taken"
    assert workers[1]["on_chief"].startswith("ClusterError: the chief worker could not start")
    for worker in workers:
        assert "ClusterError: the workers find, in '/here', checkpoints" in worker["epochs"]
        assert "of the epochs 0, 3 (0: none)" in worker["epochs"]


@pytest.mark.slow
def test_backup_and_restore_after_a_killed_worker(workers, mirrored):
    alone, found = mirrored["tf_keras"]["alone"], [worker["restored"] for worker in workers]
    for worker in found:
        assert worker["epochs"] == [1, 2]
        assert worker["masks"] == alone["masks"]
        assert worker["not_zero"] == 0
        assert worker["losses"] == pytest.approx(alone["losses"][1:], abs=2e-6)
    assert found[0]["weights"] == found[1]["weights"]


@pytest.mark.slow
def test_a_run_goes_on_after_a_killed_worker(tmp_path):
    config = TrainConfig(
        data="digits",
        model="mlp",
        compression=4,
        rounds=5,
        epochs=8,
        batch_size=128,
        learning_rate=0.05,
    )
    loop.run(config, str(tmp_path / "alone"), verbose=False)
    run = tmp_path / "run"
    flags = [*config.flag_lines(), "--strategy=multiworker", f"--output_dir={run}", "--noverbose"]
    flags.remove("--strategy=none")
    command = ["-m", "tf_synflow.cli.train", *flags]
    with started(command, tmp_path, two_workers()) as (chief, other):
        deadline = time.monotonic() + TIMEOUT
        while not list((run / "checkpoints").glob("epoch-2.index")):
            assert chief.poll() is None and other.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        other.kill()
        assert chief.wait(TIMEOUT) == 1
    message = (tmp_path / "stderr0").read_text()
    assert "train.py: error: another worker was lost" in message
    assert "--resume" in message
    before = (run / "metrics.jsonl").read_text().splitlines()
    masks = (run / "masks.npz").read_bytes()
    assert 2 <= len(before) < 8
    with started([*command, "--resume"], tmp_path, two_workers()) as running:
        finished(running, tmp_path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines()
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[:2] == [json.loads(line) for line in before[:2]]
    for line, alone in zip(lines, map(json.loads, expected), strict=True):
        assert line["loss"] == pytest.approx(alone["loss"], abs=1e-4)
        assert line["test_loss"] == pytest.approx(alone["test_loss"], abs=1e-4)
    assert (run / "masks.npz").read_bytes() == masks
    # One folder, and nothing in it of the worker that does not write.
    alone = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in run.iterdir()} == alone


@pytest.mark.slow
def test_parameter_servers_keep_the_zeros(mirrored, tmp_path):
    (found,) = scenario("parameter_server", tmp_path)
    assert found["masks"] == mirrored["tf_keras"]["alone"]["masks"]
    assert found["not_zero"] == 0
    # Steps are asynchronous: where the loss goes depends on who comes first, that it moves not.
    assert np.isfinite(found["losses"]).all() and len(set(found["losses"])) > 1


@pytest.mark.slow
def test_the_example_in_the_docs_runs(tmp_path):
    text = (ROOT / "docs" / "distributed.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with started(["-c", block], tmp_path) as running:
        finished(running, tmp_path)


GOOD = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    ("tf_config", "words"),
    [
        (None, "received: nothing"),
        ("", "received: nothing"),
        ("{'cluster'", "no JSON"),
        ("[]", "no objects 'cluster' and 'task'"),
        ({"cluster": GOOD["cluster"]}, "no objects 'cluster' and 'task'"),
        ({**GOOD, "cluster": {}}, "no worker"),
        ({**GOOD, "cluster": {"worker": ["a:1", "a:1"]}}, "one address twice"),
        ({**GOOD, "cluster": {"worker": "a:1"}}, "'worker' is no list"),
        ({**GOOD, "cluster": {"worker": ["a", "b:2"]}}, "'worker' is no list"),
        ({**GOOD, "cluster": {"worker": ["a:1"], "ps": ["b:2"]}}, "its cluster has 'ps'"),
        ({**GOOD, "cluster": {"chief": ["a:1", "b:2"], "worker": ["c:3"]}}, "one chief"),
        ({**GOOD, "task": {"type": "chief", "index": 0}}, "'chief', which the cluster does not"),
        ({**GOOD, "task": {"type": "worker", "index": 2}}, "is 2, of 2"),
        ({**GOOD, "task": {"type": "worker", "index": "1"}}, "is '1', of 2"),
    ],
    ids=str,
)
def test_tf_config_is_checked_before_anybody_waits(tf_config, words, monkeypatch, tmp_path):
    if tf_config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        text = tf_config if isinstance(tf_config, str) else json.dumps(tf_config)
        monkeypatch.setenv("TF_CONFIG", text)
    config = TrainConfig(strategy="multiworker")
    with pytest.raises(ClusterError) as raised:
        loop.run(config, str(tmp_path / "run"), verbose=False)
    assert str(raised.value).startswith("TF_CONFIG received: ")
    assert words in str(raised.value)
    assert '"task": {"type": "worker", "index": 0}' in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_strategy_is_refused():
    with pytest.raises(UnknownNameError, match="expected one of mirrored, multiworker, none"):
        strategy.start("tpu")
