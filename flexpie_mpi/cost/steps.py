"""What one rank runs in one segment, in kernels: the rows that a cost model is asked, or that a trace records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..core.graph import Graph
from ..core.program import Block, Compute, Program
from ..core.region import Region
from .kernels import Kernel, describe, followers, is_blocked
from .rows import CALL


@dataclass(frozen=True)
class StepWork:
    """One rank's part of one segment.

    Attributes
    ----------
    graph : Graph
    kernels : tuple of Kernel
        Of the whole graph; no kernel reaches over a segment's beginning.
    program : Program
    step : Compute
    """

    graph: Graph
    kernels: tuple[Kernel, ...]
    program: Program
    step: Compute

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """The rank's blocks by place of their node."""
        return {self.graph.position[block.node]: block for block in self.step.blocks}

    @cached_property
    def owner(self) -> dict[int, int]:
        """Number of the kernel of each node that runs here."""
        numbers = {place: n for n, kernel in enumerate(self.kernels) for place in range(kernel.first, kernel.end)}
        return {place: numbers[place] for place in self.blocks}

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Kernels whose anchor runs here, in order."""
        return tuple(sorted({n for place, n in self.owner.items() if self.kernels[n].anchor == place}))

    @cached_property
    def payer(self) -> dict[int, int]:
        """The kernel that counts for each kernel here: the one that takes it along, or itself."""
        here = set(self.numbers)
        return {n: k.absorber if (k := self.kernels[n]).absorber in here else n for n in self.numbers}

    @property
    def summing(self) -> frozenset[int]:
        """Kernels here that take another along."""
        return frozenset(payer for number, payer in self.payer.items() if payer != number)

    @property
    def paying(self) -> tuple[int, ...]:
        """Kernels here that no other takes along, in order."""
        return tuple(number for number, payer in self.payer.items() if payer == number)

    def kernel_row(self, number: int) -> np.ndarray:
        """The row of `WORK` of a kernel, array (1,)."""
        kernel = self.kernels[number]
        block = self.blocks[kernel.anchor]
        out = next(filter(None, block.outputs), Region(()))
        row = describe(self.graph.bound[kernel.anchor], _extents(out), _inputs(block), followers(self.graph, kernel))
        row["sums"] = number in self.summing
        return row

    def call_row(self) -> np.ndarray:
        """The row of `CALL` of the segment's session, array (1,)."""
        row = np.zeros(1, CALL)
        row["kernels"] = len(self.numbers)
        row["blocked"] = any(is_blocked(self.graph, self.kernels[number]) for number in self.numbers)
        for side, pairs in (("in", self.step.inputs), ("out", self.step.outputs)):
            buffers = [self.program.buffers[index] for _, index in pairs]
            row[f"{side}puts"], row[f"{side}_bytes"] = len(buffers), sum(buffer.nbytes for buffer in buffers)
        return row


def _inputs(block: Block) -> Sequence[np.ndarray | None]:
    return [None if region is None else _extents(region) for region in block.inputs]


def _extents(region: Region) -> np.ndarray:
    return np.array([region.shape], float).reshape(1, region.ndim)
