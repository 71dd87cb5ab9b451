"""Unit rules: one function per layer kind, what becomes of the channels that it is called with.

A rule takes a `Call` and gives a `Signal` for each output. A layer without a rule, or whose rule
gives None, keeps all units of its inputs and outputs. One file a family; a new file here is found
by itself.
"""

import importlib
import pkgutil

from tf_synflow.shrinking.rules.registry import (
    Rule,
    couples_units,
    find,
    is_concatenation,
    is_merge,
    unit_rule,
)

__all__ = ["Rule", "couples_units", "find", "is_concatenation", "is_merge", "unit_rule"]

for _family in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_family.name}")
