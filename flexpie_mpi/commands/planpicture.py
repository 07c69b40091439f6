"""``flexpie-mpi report --plan``: the picture of a plan."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.plan import Plan
from ..model import load
from ..model.zoo import MODELS
from ..report.plans import plan_record
from ..report.planview import plan_view
from ..report.progress import Progress
from .basis import late
from .options import add_model_arguments, budget_of, cache_of, shapes_of
from .output import check_paths, make_folder, publish, write_record
from .parser import UsageError
from .planning import read_plan

PICTURES = (".png", ".svg")


def add_plan_arguments(group: argparse._ArgumentGroup) -> None:
    """What to draw."""
    group.add_argument("--plan", metavar="plan.json", help="draw this plan instead: nodes, ranks, layouts, messages")
    group.add_argument(
        "--model",
        metavar="FILE.onnx|builtin:NAME",
        help="the plan's model, for its messages and redundant work (default: the built-in one that the plan names)",
    )
    add_model_arguments(group)


def draw_plan(args: argparse.Namespace) -> int:
    """Write the picture of ``--plan`` for light and dark pages, as PNG and SVG.

    Raises
    ------
    PlanError
        When there is no such plan, or it is not one of ``--model``.
    ReportError
        Without matplotlib.
    """
    if args.output is None:
        raise UsageError("report needs a place for the picture: give --output DIR, or --output FILE.png")
    folder, stem = _place(args.output)
    names = [f"{stem}{dark}{kind}" for dark in ("", "-dark") for kind in PICTURES]
    if args.results:
        raise UsageError(f"report draws --plan or reports on '{args.results[0]}': give one of the two")
    plan = read_plan(args.plan)
    figure = late("report.figure")  # says what to install where there is no matplotlib
    make_folder(str(folder))
    check_paths({**{f"--output ({name})": str(folder / name) for name in names}, "--json": args.json})
    with Progress(sys.stderr) as progress:
        progress.tell("reading the model")
        graph = _graph(args, plan)
        progress.tell("drawing")
        picture = late("report.planpicture")
        view = plan_view(plan, graph)
        paths = figure.save(picture.plan_picture(view), folder, stem)
    words = picture.plan_words(view)
    record = {"plan": plan_record(plan), "about": words, "redundant_share": view.redundant}
    record["pictures"] = [str(path) for path in paths]
    write_record(record, args.json)
    hint = [] if graph else ["messages and redundant work need the plan's model: give --model"]
    publish([f"plan     {words}", *hint, f"pictures {', '.join(record['pictures'])}"], record, args.json)
    return 0


def _place(output: str) -> tuple[Path, str]:
    """The folder of the pictures, and what their names begin with: ``plan`` unless a file is asked for."""
    path = Path(output)
    return (path.parent, path.stem) if path.suffix in PICTURES else (path, "plan")


def _graph(args: argparse.Namespace, plan: Plan) -> Graph | None:
    """The plan's graph; None where it is not known.

    Raises
    ------
    PlanError
        When the model that is given is another.
    """
    name = plan.provenance.get("model")
    source = args.model or (f"builtin:{name}" if name in MODELS else None)
    if source is None:
        return None
    graph = load(source, shapes_of(args), cache_of(args), budget=budget_of(args)).graph
    if graph.digest == plan.model:
        return graph
    if args.model is None:
        return None
    raise PlanError(
        f"plan file '{args.plan}' is for another model (digest {plan.model}; '{args.model}' has {graph.digest}): "
        "give the model and the --shape that the plan was made with"
    )
