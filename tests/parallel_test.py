"""Work that threads share: whole, in order, with the errors that arise in it."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_synflow import parallel

MUCH = 10**12


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    monkeypatch.setattr(parallel, "threads", lambda: 4)


@pytest.mark.parametrize("work", [None, 0, MUCH])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 50])
def test_results_are_in_order(number, work):
    assert parallel.each(lambda i: i * i, range(number), work) == [i * i for i in range(number)]


def test_as_many_at_once_as_there_are_threads():
    meeting = threading.Barrier(4, timeout=60)  # broken, unless four are there together
    found = parallel.each(lambda _: (meeting.wait(), threading.get_ident())[1], range(4))
    assert len(set(found)) == 4
    assert threading.get_ident() in found


def test_little_work_is_left_to_the_caller():
    assert set(parallel.each(lambda _: threading.get_ident(), range(9), 1000)) == {
        threading.get_ident()
    }


@pytest.mark.parametrize("wrong", [0, 7, 19])
def test_an_error_reaches_the_caller_once_all_are_done(wrong):
    running = []

    def work(i):
        running.append(i)
        try:
            if i == wrong:
                raise ValueError(f"item {i}")
        finally:
            running.remove(i)

    with pytest.raises(ValueError, match=f"item {wrong}"):
        parallel.each(work, range(20))
    assert not running


def test_within_itself():
    """Threads that wait for threads: none is left over, and there is no need of one."""

    def inner(i):
        return sum(parallel.each(lambda j: i * j, range(8)))

    assert parallel.each(inner, range(16)) == [28 * i for i in range(16)]


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0, 40_000_000, MUCH]))
def test_parts_make_up_the_whole(rows, columns, work):
    assert [i for part in parallel.parts(rows, work) for i in range(rows)[part]] == [*range(rows)]
    blocks = parallel.blocks((rows, columns), work)
    places = [
        (i, j) for one, other in blocks for i in range(rows)[one] for j in range(columns)[other]
    ]
    assert sorted(places) == [(i, j) for i in range(rows) for j in range(columns)]
    assert len(blocks) == min(4, max(rows, columns), 1 + work // parallel._WORTH_SHARING)
