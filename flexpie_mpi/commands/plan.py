"""``flexpie-mpi plan``: choose segments and layouts for boards, without starting any."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.versions import versions
from ..files.atomic import write_text
from ..lower import lower
from ..lower.facts import PlanFacts, facts_of
from ..model import Model, load
from ..planner import price
from ..planner.explain import Why, why
from ..report.models import model_lines, model_record
from ..report.plans import (
    facts_record,
    needs_record,
    needs_table,
    plan_items,
    plan_record,
    planner_line,
)
from ..report.predicted import choice_table, prediction_lines, prediction_record, why_items, why_record
from ..report.progress import Progress
from ..report.tables import Item
from ..session.planning import Prediction
from .basis import Basis, basis_of_files
from .options import (
    DEFAULT_MODEL,
    add_cost_arguments,
    add_layout_arguments,
    add_model_arguments,
    add_record_arguments,
    budget_of,
    cache_of,
    positive,
    shapes_of,
    start_log,
)
from .output import STDOUT, check_paths, publish, write_record
from .pipelines import LATENCY, PARETO, THROUGHPUT, add_pipeline_arguments, check_objective, run_pipelines
from .planning import Asked, check_choices, predict

OBJECTIVES = (LATENCY, THROUGHPUT, PARETO)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="FILE.onnx|builtin:NAME", help="model (default: %(default)s)"
    )
    parser.add_argument("--ranks", type=positive, metavar="N", help="ranks to plan for (default: the testbed's)")
    parser.add_argument("--output", metavar="plan.json", help="where to write the plan")
    parser.add_argument(
        "--top", type=positive, default=1, metavar="K", help="find the K best plans; the others go to plan-2.json, ..."
    )
    parser.add_argument("--explain", action="store_true", help="say what every choice costs, and what others would")
    add_cost_arguments(parser)
    add_model_arguments(parser)
    add_layout_arguments(parser, OBJECTIVES)
    add_pipeline_arguments(parser)
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Make the plan, write it, and say what it asks of every rank and what it is predicted to take."""
    start_log(args.verbose)
    check_choices(args)
    check_objective(args)
    if args.objective != LATENCY:
        return run_pipelines(args)
    paths = _paths(args.output, args.top)
    check_paths({**{f"--output ({place + 1})": path for place, path in enumerate(paths)}, "--json": args.json})
    with Progress(sys.stderr) as progress:
        progress.tell("reading what predictions stand on")
        basis = basis_of_files(args)
        progress.tell(f"loading {args.model}")
        model = load(args.model, shapes_of(args), cache_of(args), budget=budget_of(args))
        progress.tell(f"planning {model.name} for {basis.testbed.ranks} ranks")
        prediction = predict(args, model.graph, basis, args.top)
        facts = facts_of(prediction.best.plan, model.graph, lower(prediction.best.plan, model.graph))
        progress.tell("explaining the plan")
        reasons = _why(prediction, model, basis) if args.explain else None
    plans = prediction.search.plans
    for path, priced in zip(paths, plans, strict=False):  # there may be fewer plans than were asked for
        write_text(path, priced.plan.to_json())
    record = _record(args, model, prediction, facts, reasons)
    write_record(record, args.json)
    items = () if args.json == STDOUT else _items(args, model, prediction, facts, reasons)
    publish(items, record, args.json)
    return 0


def _paths(output: str | None, top: int) -> list[str]:
    """Where each of the plans goes: ``plan.json``, ``plan-2.json``, and so on."""
    if output is None:
        return []
    first = Path(output)
    others = (str(first.with_name(f"{first.stem}-{number}{first.suffix}")) for number in range(2, top + 1))
    return [output, *others]


def _why(prediction: Prediction, model: Model, basis: Basis) -> Why:
    best, search = prediction.best, prediction.search
    free = price(best.plan, model.graph, basis.testbed, _WithoutCalls(basis.cost))
    path = search.paths[0] if search.paths else None
    return why(best, free, basis.testbed.ranks, search.problem, path)


class _WithoutCalls(Asked):
    """A cost model by which calling sessions takes no time."""

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.zeros(len(calls))


def _items(
    args: argparse.Namespace, model: Model, prediction: Prediction, facts: PlanFacts, reasons: Why | None
) -> Sequence[Item]:
    items: list[Item] = [*model_lines(model), planner_line(prediction.best.plan), *prediction_lines(prediction), ""]
    items += plan_items(facts, prediction.best, everything=args.verbose)
    items += ["", needs_table(facts)]
    if len(prediction.search.plans) > 1:
        items += ["", choice_table(prediction.search.plans)]
    if reasons is not None:
        items += ["", *why_items(reasons, everything=args.verbose)]
    return items


def _record(
    args: argparse.Namespace, model: Model, prediction: Prediction, facts: PlanFacts, reasons: Why | None
) -> dict[str, Any]:
    others = [replace(prediction, chosen=place) for place in range(1, len(prediction.search.plans))]
    record = {
        "model": model_record(model, args.model),
        **prediction_record(prediction),
        "plan": plan_record(prediction.best.plan),
        "plan_facts": facts_record(facts),
        "ranks": needs_record(facts),
        "others": [{"predicted_s": other.best.seconds, "plan": plan_record(other.best.plan)} for other in others],
        "versions": versions(),
    }
    return record | ({"explanation": why_record(reasons)} if reasons else {})
