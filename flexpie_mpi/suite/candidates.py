"""Candidates: the plans of a cell, each once, with the planners that found it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import LayoutError, PlanError
from ..core.plan import Plan
from ..core.program import Program
from ..cost.model import CostModel
from ..lower import digest, lower
from ..lower.facts import PlanFacts, facts_of
from ..model import Model
from ..planner import Search, Task, make_plans
from ..simulate import simulate
from ..testbed import Testbed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CandidatePlan:
    """A plan that takes part, and what is known of it before it has run.

    Attributes
    ----------
    searches : mapping of str to Search
        By planner: all whose plan makes every rank do the same.
    programs : tuple of Program
    digest : str
        Of the programs.
    facts : PlanFacts
    simulated_s : float
    """

    searches: Mapping[str, Search]
    programs: tuple[Program, ...]
    digest: str
    facts: PlanFacts
    simulated_s: float

    @property
    def plan(self) -> Plan:
        return next(iter(self.searches.values())).plans[0].plan

    @property
    def planners(self) -> tuple[str, ...]:
        return tuple(self.searches)


def candidate_plans(
    model: Model,
    testbed: Testbed,
    cost: CostModel,
    planners: Sequence[str],
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[CandidatePlan, ...]:
    """The plans that planners find; one that finds none is left out, and the log says why.

    Parameters
    ----------
    model : Model
    testbed : Testbed
        With as many ranks as the plans shall have.
    cost : CostModel
    planners : sequence of str
    tell : callable
        Is told what goes on.
    """
    by_digest: dict[str, tuple[tuple[Program, ...], dict[str, Search]]] = {}
    for planner in planners:
        tell(f"planning {model.name}: {planner}")
        try:
            search = make_plans(planner, Task(model.graph, testbed, cost))
        except (PlanError, LayoutError) as error:
            log.warning(
                "planner %s has no plan of %s for %d ranks of %s: %s",
                planner, model.name, testbed.ranks, testbed.name, error,
            )  # fmt: skip
            continue
        programs = lower(search.plans[0].plan, model.graph)
        by_digest.setdefault(digest(programs), (programs, {}))[1][planner] = search
    tell(f"simulating {model.name}")
    return tuple(
        CandidatePlan(
            searches=searches,
            programs=programs,
            digest=key,
            facts=facts_of(next(iter(searches.values())).plans[0].plan, model.graph, programs),
            simulated_s=simulate(programs, model.graph, testbed, cost).latency_s,
        )
        for key, (programs, searches) in by_digest.items()
    )
