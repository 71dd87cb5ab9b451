"""What an error says of a name that is none of those known."""

import pytest

from tf_synflow import errors

TARGETS = ("cpu-x86", "cpu-arm", "wasm", "microcontroller")
FORMATS = ("None (float32)", "float16", "dynamic", "int8")


@pytest.mark.parametrize(
    ("received", "known", "meant"),
    [
        ("wasn", TARGETS, "wasm"),
        ("arm", TARGETS, "cpu-arm"),
        ("INT8", FORMATS, "int8"),
        ("float32", FORMATS, "None (float32)"),
        ("float61", FORMATS, "float16"),
        ("toaster", TARGETS, None),
        ("cpu", TARGETS, None),
        ("", TARGETS, None),
        (None, TARGETS, None),
        (3, (), None),
    ],
)
def test_what_was_meant(received, known, meant):
    said = str(errors.UnknownNameError("name", received, known))
    assert repr(received) in said and all(name in said for name in known)
    assert said.partition("Did you mean ")[2] == (f"{meant}?" if meant else "")
