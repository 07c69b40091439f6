"""``flexpie-mpi plan --objective throughput`` and ``pareto``: pipelines, and the front of all plans worth having."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from ..core.errors import PlanError
from ..core.versions import versions
from ..files.atomic import write_text
from ..lower import lower
from ..lower.facts import facts_of
from ..model import Model, load
from ..pipeline import EXACT, Pipeline, Problem, crossings, front, place, pose
from ..placement.solvers import SOLVERS
from ..report.models import model_lines, model_record
from ..report.pipelines import Front, Throughput, front_items, front_record, throughput_items, throughput_record
from ..report.plans import facts_record, plan_items, plan_record
from ..report.progress import Progress
from ..report.tables import Item
from .basis import Basis, basis_of_files
from .options import Parser, budget_of, cache_of, positive, seconds, shapes_of
from .output import STDOUT, check_paths, publish, write_record
from .parser import UsageError

LATENCY, THROUGHPUT, PARETO = "latency", "throughput", "pareto"

TIME_LIMIT_S = 60.0
"""What a search may take where nothing else is said."""

_OF_PIPELINES = ("planner", "time_limit", "most_boards", "compare")
_OF_LATENCY = ("layout", "fuse", "weights", "grid", "explain")


def add_pipeline_arguments(parser: Parser) -> None:
    """How to search for pipelines."""
    parser.add_argument(
        "--planner",
        choices=tuple(SOLVERS),
        metavar="NAME",
        help=f"for throughput, who places stages on boards: {', '.join(SOLVERS)} (default: {EXACT}, the best, proved)",
    )
    parser.add_argument(
        "--time-limit",
        type=seconds,
        metavar="SECONDS",
        help=f"for throughput, seconds of search; then it says how far off it can be (default: {TIME_LIMIT_S:g})",
    )
    parser.add_argument("--most-boards", type=positive, metavar="N", help="for throughput, use no more boards than N")
    parser.add_argument("--compare", action="store_true", default=None, help="for throughput, try every planner")


def check_objective(args: argparse.Namespace) -> None:
    """Refuse arguments that do not go with the objective.

    Raises
    ------
    UsageError
    """
    wrong = _OF_PIPELINES if args.objective == LATENCY else _OF_LATENCY
    given = [name for name in wrong if getattr(args, name) not in (None, False)]
    if args.objective != LATENCY and args.top > 1:
        given.append("top")
    if args.objective == PARETO and args.compare:
        given.append("compare")
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} does not go with --objective {args.objective}")


def run_pipelines(args: argparse.Namespace) -> int:
    """Make the plan, or the plans of the front, write them, and say what they are predicted to do."""
    check_paths({"--output": args.output, "--json": args.json})
    began_s = perf_counter()
    with Progress(sys.stderr) as progress:
        progress.tell("reading what predictions stand on")
        basis = basis_of_files(args)
        progress.tell(f"loading {args.model}")
        model = load(args.model, shapes_of(args), cache_of(args), budget=budget_of(args))
        progress.tell(f"pricing {model.name} on {basis.testbed.ranks} boards")
        problem = pose(model.graph, basis.testbed, basis.cost)
        work = _front if args.objective == PARETO else _throughput
        items, record = work(args, model, basis, problem, progress.tell, began_s)
    record = {"model": model_record(model, args.model), **record, "versions": versions()}
    write_record(record, args.json)
    publish(() if args.json == STDOUT else [*model_lines(model), *items], record, args.json)
    return 0


Tell = Callable[[str], None]


def _throughput(
    args: argparse.Namespace, model: Model, basis: Basis, problem: Problem, tell: Tell, began_s: float
) -> tuple[Sequence[Item], dict[str, Any]]:
    solver = args.planner or EXACT
    tell(f"placing {model.name}: {solver}")
    made = _placed(args, problem, solver)
    others: dict[str, Pipeline | str] = {}
    for name in SOLVERS if args.compare else ():
        if name != solver:
            tell(f"placing {model.name}: {name}")
            others[name] = _placed_or_why(args, problem, name)
    plan = made.streamed.plan
    if args.output is not None:
        write_text(args.output, plan.to_json())
    facts = facts_of(plan, model.graph, lower(plan.variant(0), model.graph))
    found = Throughput(problem, made, others, basis.boards, basis.source, perf_counter() - began_s)
    items = throughput_items(found)
    if args.verbose:
        items += ["", *plan_items(facts, everything=True)]
    return items, {**throughput_record(found), "plan": plan_record(plan), "plan_facts": facts_record(facts)}


def _placed(args: argparse.Namespace, problem: Problem, solver: str) -> Pipeline:
    return place(problem, solver, time_limit_s=args.time_limit or TIME_LIMIT_S, most_boards=args.most_boards)


def _placed_or_why(args: argparse.Namespace, problem: Problem, solver: str) -> Pipeline | str:
    try:
        return _placed(args, problem, solver)
    except PlanError as error:
        return str(error)


def _front(
    args: argparse.Namespace, model: Model, basis: Basis, problem: Problem, tell: Tell, began_s: float
) -> tuple[Sequence[Item], dict[str, Any]]:
    chosen = front(
        problem,
        args.planner or EXACT,
        time_limit_s=args.time_limit or TIME_LIMIT_S,
        most_boards=args.most_boards,
        tell=tell,
    )
    paths = tuple(_numbered(args.output, len(chosen))) if args.output is not None else ()
    for path, one in zip(paths, chosen, strict=False):  # no paths without --output
        write_text(path, one.streamed.plan.to_json())
    seconds_s = perf_counter() - began_s
    found = Front(problem, chosen, crossings(chosen), paths, basis.boards, basis.source, seconds_s)
    return front_items(found), front_record(found)


def _numbered(output: str, count: int) -> list[str]:
    """``plan-1.json``, ``plan-2.json``, and so on.

    >>> _numbered("plan.json", 2)
    ['plan-1.json', 'plan-2.json']
    """
    first = Path(output)
    return [str(first.with_name(f"{first.stem}-{number}{first.suffix}")) for number in range(1, count + 1)]
