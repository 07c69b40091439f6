"""flexpie_mpi: run an ONNX model across MPI ranks, split by layers, channels, rows, columns or grids.

A script under ``mpirun`` needs five lines::

    import flexpie_mpi as fp

    with fp.start() as transport:
        model = fp.load_shared(transport, "builtin:resnet18")
        engine = fp.Engine(transport, model, fp.layout_plan(model.graph, transport.size, "rows"))
        engine.stream(fp.Requests(requests), lambda number, outputs, latency_s: ...)

A fast plan takes boards and a cost model: ``fp.make_plans("auto", fp.Task(graph, testbed, cost))`` searches for it,
``fp.price`` says what any plan is predicted to take, ``fp.explain`` why a plan is as it is.

Names are imported when they are first used, so that planning needs neither MPI nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cost.file import load_cost
    from .cost.prior import AnalyticCost
    from .engine import Engine, load_shared
    from .errors import FlexPieError
    from .graph import Graph
    from .layout import Layout
    from .model import Model, load
    from .plan import Plan, Segment
    from .planner import Search, Task, layout_plan, make_plans, price
    from .planner.explain import explain
    from .runtime.flow import Requests
    from .runtime.loopback import run_ranks
    from .runtime.mpi import start
    from .testbed import Device, Testbed, one_host, switch

__version__ = "0.1.0"

__all__ = [
    "AnalyticCost", "Device", "Engine", "FlexPieError", "Graph", "Layout", "Model", "Plan", "Requests", "Search",
    "Segment", "Task", "Testbed", "explain", "layout_plan", "load", "load_cost", "load_shared", "make_plans",
    "one_host", "price", "run_ranks", "start", "switch",
]  # fmt: skip

_HOMES = {
    "AnalyticCost": "cost.prior", "load_cost": "cost.file", "Engine": "engine", "load_shared": "engine",
    "FlexPieError": "errors", "Graph": "graph", "Layout": "layout", "Model": "model", "load": "model", "Plan": "plan",
    "Segment": "plan", "Search": "planner", "Task": "planner", "explain": "planner.explain", "layout_plan": "planner",
    "make_plans": "planner", "price": "planner", "run_ranks": "runtime.loopback", "start": "runtime.mpi",
    "Requests": "runtime.flow", "Device": "testbed", "Testbed": "testbed", "one_host": "testbed", "switch": "testbed",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
