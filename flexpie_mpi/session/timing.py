"""One request that is run over and over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.plan import Plan
from ..core.timeline import Timeline
from ..lower.facts import PlanFacts
from ..measure.compare import Verdict
from ..measure.trial import Trial
from ..model import Model
from .planning import Comparison, Prediction


@dataclass(frozen=True)
class TimedRun:
    """Everything there is to say about a run, on the root."""

    source: str
    model: Model
    plan: Plan
    facts: PlanFacts
    trial: Trial
    outputs: Mapping[str, Any]
    hosts: Mapping[str, Sequence[int]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    verdict: Verdict | None = None
    prediction: Prediction | None = None
    raced_s: tuple[float, ...] = ()
    """Medians of the plans of the prediction, where they were run to choose among them."""
    compared: Comparison | None = None
    boards: tuple[str, ...] = ()
    """Names of the testbed's boards by rank, where there is one."""
    timeline: Timeline | None = None
    """Of all ranks in the typical request of the trial, where it was recorded."""

    @property
    def typical_plan(self) -> Plan:
        """What the plan asks for in the typical request of the trial, where replicas take turns."""
        return self.plan.variant(int(self.settings["warmup"]) + self.trial.typical)
