"""What ``--verify`` found, for people and for scripts."""

from __future__ import annotations

import math
from typing import Any

from ..core.plan import Plan
from ..core.region import Region
from ..measure.compare import Verdict
from ..model.equality import Check
from .tables import Item
from .units import ranges

_ROUNDING = {
    "": "",
    "levels": ", by what onnxruntime's own optimisation levels differ by",
    "nudges": ", by what one unit in the last place of biases and scales changes in onnxruntime itself",
}
"""What widened the tolerance, by the rule of a check."""


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """What ``--verify`` found."""
    record: dict[str, Any] = {
        "equal": verdict.is_equal,
        "outputs": [check_record(check) for check in verdict.outputs],
    }
    if verdict.first is not None:
        first = verdict.first
        record["first_divergence"] = {
            "segment": first.segment,
            "value": first.check.value,
            "max_difference": number(first.check.largest),
            "region": _bounds(first.check.region),
            "ranks": list(first.ranks),
        }
    return record


def check_record(check: Check) -> dict[str, Any]:
    """One output beside its reference."""
    return {
        "name": check.value,
        "equal": not check.problem,
        "max_difference": number(check.largest),
        "allowed": number(check.allowed),
        "rounding": number(check.rounding),
        "rule": check.rule or "tolerance",
        "region": _bounds(check.region),
        "problem": check.problem,
    }


def divergence_sentence(verdict: Verdict, plan: Plan) -> str:
    """Where the job and the reference part ways."""
    if verdict.random_node:
        return f"node '{verdict.random_node}' draws random numbers, so two runs need not agree"
    if verdict.first is None:
        return "no segment differs when it is run with all boundary values as outputs: the difference did not repeat"
    first, segment = verdict.first, plan.segments[verdict.first.segment]
    nodes = segment.nodes[0] + (f" .. {segment.nodes[-1]}" if len(segment.nodes) > 1 else "")
    return (
        f"the first segment that differs is {first.segment} ({nodes}; {segment.layout}) in value '{first.check.value}'"
        f"{_place(first.check)}, on rank {ranges(first.ranks)}: {first.check.problem}"
    )


def verdict_lines(verdict: Verdict, plan: Plan) -> list[Item]:
    """The verdict, and where the trouble begins if there is any."""
    if verdict.is_equal:
        return [f"verify   equal to one onnxruntime session: {', '.join(map(agreement, verdict.outputs))}"]
    wrong = [difference(check) for check in verdict.outputs if check.problem]
    return [
        f"verify   DIFFERS from one onnxruntime session: {'; '.join(wrong)}",
        f"verify   {divergence_sentence(verdict, plan)}",
    ]


def agreement(check: Check) -> str:
    """How near an output is, what is allowed, and why so much where rounding decided."""
    return f"{check.value} within {check.largest:.2g} (allowed {check.allowed:.2g}{_ROUNDING[check.rule]})"


def difference(check: Check) -> str:
    """What is wrong with an output."""
    return f"output '{check.value}'{_place(check)}: {check.problem}"


def _place(check: Check) -> str:
    return f" in {check.region}" if check.region is not None else ""


def number(value: float) -> float | None:
    """A number that JSON has; None for infinities and NaN."""
    return value if math.isfinite(value) else None


def _bounds(region: Region | None) -> list[list[int]] | None:
    return None if region is None else [list(bounds) for bounds in region.bounds]
