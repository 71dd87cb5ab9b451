"""Columns line up, and numbers read as people write them."""

import pytest

from tf_synflow.tables import share, shortened, size, table


def test_words_go_left_and_numbers_right():
    rows = [("layer", "bytes", "runs"), ("a", "7", "dense"), ("longer", "12,345", "no")]
    assert table(rows, left=(0, 2)) == [
        "layer    bytes  runs",
        "a            7  dense",
        "longer  12,345  no",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (912, "912 B"), (1000, "1.00 kB"), (12_300, "12.30 kB"), (456e6, "456.0 MB")],
)
def test_bytes_in_decimal_units(number, text):
    assert size(number) == text


def test_a_share_of_nothing_or_of_what_is_not_known():
    assert (share(1, 3), share(0, 0), share(None, 3)) == ("33.33%", "-", "-")


def test_a_long_name_keeps_its_end():
    assert shortened("abc", 3) == "abc"
    assert shortened("a/b/kernel", 7) == "…kernel"
