"""A drawn case in every plan, and what came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flexpie_mpi import Model, Plan
from flexpie_mpi.core.choices import PRESETS
from flexpie_mpi.planner import layout_plan
from tests.conformance.run import Tally, plans_of

from .cases import Drawn


@dataclass(frozen=True)
class Verdict:
    """What came of a number: `op` is "" where plain onnxruntime refuses it; `failed` is (layout, cause, words)."""

    number: int
    op: str = ""
    passed: tuple[str, ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()
    sharded: bool = False


def judge(case: Drawn | None, number: int, ranks: tuple[int, ...]) -> Verdict:
    """Run a case in every layout, and in every plan by a rule, on every number of ranks."""
    if case is None:
        return Verdict(number)
    tally = Tally(plans=plans)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tally.add(case, Path(folder), ranks)
        except Exception as error:  # a planner's: no plan comes of it
            tally.failed.append(f"{case.name} planning: {type(error).__name__}: {error}")
    failed = tuple(_reason(text.removeprefix(f"{case.name} ")) for text in tally.failed)
    return Verdict(number, case.op, tuple(tally.passed), failed, tally.sharded > 0)


def plans(model: Model, ranks: tuple[int, ...]) -> Iterator[tuple[str, Iterable[Plan]]]:
    """Those of the conformance run, and the plans by a rule; none twice."""
    seen: set[object] = set()
    rules = ((f"rule {preset}", [layout_plan(model.graph, count, preset) for count in ranks]) for preset in PRESETS)
    for found in (plans_of(model, ranks), rules):
        for name, several in found:
            new = [plan for plan in several if _choices(plan) not in seen]
            seen.update(map(_choices, new))
            if new:
                yield name, new


def _choices(plan: Plan) -> object:
    """What makes a plan another one; on one rank the layouts do not."""
    layouts = tuple(str(segment.layout) if plan.ranks > 1 else "" for segment in plan.segments)
    return plan.ranks, tuple(segment.nodes for segment in plan.segments), layouts


def _reason(text: str) -> tuple[str, str, str]:
    """(layout, cause, words) of a line of the tally: ``LAYOUT: CLASS: WORDS``."""
    layout, _, rest = text.partition(": ")
    error, _, words = rest.partition(": ")
    return layout, words.partition(":")[0] if error == "AssertionError" else error, words
