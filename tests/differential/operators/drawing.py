"""The table of what can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..draft import NEWEST, OLDEST, Draft, first_versions

Drawer = Callable[[Draft, str], list[str]]
"""Adds an operator with its inputs to a draft; returns the names of its outputs."""


@dataclass(frozen=True)
class Family:
    """Operators that one function draws; `weight` is how often, beside other families."""

    ops: tuple[str, ...]
    drawer: Drawer
    weight: float
    domain: str


_FAMILIES: list[Family] = []


def draws(*ops: str, weight: float = 1.0, domain: str = "") -> Callable[[Drawer], Drawer]:
    """Decorator: the function draws these operators."""

    def add(drawer: Drawer) -> Drawer:
        _FAMILIES.append(Family(ops, drawer, weight, domain))
        return drawer

    return add


def draw_operator(draft: Draft) -> tuple[str, list[str]]:
    """Add a random operator at a random opset that has it: its name and the names of its outputs."""
    family = draft.rng.choices(_FAMILIES, [family.weight for family in _FAMILIES])[0]
    op = draft.rng.choice(family.ops)
    first = OLDEST if family.domain else first_versions()[op]
    draft.opset = draft.between(max(OLDEST, first), NEWEST)
    outputs = [name for name in family.drawer(draft, op) if name]
    return f"{family.domain}:{op}" if family.domain else op, outputs
