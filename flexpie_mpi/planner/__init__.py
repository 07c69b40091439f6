"""Planners: a graph, boards and a cost model become a plan.

In goes the graph, the testbed it is to run on and what everything costs there; out comes a plan of segments with a
layout each, and what it is predicted to take. The one difficulty: every model must get a plan that runs, so whatever
cannot be cut as asked falls back to a layout that always works.

Here is what plans for latency: the least seconds of one request. Plans of most requests per second are in the room
:mod:`~flexpie_mpi.pipeline`, which builds on it.
"""

from .latency import PricedPlan, Search, Task, price
from .registry import make_plans
from .rules import layout_plan

__all__ = [
    "PricedPlan",
    "Search",
    "Task",
    "layout_plan",
    "make_plans",
    "price",
]
