"""flexpie_mpi: run an ONNX model across MPI ranks, split by layers, channels, rows, columns or grids.

A script that ``mpirun`` starts is one for onnxruntime with another import::

    import flexpie_mpi as ort

    session = ort.InferenceSession("builtin:resnet18")
    for frame in frames:
        print(session.run(None, {"input": frame})[0].argmax())

Underneath, ``start()`` joins the job, ``load_shared`` gives each rank the model, and an ``Engine`` runs a ``Plan``.
``make_plans("auto", Task(graph, testbed, cost))`` searches for a fast plan, ``price`` says what any plan is predicted
to take, and ``explain`` why a plan is as it is.

Names are imported when they are first used, so that planning needs neither MPI nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.errors import FlexPieError
    from .core.graph import Graph
    from .core.layout import Layout
    from .core.plan import Plan, Segment
    from .cost.file import load_cost
    from .cost.prior import AnalyticCost
    from .model import Model, load
    from .planner import Search, Task, layout_plan, make_plans, price
    from .planner.explain import explain
    from .runtime.admission import Requests
    from .runtime.engine import Engine, load_shared
    from .runtime.loopback import run_ranks
    from .runtime.mpi import start
    from .session.generation import Generator
    from .session.inference import InferenceSession
    from .session.sampling import Sampling
    from .testbed import Device, Testbed, one_host, switch

__version__ = "0.1.0"

__all__ = [
    "AnalyticCost", "Device", "Engine", "FlexPieError", "Generator", "Graph", "InferenceSession", "Layout", "Model",
    "Plan", "Requests", "Sampling", "Search", "Segment", "Task", "Testbed", "explain", "layout_plan", "load",
    "load_cost", "load_shared", "make_plans", "one_host", "price", "run_ranks", "start", "switch",
]  # fmt: skip

_NAMES = {
    "core.errors": ("FlexPieError",),
    "core.graph": ("Graph",),
    "core.layout": ("Layout",),
    "core.plan": (
        "Plan",
        "Segment",
    ),
    "cost.file": ("load_cost",),
    "cost.prior": ("AnalyticCost",),
    "model": (
        "Model",
        "load",
    ),
    "planner": (
        "Search",
        "Task",
        "layout_plan",
        "make_plans",
        "price",
    ),
    "planner.explain": ("explain",),
    "runtime.engine": (
        "Engine",
        "load_shared",
    ),
    "runtime.admission": ("Requests",),
    "runtime.loopback": ("run_ranks",),
    "runtime.mpi": ("start",),
    "session.generation": ("Generator",),
    "session.sampling": ("Sampling",),
    "session.inference": ("InferenceSession",),
    "testbed": (
        "Device",
        "Testbed",
        "one_host",
        "switch",
    ),
}
"""The public names by the module that holds them."""
_HOMES = {name: home for home, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
