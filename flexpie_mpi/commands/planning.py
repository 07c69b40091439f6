"""From the words of the command line to plans."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from math import prod
from time import perf_counter

import numpy as np

from ..core.choices import PLANNERS, PRESETS
from ..core.document import DocumentError, read_document
from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.plan import MOST_BYTES, Plan
from ..cost.model import CostModel
from ..cost.prior import AnalyticCost
from ..lower import digest, lower
from ..planner import Search, Task, layout_plan, make_plans, price
from ..session.planning import Prediction
from .basis import Basis
from .parser import UsageError

AUTO = "auto"
"""The planner that is taken when none is asked for."""

SEARCHING = tuple(name for name in PLANNERS if name not in (*PRESETS, "random"))
"""Planners that ask a cost model; the others follow a rule."""

_SPARE = (4, 16, 64)
"""So many times more plans are searched for than are wanted, until enough of them differ in more than words."""

_CHOICES = ("layout", "fuse", "weights", "grid", "autotune")
_OF_RULES = ("fuse", "weights", "grid")


def planner_of(args: argparse.Namespace) -> str:
    """The planner that is asked for."""
    return args.layout or AUTO


def check_choices(args: argparse.Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises
    ------
    UsageError
    """
    given = [f"--{name}" for name in _CHOICES if getattr(args, name, None) is not None]
    planner = planner_of(args)
    if getattr(args, "plan", None) is not None and given:
        raise UsageError(f"--plan already says what {given[0]} chooses: give one of the two")
    if args.grid is not None and planner != "grid":
        raise UsageError(f"--grid goes with --layout grid, not {planner}")
    if args.weights is not None and planner == "single":
        raise UsageError("--weights goes with a layout that shares the work, not single")
    ruled = [f"--{name}" for name in _OF_RULES if getattr(args, name) is not None]
    if ruled and planner not in PRESETS:
        raise UsageError(f"{ruled[0]} goes with a layout that is a rule ({', '.join(PRESETS)}), not {planner}")
    for name in ("top", "autotune"):
        if (getattr(args, name, None) or 1) > 1 and planner not in SEARCHING:
            raise UsageError(f"--{name} goes with a planner that searches ({', '.join(SEARCHING)}), not {planner}")


def rule_plan(args: argparse.Namespace, graph: Graph, ranks: int) -> Plan:
    """The plan of a rule.

    Raises
    ------
    PlanError, LayoutError
        When the arguments do not fit the ranks.
    """
    if args.weights is not None and args.layout != "grid" and len(args.weights) != ranks:
        raise PlanError(f"--weights gives {len(args.weights)} shares and there are {ranks} ranks: give one per rank")
    if args.grid is not None and prod(args.grid) != ranks:
        raise PlanError(
            f"--grid {args.grid[0]}x{args.grid[1]} has {prod(args.grid)} places and there are {ranks} ranks"
        )
    return layout_plan(
        graph, ranks, args.layout, fusion=args.fuse or "free", weights=args.weights or (), grid=args.grid
    )


def predict(args: argparse.Namespace, graph: Graph, basis: Basis, top: int = 1) -> Prediction:
    """The `top` best plans of the planner that is asked for, with what they are predicted to take.

    Raises
    ------
    PlanError, LayoutError
        When there is no plan, or the arguments do not fit the ranks.
    """
    asked = Asked(basis.cost)
    task = Task(graph, basis.testbed, asked)
    if args.layout in PRESETS:
        begin_s = perf_counter()
        search = _priced(rule_plan(args, graph, basis.testbed.ranks), task, begin_s)
    else:
        search = _searched(planner_of(args), task, top)
    return prediction_of(planner_of(args), search, basis, asked)


def predict_given(plan: Plan, graph: Graph, basis: Basis) -> Prediction:
    """What a plan that is given is predicted to take."""
    asked = Asked(basis.cost)
    search = _priced(plan, Task(graph, basis.testbed, asked), perf_counter())
    return prediction_of(str(plan.provenance.get("planner", "")) or "from a file", search, basis, asked)


def prediction_of(planner: str, search: Search, basis: Basis, asked: Asked) -> Prediction:
    """A search with everything that its reports say."""
    is_measured = not isinstance(basis.cost, AnalyticCost)
    return Prediction(planner, search, basis.testbed, basis.boards, basis.source, is_measured, *asked.counts())


def _priced(plan: Plan, task: Task, begin_s: float) -> Search:
    """A plan that nothing was searched for."""
    priced = price(plan, task.graph, task.testbed, task.cost)
    return Search.of_rule(priced, begin_s)


def _searched(planner: str, task: Task, top: int) -> Search:
    """The `top` best plans that make ranks do different things, or as many as are found."""
    if top == 1:
        return make_plans(planner, task)
    begin_s = perf_counter()
    for spare in _SPARE:
        search = make_plans(planner, replace(task, top=spare * top))
        different = _different(search, task.graph, top)
        if len(different.plans) == top or len(search.plans) < spare * top:
            break
    return replace(different, planning_s=perf_counter() - begin_s)


def _different(search: Search, graph: Graph, top: int) -> Search:
    found: dict[str, int] = {}
    for place, priced in enumerate(search.plans):
        found.setdefault(digest(lower(priced.plan, graph)), place)
    places = list(found.values())[:top]
    return replace(
        search,
        plans=tuple(search.plans[place] for place in places),
        paths=tuple(search.paths[place] for place in places) if search.paths else (),
    )


@dataclass
class Asked(CostModel):
    """A cost model that remembers what it was asked."""

    cost: CostModel
    _rows: list[np.ndarray] = field(default_factory=list)

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        """See :class:`flexpie_mpi.cost.model.CostModel`."""
        self._rows.append(work)
        return self.cost.compute_s(work, active)

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        """See :class:`flexpie_mpi.cost.model.CostModel`."""
        self._rows.append(calls)
        return self.cost.call_s(calls, active)

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        """See :class:`flexpie_mpi.cost.model.CostModel`."""
        self._rows.append(transfers)
        return self.cost.exchange_s(transfers)

    def counts(self) -> tuple[int, int]:
        """Number of prices, and how many of them are extrapolated: all, where the model cannot tell."""
        return sum(map(len, self._rows)), sum(int(self.cost.outside(rows).sum()) for rows in self._rows)


def read_plan(path: str) -> Plan:
    """A plan from its file.

    Raises
    ------
    PlanError
        When there is no such file, or it holds no plan; the sentence names the file.
    """
    try:
        content = read_document(path, MOST_BYTES)
    except DocumentError as error:
        raise PlanError(f"plan file '{path}' cannot be read: {error}") from error
    try:
        return Plan.from_json(content)
    except PlanError as error:
        raise PlanError(f"plan file '{path}': {error}") from error
