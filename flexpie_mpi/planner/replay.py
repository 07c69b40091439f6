"""The price of a given path, step by step, straight from the definition in :mod:`flexpie_mpi.planner.space`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .space import Path, Space

States = Mapping[int, int]
"""State of every alive value."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a path costs: seconds of exchange and of compute of every segment, and of the exit."""

    exchange_s: tuple[float, ...]
    compute_s: tuple[float, ...]
    exit_s: float

    @property
    def seconds(self) -> float:
        return sum(self.exchange_s) + sum(self.compute_s) + self.exit_s


def replay(space: Space, path: Path) -> Replay:
    """Follow a path and price every step.

    Raises
    ------
    KeyError
        When a step of the path is no option of the space.
    """
    states: States = dict(zip(space.alive[0], space.start, strict=True))
    exchange_s, compute_s = [], []
    for cut, end, layout in path:
        options = space.options[cut]
        matches = np.flatnonzero((options.end == end) & (options.layout == layout))
        if not matches.size:
            raise KeyError((cut, end, layout))
        option = int(matches[0])
        needs = dict(zip(space.alive[cut], options.needs[:, option].tolist(), strict=True))
        fetched = dict(zip(space.alive[cut], options.fetches[:, option].tolist(), strict=True))
        exchange_s.append(_together([
            (space.latency[v][states[v], need], space.volume[v][states[v], need]) for v, need in needs.items()
        ]))  # fmt: skip
        compute_s.append(float(options.seconds[option]))
        held = {v: int(space.upgrade[state, layout]) if fetched[v] else state for v, state in states.items()}
        states = {v: held.get(v, layout) for v in space.alive[end]}
    leaving = [(space.exit_latency[v][state], space.exit_volume[v][state]) for v, state in states.items()]
    return Replay(tuple(exchange_s), tuple(compute_s), _together(leaving))


def _together(terms: list[tuple[float, float]]) -> float:
    """Seconds of fetching several values in one exchange: the largest latency and all volumes."""
    return float(max((latency for latency, _ in terms), default=0.0) + sum(volume for _, volume in terms))
