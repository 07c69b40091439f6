"""``flexpie-mpi plan``: choose segments and layouts for boards, without starting any; or pipelines for streams."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..core.errors import PlanError
from ..core.versions import versions
from ..files.atomic import write_text
from ..lower import turns_of
from ..lower.facts import PlanFacts, facts_of
from ..lower.memory import memory_of, memory_problems
from ..model import Model
from ..pipeline import EXACT, Pipeline, PlacementProblem, crossovers, pareto_front, place, placement_problem
from ..placement.solvers import SOLVERS
from ..planner import price
from ..planner.explain import Why, why
from ..report.models import model_lines, model_record
from ..report.pipelines import PlanFront, PlannedPipeline, front_items, front_record, pipeline_items, pipeline_record
from ..report.plans import (
    choice_table,
    facts_record,
    needs_record,
    needs_table,
    plan_items,
    plan_record,
    planner_line,
    prediction_lines,
    prediction_record,
)
from ..report.reasons import why_items, why_record
from ..report.tables import Item
from ..session.inputs import PredictionInputs, inputs_of_files
from ..session.opening import Tell
from ..session.planning import CountingCostModel, Prediction, predict
from . import UsageError, options, texts
from .output import Progress, check_paths, publish

LATENCY, THROUGHPUT, PARETO = "latency", "throughput", "pareto"

TIME_LIMIT_S = 60.0
"""What a search may take where nothing else is said."""

_OF_PIPELINES = ("planner", "time_limit", "most_boards", "compare")
_OF_LATENCY = ("layout", "fuse", "weights", "grid", "explain", "state", "max_length")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    options.add_default_model(parser)
    parser.add_argument("--ranks", type=texts.positive, metavar="N", help="ranks to plan for (default: the testbed's)")
    parser.add_argument("--output", metavar="plan.json", help="where to write the plan")
    parser.add_argument(
        "--top",
        type=texts.positive,
        default=1,
        metavar="K",
        help="find the K best plans; the others go to plan-2.json, ...",
    )
    parser.add_argument("--explain", action="store_true", help="say what every choice costs, and what others would")
    options.add_cost_arguments(parser)
    options.add_model_arguments(parser)
    options.add_state_arguments(parser)
    options.add_layout_arguments(parser, tuple(OBJECTIVES))
    _add_pipeline_arguments(parser)
    options.add_record_arguments(parser)


def _add_pipeline_arguments(parser: options.Parser) -> None:
    parser.add_argument(
        "--planner",
        choices=tuple(SOLVERS),
        metavar="NAME",
        help=f"for throughput, who places stages on boards: {', '.join(SOLVERS)} (default: {EXACT}, the best, proved)",
    )
    parser.add_argument(
        "--time-limit",
        type=texts.seconds,
        metavar="SECONDS",
        help=f"for throughput, seconds of search; then it says how far off it can be (default: {TIME_LIMIT_S:g})",
    )
    parser.add_argument(
        "--most-boards", type=texts.positive, metavar="N", help="for throughput, use no more boards than N"
    )
    parser.add_argument("--compare", action="store_true", default=None, help="for throughput, try every planner")


def _check_objective(args: argparse.Namespace) -> None:
    """Refuse arguments that do not go with the objective.

    Raises UsageError.
    """
    wrong = _OF_PIPELINES if args.objective == LATENCY else _OF_LATENCY
    given = [name for name in wrong if getattr(args, name) not in (None, False)]
    if args.objective != LATENCY and args.top > 1:
        given.append("top")
    if args.objective == PARETO and args.compare:
        given.append("compare")
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} does not go with --objective {args.objective}")


def run(args: argparse.Namespace) -> int:
    """Make the plan, write it, and say what it asks of every rank and what it is predicted to take."""
    began_s = perf_counter()
    options.start_log(args.verbose)
    options.check_choices(args)
    _check_objective(args)
    paths, is_one = _paths(args.output, args.top), args.objective != LATENCY
    labels = ["--output"] if is_one else [f"--output ({number})" for number in range(1, args.top + 1)]
    check_paths({**dict(zip(labels, paths, strict=False)), "--json": args.json})
    with Progress(sys.stderr) as progress:
        progress.tell("reading what predictions stand on")
        inputs = _inputs(args)
        progress.tell(f"loading {args.model}")
        model = options.load_model(args, args.model)
        items, record = OBJECTIVES[args.objective](Planning(args, model, inputs, progress.tell, began_s))
    record = {"model": model_record(model, args.model), **record, "versions": versions()}
    publish(lambda: [*model_lines(model), *items()], record, args.json)
    return 0


def _inputs(args: argparse.Namespace) -> PredictionInputs:
    """What predictions stand on.

    Raises UsageError when nothing says for how many boards.
    """
    if args.testbed is None and not args.traces and args.ranks is None:
        raise UsageError("plan needs to know for how many boards: give --ranks, --testbed or --traces")
    return inputs_of_files(options.sources_of(args), args.ranks)


def _paths(output: str | None, top: int) -> list[str]:
    """Where each of the plans goes: ``plan.json``, ``plan-2.json``, and so on."""
    return [] if output is None else [output, *_numbered(output, range(2, top + 1))]


def _numbered(output: str, numbers: Iterable[int]) -> list[str]:
    """Paths with numbers.

    >>> _numbered("plan.json", [1, 2])
    ['plan-1.json', 'plan-2.json']
    """
    first = Path(output)
    return [str(first.with_name(f"{first.stem}-{number}{first.suffix}")) for number in numbers]


Made = tuple[Callable[[], Sequence[Item]], dict[str, Any]]
"""What is to be printed, made only where something is, and the record."""


@dataclass(frozen=True)
class Planning:
    """A model and what its plans are predicted on; the methods make and write the plans of an objective."""

    args: argparse.Namespace
    model: Model
    inputs: PredictionInputs
    tell: Tell
    began_s: float

    def latency(self) -> Made:
        """The plans of the least seconds of a request."""
        args, graph = self.args, self.model.graph
        self.tell(f"planning {self.model.name} for {self.inputs.testbed.ranks} ranks")
        prediction = predict(options.choice_of(args), graph, self.inputs, args.top)
        plans, best = prediction.search.plans, prediction.best.plan
        turns = turns_of(best, graph, self.inputs.testbed.blocks)
        facts = facts_of(best, graph, turns[0])
        lacking = memory_problems(memory_of(turns, graph, best.root), self.inputs.testbed)
        self.tell("explaining the plan")
        reasons = self._why(prediction) if args.explain else None
        for path, priced in zip(_paths(args.output, args.top), plans, strict=False):  # there may be fewer
            write_text(path, priced.plan.to_json())
        record = {
            **prediction_record(prediction),
            "plan": plan_record(best),
            "plan_facts": facts_record(facts),
            "ranks": needs_record(facts),
            "too_little_memory": lacking,
            "others": [{"predicted_s": other.seconds, "plan": plan_record(other.plan)} for other in plans[1:]],
        }
        record |= {"explanation": why_record(reasons)} if reasons else {}
        return partial(_items, prediction, facts, lacking, reasons, everything=args.verbose), record

    def throughput(self) -> Made:
        """The pipeline of the most requests per second, beside those of other planners where they are asked for."""
        args, solver, problem = self.args, self.args.planner or EXACT, self._problem()
        self.tell(f"placing {self.model.name}: {solver}")
        made = self._placed(problem, solver)
        others: dict[str, Pipeline | str] = {}
        for name in SOLVERS if args.compare else ():
            if name != solver:
                self.tell(f"placing {self.model.name}: {name}")
                try:
                    others[name] = self._placed(problem, name)
                except PlanError as error:
                    others[name] = str(error)
        plan, graph = made.streamed.plan, self.model.graph
        if args.output is not None:
            write_text(args.output, plan.to_json())
        facts = facts_of(plan, graph, turns_of(plan, graph, self.inputs.testbed.blocks)[0])
        result = PlannedPipeline(problem, made, others, self.inputs, perf_counter() - self.began_s)
        more = ("", *plan_items(facts, everything=True)) if args.verbose else ()
        record = {**pipeline_record(result), "plan": plan_record(plan), "plan_facts": facts_record(facts)}
        return lambda: [*pipeline_items(result), *more], record

    def pareto(self) -> Made:
        """The pipelines of which none is better in both seconds of a request and requests per second."""
        args, problem, solver = self.args, self._problem(), self.args.planner or EXACT
        limit_s = args.time_limit or TIME_LIMIT_S
        front = pareto_front(problem, solver, time_limit_s=limit_s, most_boards=args.most_boards, tell=self.tell)
        paths = _numbered(args.output, range(1, len(front) + 1)) if args.output is not None else []
        for path, one in zip(paths, front, strict=False):  # no paths without --output
            write_text(path, one.streamed.plan.to_json())
        result = PlanFront(front, crossovers(front), tuple(paths), self.inputs, perf_counter() - self.began_s)
        return partial(front_items, result), front_record(result)

    def _why(self, prediction: Prediction) -> Why:
        best, search, testbed = prediction.best, prediction.search, self.inputs.testbed
        free = price(best.plan, self.model.graph, testbed, _WithoutCalls(self.inputs.cost))
        return why(best, free, testbed.ranks, search.problem, search.paths[0] if search.paths else None)

    def _problem(self) -> PlacementProblem:
        self.tell(f"pricing {self.model.name} on {self.inputs.testbed.ranks} boards")
        return placement_problem(self.model.graph, self.inputs.testbed, self.inputs.cost)

    def _placed(self, problem: PlacementProblem, solver: str) -> Pipeline:
        limit_s = self.args.time_limit or TIME_LIMIT_S
        return place(problem, solver, time_limit_s=limit_s, most_boards=self.args.most_boards)


OBJECTIVES = {LATENCY: Planning.latency, THROUGHPUT: Planning.throughput, PARETO: Planning.pareto}


class _WithoutCalls(CountingCostModel):
    """A cost model by which calling sessions takes no time."""

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.zeros(len(calls))


def _items(
    prediction: Prediction, facts: PlanFacts, lacking: Sequence[str], reasons: Why | None, *, everything: bool
) -> Sequence[Item]:
    items: list[Item] = [planner_line(prediction.best.plan), *prediction_lines(prediction), ""]
    items += [*plan_items(facts, prediction.best, everything=everything), "", needs_table(facts)]
    items += [f"! infer will not start it: {problem}" for problem in lacking]
    if len(prediction.search.plans) > 1:
        items += ["", choice_table(prediction.search.plans)]
    if reasons is not None:
        items += ["", *why_items(reasons, everything=everything)]
    return items
