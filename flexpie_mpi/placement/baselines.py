"""Baselines that look at no link: a random placement, and equal shares in order of rank."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from .chains import chain, most_stages, outcome
from .instance import Instance
from .loads import Placement
from .outcome import Outcome

TRIES = 20
"""Orders of boards that `random` tries before it gives up."""


def random(instance: Instance, seed: int = 0) -> Outcome:
    """A random chain that fits: boards in an order drawn uniformly, then cuts uniformly among all that fit that order.

    Where an order leaves no way to cut, another is drawn, up to `TRIES` times.
    """
    began = perf_counter()
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
    for place in range(len(order) - 1, -1, -1):
        found = instance.fits[order[place]] @ ways[place + 1]
        most = max(float(found.max()), 1.0)
        factor /= most
        ways[place] = found / most
        ways[place, -1] = factor
    return ways


def _drawn(instance: Instance, order: np.ndarray, ways: np.ndarray, generator: np.random.Generator) -> Placement:
    """Cuts drawn one after the other, each as often as there are ways to go on from it."""
    cuts = [0]
    while cuts[-1] < instance.units:
        place = len(cuts) - 1
        chances = instance.fits[order[place], cuts[-1]] * ways[place + 1]
        cuts.append(int(generator.choice(instance.units + 1, p=chances / chances.sum())))
    return chain(cuts, order[: len(cuts) - 1].tolist())


def even(instance: Instance) -> Outcome:
    """The same work for every board, in order of rank; cuts are moved as little as it takes to fit.

    Work is seconds of computing on whichever board is fastest, or bytes of memory where computing takes no time: boards
    of different speed get equal shares all the same. Of all cuts 0 = c_0 <= c_1 <= ... <= c_n = m for which board p may
    run the units from c_p to c_(p+1), those with the least sum of |work before c_p - p / n of all work| are taken; a
    board between two equal cuts is left out.
    """
    began = perf_counter()
    count = instance.boards if instance.most_boards is None else min(instance.boards, instance.most_boards)
    work = _work(instance)
    moved = np.where(np.arange(instance.units + 1) == 0, 0.0, np.inf)
    before = np.zeros((count, instance.units + 1), int)
    for board in range(count):
        stays = np.eye(instance.units + 1, dtype=bool)
        found = np.where(instance.fits[board] | stays, moved[:, None], np.inf)
        before[board] = found.argmin(axis=0)
        moved = found.min(axis=0) + np.abs(work - (board + 1) / count * work[-1])
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
    found = np.where(np.isfinite(computed), computed, 0.0)
    found[0] = 0.0
    if not found.any():
        found = np.array(instance.need_bytes[0], float)
        found[0] = 0.0
    rising: np.ndarray = np.maximum.accumulate(found)
    return rising
