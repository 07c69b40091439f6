"""From the search problem of a shorter network to that of the whole one (:mod:`flexpie_mpi.planner.repeats`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..cost.model import CostModel
from .problem import Problem, arrival_s
from .repeats import Shortened
from .space import Options, Space
from .units import Units


def unfold(problem: Problem, short: Shortened, cost: CostModel) -> Problem:
    """The problem of a whole network, made of that of a shorter one: what lies alike has the same numbers.

    It has the segments that have a counterpart, and takes over the inputs of the whole network.
    """
    more_s = arrival_s(short.whole.units, cost) - arrival_s(short.units, cost)
    units, space = short.whole.units, problem.space
    names, known = _names(units), {name: number for number, name in enumerate(_names(short.units))}
    number_of = {name: number for number, name in enumerate(names)}
    stand_ins = [known[short.stand_in(name)] for name in names]
    options, least = list[Options](), np.zeros(len(units))
    for cut in range(len(units)):
        least[cut] = problem.least[short.origin(cut)[0]]
        options.append(_options(problem, short, cut))
    options[0] = replace(options[0], seconds=options[0].seconds + more_s)

    def tables(of: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return tuple(of[number] for number in stand_ins)

    whole = Space(
        options=tuple(options),
        alive=tuple(tuple(number_of[name] for name in cut) for cut in units.alive),
        start=(0,) * len(units.alive[0]),
        latency=tables(space.latency),
        volume=tables(space.volume),
        exit_latency=tables(space.exit_latency),
        exit_volume=tables(space.exit_volume),
        upgrade=space.upgrade,
        capacity=space.capacity,
    )
    return Problem(units, problem.shards, whole, problem.work_priced, least, _hidden(problem, short))


def _names(units: Units) -> tuple[str, ...]:
    """All values that are alive at any cut, in the order of their numbers in a space."""
    return tuple(dict.fromkeys(name for cut in units.alive for name in cut))


def _options(problem: Problem, short: Shortened, cut: int) -> Options:
    """The segments that begin at a cut."""
    origin, blocks, last = short.origin(cut)
    there = problem.space.options[origin]
    rows = {name: row for row, name in enumerate(short.units.alive[origin])}
    others = [rows.get(short.whole.counterpart(name, blocks) or "") for name in short.whole.units.alive[cut]]
    here = there.take(np.flatnonzero(there.end <= last))
    needs, fetches = (np.zeros((len(others), len(here.end)), each.dtype) for each in (here.needs, here.fetches))
    for row, other in enumerate(others):
        if other is not None:
            needs[row], fetches[row] = here.needs[other], here.fetches[other]
    return replace(here, end=here.end + blocks * short.whole.period, needs=needs, fetches=fetches)


def _hidden(problem: Problem, short: Shortened) -> dict[tuple[int, int], float]:
    """What :attr:`Problem.hidden_s` says of the whole network."""
    shift = short.removed * short.whole.period
    behind = ((key, hidden_s) for key, hidden_s in problem.hidden_s.items() if key[0] >= short.whole.begin)
    return {(begin + shift, layout): hidden_s for (begin, layout), hidden_s in behind}
