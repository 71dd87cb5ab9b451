"""The run folder: whose it is, what is in it, and metrics that survive a kill."""

import dataclasses
import os

import numpy as np
import pytest

from tf_synflow import Masks
from tf_synflow.errors import OutputError
from tf_synflow.train.config import TrainConfig
from tf_synflow.train.run_folder import RunFolder

CONFIG = TrainConfig(lr_drops=(2, 4), data_dir="/some/where")
MASKS = Masks({"dense/kernel": np.eye(3, dtype=bool)})


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.check(CONFIG, resume=False)
    folder.claim(CONFIG, MASKS)
    return folder


def test_check_writes_nothing(tmp_path):
    RunFolder(tmp_path / "a" / "b").check(CONFIG, resume=False)
    assert list(tmp_path.iterdir()) == []


def test_claim_files_flags_versions_and_masks(folder):
    lines = (folder.path / "flags.cfg").read_text().splitlines()
    assert {"--lr_drops=2,4", "--data_dir=/some/where", "--noexport", "--epochs=10"} <= set(lines)
    assert not any(line.startswith("--rounds") for line in lines)  # None: left to its default
    assert "tensorflow" in (folder.path / "versions.json").read_text()
    assert Masks.load(folder.masks) == MASKS


def test_another_run_is_refused(folder):
    with pytest.raises(OutputError, match="holds another run.*--resume"):
        folder.check(CONFIG, resume=False)


def test_resume_takes_the_same_run_only(folder):
    folder.check(CONFIG, resume=True)
    other = dataclasses.replace(CONFIG, epochs=11, scorer="magnitude")
    with pytest.raises(OutputError, match="'magnitude', was 'synflow'.*--epochs is 11, was 10"):
        folder.check(other, resume=True)


def test_claiming_again_keeps_what_is_there(folder):
    before = (folder.path / "flags.cfg").read_text()
    folder.claim(CONFIG, Masks({"dense/kernel": np.ones((3, 3), bool)}))
    assert (folder.path / "flags.cfg").read_text() == before
    assert Masks.load(folder.masks) == MASKS


def test_nothing_to_resume(tmp_path):
    with pytest.raises(OutputError, match="no run to resume"):
        RunFolder(tmp_path).check(CONFIG, resume=True)


def test_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        RunFolder(tmp_path).check(CONFIG, resume=False)
    with pytest.raises(OutputError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex").check(CONFIG, resume=False)
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder(tmp_path / "thesis.tex" / "below").check(CONFIG, resume=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder(tmp_path / "run").check(CONFIG, resume=False)


def test_folder_on_a_file_system_that_cannot_be_written():
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder("/proc/run").check(CONFIG, resume=False)


def test_metrics_are_cut_to_the_checkpoint(folder):
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch, "loss": 1 / epoch})
    with open(folder.metrics, "a") as file:
        file.write('{"epoch": 4, "lo')  # a kill in the middle of a line
    folder.cut_metrics(2)
    folder.append_metrics({"epoch": 3, "loss": 0.5})
    assert [line["epoch"] for line in folder.read_metrics()] == [1, 2, 3]
    assert folder.metrics.read_text().count("\n") == 3
