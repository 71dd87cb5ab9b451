"""Settings of the process: as they were, whoever changed them in between, and in which order."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from tf_synflow import process


@pytest.fixture
def setting():
    """A list with one value, and what changes it for a while."""
    value = ["before"]

    @process.shared
    @contextlib.contextmanager
    def changed():
        saved, value[0] = value[0], "changed"
        try:
            yield
        finally:
            value[0] = saved

    return value, changed


def test_who_leaves_last_puts_it_back(setting):
    value, changed = setting
    first, second = changed(), changed()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert value == ["changed"]
    second.__exit__(None, None, None)
    assert value == ["before"]


def test_an_error_within_it(setting):
    value, changed = setting
    with pytest.raises(KeyError), changed(), changed():
        raise KeyError
    assert value == ["before"]
    with changed():
        assert value == ["changed"]
    assert value == ["before"]


def test_a_change_that_fails_is_not_counted():
    works = []

    @process.shared
    @contextlib.contextmanager
    def changed():
        if not works:
            raise OSError
        yield

    with pytest.raises(OSError), changed():
        pass
    works.append(True)
    with changed():
        pass


def test_many_threads(setting):
    value, changed = setting
    found = []

    def work():
        for _ in range(300):
            with changed():
                found.append(value[0])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {"changed"} and value == ["before"]


def test_what_is_muted_and_what_is_heard_after():
    code = """if True:
        import os, warnings
        from tf_synflow import process
        with process.quiet(), process.mute():
            os.write(2, b"one ")
            warnings.warn("two ")
        os.write(2, b"three")
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={**os.environ})
    assert done.stderr == b"three"
