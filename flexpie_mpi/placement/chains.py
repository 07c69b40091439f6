"""Chains: stages of one board each, without replicas and teams. All that baselines make is a chain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from time import perf_counter

import numpy as np

from .instance import Instance
from .loads import Placement, Stage, loads
from .outcome import Outcome


def most_stages(instance: Instance, boards: Sequence[int]) -> int:
    """Stages that a chain on some of `boards` may have."""
    limit = instance.boards if instance.most_boards is None else instance.most_boards
    return min(len(boards), limit, instance.units)


def min_sum(instance: Instance, boards: Sequence[int], capacity: float) -> tuple[int, ...] | None:
    """Cuts, the first and the last among them, that send the fewest bytes in all, whoever runs the stages.

    Every stage fits into `capacity`, and into at least one of `boards` by what it may compute. Of equal sums that with
    the fewest stages is taken. The sum stands in for the bottleneck, which is a maximum (paper, section on
    partitioning): state (stages so far, cut), minimised over the cut before, in O(n m^2) for n boards and m units.

    Returns
    -------
    tuple of int, or None
        None where no cuts will do.
    """
    most = most_stages(instance, boards)
    is_span = instance.fits[list(boards)].any(axis=0) & (instance.need_bytes <= capacity)
    price = np.where(is_span, np.concatenate([[0.0], instance.crossing[1:]])[:, None], inf)
    sums = np.full((most + 1, instance.units + 1), inf)
    before = np.zeros(sums.shape, int)
    sums[0, 0] = 0.0
    for count in range(most):
        found = sums[count][:, None] + price
        before[count + 1] = found.argmin(axis=0)
        sums[count + 1] = found.min(axis=0)
    count = int(sums[:, -1].argmin())
    if sums[count, -1] == inf:
        return None
    cuts = [instance.units]
    for stages in range(count, 0, -1):
        cuts.append(int(before[stages, cuts[-1]]))
    return tuple(reversed(cuts))


def chain(cuts: Sequence[int], boards: Sequence[int]) -> Placement:
    """The placement with these cuts, 0 .. m, and a board for each stage between two of them."""
    return Placement(tuple(Stage(*span, (board,)) for span, board in zip(pairwise(cuts), boards, strict=True)))


def outcome(instance: Instance, placement: Placement | None, began: float, explored: int) -> Outcome:
    """The answer of a solver that proves nothing; `began` is what ``time.perf_counter`` said at its start."""
    seconds = inf if placement is None else loads(instance, placement).seconds
    return Outcome(placement, seconds, 0.0, perf_counter() - began, explored)
