"""Running a case under every layout its nodes allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from flexpie_mpi import Engine, Layout, Model, Plan, Segment, load, run_ranks
from flexpie_mpi.core.layout import KINDS
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower.shards import segment_problems
from flexpie_mpi.planner.rules import square
from flexpie_mpi.planner.units import atoms
from tests.planners import planned

from .cases import Case

Plans = Callable[[Model, tuple[int, ...]], Iterator[tuple[str, Iterable[Plan]]]]
"""(name, plans) for the numbers of ranks."""

CUTTING = tuple(name for name, kind in KINDS.items() if kind.cuts)
PARTS = "in parts"
"""Plans that leave whatever is summed in parts, in one layout or another."""
LAYOUTS = (*KINDS, PARTS, "auto")


@dataclass
class Tally:
    """What came of a number of cases, run in `plans`: by default every layout that some node allows."""

    plans: Plans = field(default_factory=lambda: plans_of)
    passed: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    cases: int = 0
    sharded: int = 0

    def add(self, case: Case, folder: Path, ranks: tuple[int, ...]) -> None:
        """Run a case in every layout it allows on every number of ranks."""
        self.cases += 1
        cut = False
        try:
            model = load_case(case, folder)
        except Exception as error:
            self.failed.append(f"{case.name} load: {type(error).__name__}: {error}")
            return
        for name, plans in self.plans(model, ranks):
            if self._passes(case, model, name, plans, Cache(folder / "cache")):
                self.passed[name] += 1
                cut = cut or name in (*CUTTING, PARTS)
        self.sharded += cut

    def _passes(self, case: Case, model: Model, name: str, plans: Iterable[Plan], cache: Cache) -> bool:
        try:
            for plan in plans:
                case.check(run(model, plan, case.inputs, cache))
        except Exception as error:
            self.failed.append(f"{case.name} {name}: {type(error).__name__}: {str(error).strip()[:300]}")
            return False
        return True


def load_case(case: Case, folder: Path) -> Model:
    path = folder / "case.onnx"
    onnx.save(case.model, path)
    shapes = {name: value.shape for name, value in case.inputs.items() if isinstance(value, np.ndarray)}
    return load(str(path), shapes, cache=Cache(folder / "cache"))


def run(model: Model, plan: Plan, inputs: dict[str, Any], cache: Cache) -> dict[str, Any]:
    """Outputs of a plan, all ranks in this process."""

    def rank(transport):
        outputs = Engine(transport, model, plan, cache=cache).run(inputs)
        return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in outputs.items()}

    return run_ranks(plan.ranks, rank)[plan.root]


def plans_of(model: Model, ranks: tuple[int, ...]) -> Iterator[tuple[str, Iterable[Plan]]]:
    """(layout, a plan per number of ranks) of every layout that some node allows."""
    for kind in KINDS:
        plans = [plan for count in ranks if (plan := plan_in(model, kind, count)) is not None]
        if plans:
            yield kind, plans
    parted = [plan_in(model, kind, count, in_parts=True) for kind in CUTTING for count in ranks]
    if any(parted):
        yield PARTS, [plan for plan in parted if plan is not None]
    yield "auto", (planned(model.graph, count, "auto") for count in ranks)


def plan_in(model: Model, kind: str, ranks: int, *, in_parts: bool = False) -> Plan | None:
    """A plan in which every node that allows a layout has it, and the others run on the root; None when none does."""
    everyone = tuple(range(ranks))
    team, grid = everyone[:1] if kind == "single" else everyone, square(ranks) if kind == "grid" else ()
    layout = Layout(kind, team, grid=grid, in_parts=in_parts)
    segments, used = [], kind == "single"
    for atom in atoms(model.graph):
        names = tuple(node.name for node in model.graph.nodes[atom.first : atom.end])
        fits = not segment_problems(model.graph, atom.first, atom.end, layout)
        segments.append(Segment(names, layout if fits else Layout("single", (0,))))
        used = used or fits
    return Plan(tuple(segments), ranks, model.graph.digest) if used else None
