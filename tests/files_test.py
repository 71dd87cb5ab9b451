"""Files that appear whole or not at all."""

import errno
import os
import pathlib

import pytest

from tf_synflow import errors, files


def test_a_file_takes_the_place_of_another(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.whole(path) as temporary:
        assert temporary.name == path.name and temporary != path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder(tmp_path):
    with files.whole(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("1")
    assert (tmp_path / "model" / "part").read_text() == "1"


@pytest.mark.parametrize("folder", [False, True])
def test_nothing_is_left_of_what_failed(folder, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.whole(path) as temporary:
        temporary.mkdir() if folder else temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "a.txt"
    with files.whole(path) as first, files.whole(path) as second:
        second.write_text("second")
        first.write_text("first")
    assert path.read_text() == "first"  # which ended last
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_name_and_a_link(tmp_path):
    path, link = tmp_path / ("a" * 255), tmp_path / "link"
    link.symlink_to(path)
    for one in (path, link):
        with files.whole(one) as temporary:
            temporary.write_text(one.name)
        assert path.read_text() == one.name
    assert link.is_symlink()


def test_what_was_said_already_is_not_said_again(tmp_path):
    with pytest.raises(errors.OutputError, match="^no room in TMPDIR$"):
        with files.whole(tmp_path / "a.txt"):
            raise errors.OutputError("no room in TMPDIR")


def test_a_missing_folder(tmp_path):
    path = tmp_path / "none" / "a.txt"
    with (
        pytest.raises(errors.OutputError, match=r"none/a\.txt.*No such file.*expected a folder"),
        files.whole(path) as temporary,
    ):
        temporary.write_text("text")
    assert not path.parent.exists()


def test_a_pipe_stays_what_it_is(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(errors.OutputError, match="a pipe"), files.whole(path) as temporary:
        temporary.write_text("text")
    assert path.is_fifo() and list(tmp_path.iterdir()) == [path]


def test_a_full_disk(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(errors.OutputError, match="No space left"), files.whole(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(bytes(10_000))
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_disk(tmp_path, monkeypatch):
    def refuses(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "unlink", refuses)
    path = tmp_path / "a.txt"
    with pytest.raises(errors.OutputError, match=r"a\.txt.*Read-only"), files.whole(path):
        refuses()
