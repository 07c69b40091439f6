"""Planners: a graph and a number of ranks become a plan.

In goes the graph, out comes a plan of segments with a layout each. The one difficulty: every model must get a plan that
runs, so whatever cannot be cut as asked falls back to a layout that always works.
"""

from .fixed import PRESETS, layout_plan
from .fuse import FUSIONS

__all__ = ["FUSIONS", "PRESETS", "layout_plan"]
