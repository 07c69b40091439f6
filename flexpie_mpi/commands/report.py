"""``flexpie-mpi report``: tables and plots of what ``bench`` measured, or the picture of a plan.

Needs no ranks, but matplotlib, which what draws says where there is none.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from ..core.errors import PlanError, ReportError
from ..core.graph import Graph
from ..core.plan import Plan
from ..lower import turns_of
from ..model.zoo import MODELS
from ..report.plans import plan_record
from ..report.planview import plan_view
from ..session.opening import read_plan
from ..suite.results import Result, read_results
from . import UsageError
from .options import add_model_arguments, add_record_arguments, load_model, start_log
from .output import Progress, check_distinct, check_paths, make_folder, publish

PICTURES = (".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("results", nargs="*", metavar="results.jsonl", help="what 'flexpie-mpi bench' measured")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for README.md and its pictures, or for those of --plan; made where missing",
    )
    _add_plan_arguments(parser.add_argument_group("a plan"))
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Report on what is given."""
    start_log(args.verbose)
    return _draw_plan(args) if args.plan is not None else _report_results(args)


def _report_results(args: argparse.Namespace) -> int:
    """Write tables and plots of rows of results, and say what they come to."""
    if not args.results:
        raise UsageError("report needs to know on what: give the results that 'flexpie-mpi bench' wrote")
    if args.output is None:
        raise UsageError("report needs a folder to write to: give --output DIR")
    check_paths({"--json": args.json})
    from ..report import page

    rows = _read(args.results)
    folder = make_folder(args.output)
    with Progress(sys.stderr) as progress:
        made = page.make_page(rows, args.results)
        page.write_page(made, folder, progress.tell)
    publish(partial(page.summary_items, made, args.output), made.record, args.json)
    return 0


def _read(paths: list[str]) -> tuple[Result, ...]:
    """Rows of all files; of rows of the same suite, cell and planner the last."""
    check_distinct(paths, "results")
    rows = {(row.suite, *row.key): row for path in paths for row in read_results(path)}
    if not rows:
        raise ReportError(f"there are no rows in {', '.join(paths)}: let 'flexpie-mpi bench' measure some first")
    return tuple(rows.values())


def _add_plan_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--plan", metavar="plan.json", help="draw this plan instead: nodes, ranks, layouts, messages")
    group.add_argument(
        "--model",
        metavar="FILE.onnx|builtin:NAME",
        help="the plan's model, for its messages and redundant work (default: the built-in one that the plan names)",
    )
    add_model_arguments(group)


def _draw_plan(args: argparse.Namespace) -> int:
    """Write the picture of ``--plan`` for light and dark pages, as PNG and SVG.

    Raises PlanError when there is no such plan, or it is not one of ``--model``. Raises ReportError without matplotlib.
    """
    if args.output is None:
        raise UsageError("report needs a place for the picture: give --output DIR, or --output FILE.png")
    folder, stem = _target(args.output)
    names = [f"{stem}{dark}{kind}" for dark in ("", "-dark") for kind in PICTURES]
    if args.results:
        raise UsageError(f"report draws --plan or reports on '{args.results[0]}': give one of the two")
    plan = read_plan(args.plan)
    from ..report import figure, planpicture

    make_folder(str(folder))
    check_paths({**{f"--output ({name})": str(folder / name) for name in names}, "--json": args.json})
    with Progress(sys.stderr) as progress:
        progress.tell("reading the model")
        graph = _graph(args, plan)
        progress.tell("drawing")
        view = plan_view(plan, graph, turns_of(plan, graph) if graph else ())
        paths = figure.save(planpicture.plan_picture(view), folder, stem)
    words = planpicture.plan_words(view)
    pictures = [str(path) for path in paths]
    record = {"plan": plan_record(plan), "about": words, "redundant_share": view.redundant, "pictures": pictures}
    hint = [] if graph else ["messages and redundant work need the plan's model: give --model"]
    publish(lambda: [f"plan     {words}", *hint, f"pictures {', '.join(pictures)}"], record, args.json)
    return 0


def _target(output: str) -> tuple[Path, str]:
    """The folder of the pictures, and what their names begin with: ``plan`` unless a file is asked for."""
    path = Path(output)
    return (path.parent, path.stem) if path.suffix in PICTURES else (path, "plan")


def _graph(args: argparse.Namespace, plan: Plan) -> Graph | None:
    """The plan's graph; None where it is not known.

    Raises PlanError when the model that is given is another.
    """
    name = plan.provenance.get("model")
    source = args.model or (f"builtin:{name}" if name in MODELS else None)
    if source is None:
        return None
    graph = load_model(args, source).graph
    if graph.digest == plan.model:
        return graph
    if args.model is None:
        return None
    raise PlanError(
        f"plan file '{args.plan}' is for another model (digest {plan.model}; '{args.model}' has {graph.digest}): "
        "give the model and the --shape that the plan was made with"
    )
