"""Chains, stages of one board each, and the simple ways to make one: by chance, by equal shares, by fast links.

No baseline makes replicas or teams, and none proves anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf

import numpy as np

from .instance import Instance
from .loads import PlacedStage, Placement, loads
from .outcome import Deadline, Outcome

TRIES = 20
"""Orders of boards that `random` tries before it gives up."""


def most_stages(instance: Instance, boards: Sequence[int]) -> int:
    """Stages that a chain on some of `boards` may have."""
    return min(len(boards), instance.board_limit, instance.units)


def min_sum(instance: Instance, boards: Sequence[int], capacity: float) -> tuple[int, ...] | None:
    """Cuts, the first and the last among them, that send the fewest bytes in all, whoever runs the stages.

    Every stage fits into `capacity`, and into at least one of `boards` by what it may compute. Of equal sums that with
    the fewest stages is taken. The sum stands in for the bottleneck, which is a maximum (paper, section on
    partitioning): state (stages so far, cut), minimised over the cut before, in O(n m^2) for n boards and m units.
    None where no cuts will do.
    """
    most = most_stages(instance, boards)
    is_span = instance.fits[list(boards)].any(axis=0) & (instance.need_bytes <= capacity)
    price = np.where(is_span, np.concatenate([[0.0], instance.crossing[1:]])[:, None], inf)
    sums = np.full((most + 1, instance.units + 1), inf)
    before = np.zeros(sums.shape, int)
    sums[0, 0] = 0.0
    for count in range(most):
        totals = sums[count][:, None] + price
        before[count + 1] = totals.argmin(axis=0)
        sums[count + 1] = totals.min(axis=0)
    count = int(sums[:, -1].argmin())
    if sums[count, -1] == inf:
        return None
    cuts = [instance.units]
    for stages in range(count, 0, -1):
        cuts.append(int(before[stages, cuts[-1]]))
    return tuple(reversed(cuts))


def chain(cuts: Sequence[int], boards: Sequence[int]) -> Placement:
    """The placement with these cuts, 0 .. m, and a board for each stage between two of them."""
    return Placement(tuple(PlacedStage(*span, (board,)) for span, board in zip(pairwise(cuts), boards, strict=True)))


def outcome(instance: Instance, placement: Placement | None, began: Deadline, explored: int) -> Outcome:
    """The answer of a solver that proves nothing."""
    seconds = inf if placement is None else loads(instance, placement).seconds
    return Outcome(placement, seconds, 0.0, began.elapsed_s, explored)


def random(instance: Instance, seed: int = 0) -> Outcome:
    """A random chain that fits: boards in an order drawn uniformly, then cuts uniformly among all that fit that order.

    Where an order leaves no way to cut, another is drawn, up to `TRIES` times.
    """
    began = Deadline.start()
    generator = np.random.default_rng(seed)
    for tried in range(1, TRIES + 1):
        order = generator.permutation(instance.boards)
        order = order[: most_stages(instance, order.tolist())]
        shares = _shares(instance, order)
        if shares[0, 0] > 0:
            placement = _drawn(instance, order, shares, generator)
            return outcome(instance, placement, began, tried)
    return outcome(instance, None, began, TRIES)


def _shares(instance: Instance, order: np.ndarray) -> np.ndarray:
    """``[p, i]``: in how many ways boards ``order[p:]`` can run units ``[i, m)``; array (n + 1, m + 1).

    Up to a factor of each row, so that the numbers stay small; 0 only where there is no way.
    """
    ways = np.zeros((len(order) + 1, instance.units + 1))
    ways[-1, -1] = 1.0
    factor = 1.0  # by which all rows so far are too small
    for stage in range(len(order) - 1, -1, -1):
        counts = instance.fits[order[stage]] @ ways[stage + 1]
        most = max(float(counts.max()), 1.0)
        factor /= most
        ways[stage] = counts / most
        ways[stage, -1] = factor
    return ways


def _drawn(instance: Instance, order: np.ndarray, ways: np.ndarray, generator: np.random.Generator) -> Placement:
    """Cuts drawn one after the other, each as often as there are ways to go on from it."""
    cuts = [0]
    while cuts[-1] < instance.units:
        stage = len(cuts) - 1
        chances = instance.fits[order[stage], cuts[-1]] * ways[stage + 1]
        cuts.append(int(generator.choice(instance.units + 1, p=chances / chances.sum())))
    return chain(cuts, order[: len(cuts) - 1].tolist())


def even(instance: Instance) -> Outcome:
    """The same work for every board, in order of rank; cuts are moved as little as it takes to fit.

    Work is seconds of computing on whichever board is fastest, or bytes of memory where computing takes no time: boards
    of different speed get equal shares all the same. Of all cuts 0 = c_0 <= c_1 <= ... <= c_n = m for which board p may
    run the units from c_p to c_(p+1), those with the least sum of |work before c_p - p / n of all work| are taken; a
    board between two equal cuts is left out.
    """
    began = Deadline.start()
    count = instance.board_limit
    work = _work(instance)
    moved = np.where(np.arange(instance.units + 1) == 0, 0.0, np.inf)
    before = np.zeros((count, instance.units + 1), int)
    for board in range(count):
        stays = np.eye(instance.units + 1, dtype=bool)
        costs = np.where(instance.fits[board] | stays, moved[:, None], np.inf)
        before[board] = costs.argmin(axis=0)
        moved = costs.min(axis=0) + np.abs(work - (board + 1) / count * work[-1])
    if not np.isfinite(moved[-1]):
        return outcome(instance, None, began, count)
    ends = [instance.units]
    for board in range(count - 1, -1, -1):
        ends.append(int(before[board, ends[-1]]))
    ends.reverse()
    running = [board for board in range(count) if ends[board] < ends[board + 1]]
    return outcome(instance, chain([0, *(ends[board + 1] for board in running)], running), began, count)


def _work(instance: Instance) -> np.ndarray:
    """Work of the units before each cut: array (m + 1,), never falling."""
    computed = instance.compute_s[:, 0, :].min(axis=0)
    work = np.where(np.isfinite(computed), computed, 0.0)
    if not work[1:].any():
        work = np.array(instance.need_bytes[0], float)
    work[0] = 0.0
    rising: np.ndarray = np.maximum.accumulate(work)
    return rising


def greedy(instance: Instance) -> Outcome:
    """The paper's joint baseline: its partition, then a walk from every board, of which the best is kept.

    The partition is that of :func:`min_sum`, for the smallest memory of any board. A walk goes on to the unused board
    with the highest bandwidth that may run the next stage, whatever is sent there.
    """
    return _greedy(instance, np.unique(instance.capacity)[:1])


def capacity_greedy(instance: Instance) -> Outcome:
    """`greedy` once for every level of memory, on the boards that have as much; the best of these is kept."""
    return _greedy(instance, np.unique(instance.capacity))


def _greedy(instance: Instance, levels: np.ndarray) -> Outcome:
    """The best walk over the boards with at least so much memory, for each of the levels."""
    began, walks = Deadline.start(), []
    for level in levels.tolist():
        boards = np.flatnonzero(instance.capacity >= level).tolist()
        if cuts := min_sum(instance, boards, level):
            walks += [walk for start in boards if (walk := _walk(instance, cuts, start, boards))]
    best = min(walks, key=lambda placement: loads(instance, placement).seconds, default=None)
    return outcome(instance, best, began, len(walks))


def _walk(instance: Instance, cuts: Sequence[int], start: int, boards: Sequence[int]) -> Placement | None:
    """One walk; None where the next stage fits no board that is left."""
    is_free = np.zeros(instance.boards, bool)
    is_free[list(boards)] = True
    walked: list[int] = []
    for span in pairwise(cuts):
        may_run = is_free & instance.fits[(slice(None), *span)]
        if not walked:
            here = start
        else:
            here = int(np.where(may_run, instance.pair_s[walked[-1]], inf).argmin())
        if not may_run[here]:
            return None
        walked.append(here)
        is_free[here] = False
    return chain(cuts, walked)
