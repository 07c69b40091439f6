"""Baselines that walk: from each board on to the neighbour with the fastest link."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from time import perf_counter

import numpy as np

from .chains import chain, min_sum, outcome
from .instance import Instance
from .loads import Placement, loads
from .outcome import Outcome


def greedy(instance: Instance) -> Outcome:
    """The paper's joint baseline: its partition, then a walk from every board, of which the best is kept.

    The partition is that of :func:`min_sum`, for the smallest memory of any board. A walk goes on to the unused board
    with the highest bandwidth that may run the next stage, whatever is sent there.
    """
    began = perf_counter()
    everyone = range(instance.boards)
    placement, _, walks = _best_walk(instance, everyone, float(instance.capacity.min()))
    return outcome(instance, placement, began, walks)


def capacity_greedy(instance: Instance) -> Outcome:
    """`greedy` once for every level of memory, on the boards that have as much; the best of these is kept."""
    began = perf_counter()
    best, least, explored = None, inf, 0
    for level in np.unique(instance.capacity).tolist():
        boards = np.flatnonzero(instance.capacity >= level).tolist()
        placement, seconds, walks = _best_walk(instance, boards, level)
        explored += walks
        if placement is not None and (best is None or seconds < least):
            best, least = placement, seconds
    return outcome(instance, best, began, explored)


def _best_walk(instance: Instance, boards: Sequence[int], capacity: float) -> tuple[Placement | None, float, int]:
    """The best of all walks over `boards`, its bottleneck, and how many walks came to an end."""
    cuts = min_sum(instance, boards, capacity)
    walks = [] if cuts is None else [walk for start in boards if (walk := _walk(instance, cuts, start, boards))]
    found = [(loads(instance, placement).seconds, number) for number, placement in enumerate(walks)]
    if not found:
        return None, inf, 0
    seconds, number = min(found)
    return walks[number], seconds, len(walks)


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
