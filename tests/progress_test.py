"""The progress bar: when it is shown, and when not."""

import pytest

from tf_synflow import errors, progress


@pytest.mark.parametrize(
    ("verbose", "disabled", "delay"),
    [
        (True, False, 0),
        (1, False, 0),
        (False, True, 0),
        (0, True, 0),  # what Keras calls silent
        ("auto", False, progress.DELAY_SECONDS),
    ],
)
def test_a_bar_is_shown_as_asked_for(verbose, disabled, delay):
    with progress.bar(range(3), verbose=verbose) as bar:
        assert bar.disable == disabled
        assert disabled or bar.delay == delay
        assert list(bar) == [0, 1, 2]


@pytest.mark.parametrize("verbose", ["yes", 2, None])
def test_another_verbosity(verbose):
    with pytest.raises(errors.UnknownNameError, match="verbose"):
        progress.bar(verbose=verbose)
