"""Which models there are."""

from collections.abc import Callable
from typing import NamedTuple

from tf_synflow.errors import UnknownNameError


class Entry(NamedTuple):
    """A model: its build function, `(kit, image, num_classes) -> logits`, and smallest image."""

    build: Callable
    min_size: int


_ENTRIES: dict[str, Entry] = {}


def register(name: str, *, min_size: int = 1) -> Callable:
    """Decorator: makes a build function known under `name`."""

    def decorate(build: Callable) -> Callable:
        _ENTRIES[name] = Entry(build, min_size)
        return build

    return decorate


def registered() -> tuple[str, ...]:
    """All names, sorted."""
    return tuple(sorted(_ENTRIES))


def look_up(name: str) -> Entry:
    """The model of this name; `UnknownNameError` if there is none."""
    if name not in _ENTRIES:
        raise UnknownNameError("model", name, _ENTRIES)
    return _ENTRIES[name]
