"""Base of operators that only move elements."""

from __future__ import annotations

from typing import ClassVar

from ..core.graph import BoundNode
from .axes import axes_of, is_settled
from .base import OpRule, Regions


class Copy(OpRule):
    """Operators that do no arithmetic and may be cut along every axis, as long as they know how they move elements."""

    settled: ClassVar[tuple[int, ...]] = ()
    """Inputs that say how elements move; where one of them is computed during the run, nothing may be cut."""

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node) if is_settled(node, *self.settled) else super().cut_axes(node)

    def flops(self, node: BoundNode, out: Regions) -> int:
        return 0
