"""On what a figure was measured: one line, the same in every table."""

import os
import platform
from collections.abc import Iterable

from tf_synflow import version
from tf_synflow.deployment.machine import machine

EVERY = tuple(version.versions())


def processor_line(threads: int | None = None) -> str:
    """The processor, and how many threads were used, or else may be."""
    threads = threads or len(os.sched_getaffinity(0))
    return f"{machine()['processor']}, {threads} thread{'s' * (threads != 1)}"


def versions_line(packages: Iterable[str] = EVERY, **others: str) -> str:
    """Python, the packages, and what another environment said of its own."""
    found = version.versions()
    named = {"Python": platform.python_version(), **{name: found[name] for name in packages}}
    return ", ".join(f"{name} {number}" for name, number in {**named, **others}.items())
