"""A smaller model with the same outputs: without the units through which nothing passes.

The folder has another name than its function: `tf_synflow.shrink` is the function, in whose place
Python would put a module of that name.
"""

from tf_synflow.shrinking.report import Row, ShrinkReport, shrink_report
from tf_synflow.shrinking.shrink import shrink

__all__ = ["Row", "ShrinkReport", "shrink", "shrink_report"]
