"""All solvers by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .baselines import capacity_greedy, even, greedy, random
from .exact import exact
from .instance import Instance
from .kpath import kpath
from .outcome import Outcome

Solve = Callable[[Instance, int, "float | None"], Outcome]
"""From an instance, a seed, and the seconds that the search may take; those that need no seed or no limit ignore it."""


@dataclass(frozen=True, slots=True)
class Solver:
    """What a solver does, in a line, and the solver."""

    about: str
    solve: Solve


SOLVERS: dict[str, Solver] = {
    "random": Solver("random boards, random cuts, as far as memory allows", lambda it, seed, limit: random(it, seed)),
    "even": Solver("equal work for every board, in order of rank", lambda it, seed, limit: even(it)),
    "greedy": Solver(
        "fewest bytes in all, then from board to board along the fastest link", lambda it, seed, limit: greedy(it)
    ),
    "kpath": Solver("fewest bytes in all, then the largest cuts first on the fastest paths, by colour coding", kpath),
    "capacity-greedy": Solver(
        "greedy on the boards with enough memory, for every level of memory",
        lambda it, seed, limit: capacity_greedy(it),
    ),
    "exact": Solver(
        "the best there is, with proof, or the best found in time, with a lower bound",
        lambda it, seed, limit: exact(it, limit),
    ),
}
