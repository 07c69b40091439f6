"""flexpie_mpi: run an ONNX model across MPI ranks, split by layers, channels, rows, columns or grids.

A script under ``mpirun`` needs five lines::

    import flexpie_mpi as fp

    with fp.start() as transport:
        model = fp.load_shared(transport, "builtin:resnet18")
        engine = fp.Engine(transport, model, fp.layout_plan(model.graph, transport.size, "rows"))
        for outputs in engine.stream(requests):
            ...

Names are imported when they are first used, so that planning needs neither MPI nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine, load_shared
    from .errors import FlexPieError
    from .graph import Graph
    from .layout import Layout
    from .model import Model, load
    from .plan import Plan, Segment
    from .planner import layout_plan
    from .runtime.loopback import run_ranks
    from .runtime.mpi import start

__version__ = "0.1.0"

__all__ = [
    "Engine", "FlexPieError", "Graph", "Layout", "Model", "Plan", "Segment",
    "layout_plan", "load", "load_shared", "run_ranks", "start",
]  # fmt: skip

_HOMES = {
    "Engine": "engine", "load_shared": "engine", "FlexPieError": "errors", "Graph": "graph", "Layout": "layout",
    "Model": "model", "load": "model", "Plan": "plan", "Segment": "plan", "layout_plan": "planner",
    "run_ranks": "runtime.loopback", "start": "runtime.mpi",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
