"""Instances made up for tests, and every placement of one, listed without any thought."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
from hypothesis import strategies as st

from flexpie_mpi.placement import Instance, Outcome, PlacedStage, Placement, Team, TeamSpan, loads, problems
from flexpie_mpi.testbed import Device, Testbed, ring, star

# Every placement


def placements(instance: Instance) -> Iterator[Placement]:
    """Every placement that `problems` accepts."""
    for stages in _stages(instance, 0, frozenset()):
        placement = Placement(stages)
        if not problems(instance, placement):
            yield placement


def _stages(instance: Instance, begin: int, used: frozenset[int]) -> Iterator[tuple[PlacedStage, ...]]:
    if begin == instance.units:
        yield ()
        return
    free = [board for board in range(instance.boards) if board not in used]
    crews = [(crew, False) for size in range(1, instance.replicas + 1) for crew in permutations(free, size)]
    teams = {team.boards for team in instance.teams if used.isdisjoint(team.boards)}
    for end in range(begin + 1, instance.units + 1):
        for crew, together in [*crews, *((team, True) for team in sorted(teams))]:
            stage = PlacedStage(begin, end, crew, together)
            if not together and not all(instance.fits[board, begin, end] for board in crew):
                continue
            for rest in _stages(instance, end, used | set(crew)):
                yield (stage, *rest)


def brute_force(instance: Instance) -> Outcome:
    """The best of every placement; of equally good ones one with the fewest boards."""
    found = [(loads(instance, placement).seconds, placement) for placement in placements(instance)]
    if not found:
        return Outcome(None, np.inf, np.inf, 0.0)
    least = min(seconds for seconds, _ in found)
    equal = [placement for seconds, placement in found if seconds <= least * (1 + 1e-9)]
    best = min(equal, key=lambda placement: len(placement.boards))
    return Outcome(best, least, least, 0.0, len(found))


# Instances

NETWORKS = ("none", "ports", "links", "both ways", "matrix", "ring", "star", "air", "odd")


def _network(rng: np.random.Generator, boards: int, kind: str) -> tuple[tuple, np.ndarray]:
    """Routes and seconds per byte of the resources."""
    if kind in ("ring", "star"):
        make = {"ring": ring, "star": star}[kind]
        return _of(make([Device(f"b{rank}") for rank in range(boards)], rng.choice([1.0, 2.0, 4.0], boards), 0.0))
    pairs = [(a, b) for a in range(boards) for b in range(boards)]
    ways: dict[tuple[int, int], tuple[int, ...]]
    if kind == "none":
        ways, count = {}, 0
    elif kind == "ports":
        ways, count = {(a, b): (a, boards + b) for a, b in pairs}, 2 * boards
    elif kind == "links":
        ways, count = {(a, b): (boards * min(a, b) + max(a, b),) for a, b in pairs}, boards**2
    elif kind == "both ways":
        ways, count = {(a, b): (a, b) for a, b in pairs}, boards
    elif kind == "matrix":
        ways = {(a, b): (a, boards + b, 2 * boards + boards * a + b) for a, b in pairs}
        count = 2 * boards + boards**2
    elif kind == "air":
        ways, count = dict.fromkeys(pairs, (0,)), 1
    else:
        count = 4
        ways = {pair: tuple(rng.integers(0, count, rng.integers(0, 3)).tolist()) for pair in pairs}
    routes = tuple(tuple(ways.get((a, b), ()) for b in range(boards)) for a in range(boards))
    return routes, rng.choice([0.25, 0.5, 1.0, 1.0, 2.0], count)


def _of(testbed: Testbed) -> tuple[tuple, np.ndarray]:
    routes = tuple(tuple(route.resources if route else () for route in row) for row in testbed.routes)
    return routes, np.array([1 / resource.bandwidth for resource in testbed.resources])


def _team(rng: np.random.Generator, boards: int, units: int) -> Team:
    size = int(rng.integers(1, boards + 1))
    pairs = [(a, b) for a in range(size) for b in range(size) if a != b]
    spans = {}
    for begin in range(units):
        for end in range(begin + 1, units + 1):
            if rng.random() < 0.6:
                inner = {pair: float(rng.choice([0.0, 0.5, 1.0])) for pair in pairs if rng.random() < 0.5}
                compute = rng.choice([0.3, 0.6, 1.0], size) * (end - begin)
                entry, leaving = rng.choice([0.0, 0.5, 1.0], (2, size))
                spans[begin, end] = TeamSpan(compute, entry, leaving, inner)
    return Team(tuple(rng.permutation(boards)[:size].tolist()), spans)


def _compute(rng: np.random.Generator, boards: int, units: int) -> np.ndarray:
    """Seconds by board and span: sums over units, some of them with entries that no sum explains."""
    done = np.concatenate([[0.0], np.cumsum(rng.choice([0.5, 1.0, 2.0, 3.0], units))])
    slowness = rng.choice([0.5, 1.0, 1.0, 1.0, 2.5], boards)
    sums = slowness[:, None, None] * np.maximum(done[None, None, :] - done[None, :, None], 0.0)
    kind = rng.integers(0, 4)
    if kind == 0:
        return sums + rng.choice([0.0, 0.5, 1.0, np.inf], sums.shape, p=[0.5, 0.2, 0.2, 0.1])
    return sums * (kind > 1)


@st.composite
def instances(
    draw: st.DrawFn,
    units: int = 5,
    boards: int = 4,
    networks: tuple[str, ...] = NETWORKS,
    replicas: tuple[int, ...] = (1, 1, 2, 3, 4),
    teams: int = 2,
) -> Instance:
    """Small instances of every kind, of numbers that are few, so that ties are common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n = draw(st.sampled_from(range(units, 0, -1))), draw(st.sampled_from(range(boards, 0, -1)))
    routes, resource_s = _network(rng, n, draw(st.sampled_from(networks)))
    row = np.arange(m + 1)
    need = np.maximum(row[None, :] - row[:, None], 0.0)
    if draw(st.booleans()):
        need = rng.choice(5, need.shape).astype(float)
    levels = draw(st.sampled_from([[np.inf], [2.0, 3.0, np.inf], [1.0, 2.0], [2.0, 3.0]]))
    return Instance(
        rng.choice([0.0, 0.5, 1.0, 2.0, 4.0], m + 1, p=[0.1, 0.3, 0.3, 0.2, 0.1]),
        _compute(rng, n, m),
        need,
        rng.choice(levels, n),
        routes,
        resource_s,
        root=draw(st.sampled_from([None, *range(n)])),
        replicas=draw(st.sampled_from(replicas)),
        teams=tuple(_team(rng, n, m) for _ in range(draw(st.integers(0, teams)))),
        cuttable=draw(st.sampled_from([None, None, rng.random(m + 1) < 0.7])),
        most_boards=draw(st.sampled_from([None, None, *range(1, n + 1)])),
    )


@st.composite
def tight_instances(
    draw: st.DrawFn, units: int, boards: int, networks: tuple[str, ...], replicas: int = 1, teams: int = 0
) -> Instance:
    """Instances in which a board holds a unit or two, so that stages are many and who follows whom decides."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    routes, resource_s = _network(rng, boards, draw(st.sampled_from(networks)))
    row = np.arange(units + 1)
    return Instance(
        rng.choice([0.5, 1.0, 1.5, 2.0, 3.0], units + 1),
        np.zeros((boards, units + 1, units + 1)),
        np.maximum(row[None, :] - row[:, None], 0.0),
        rng.choice([1.0, 1.0, 2.0], boards),
        routes,
        resource_s * rng.choice([0.5, 1.0, 2.0], len(resource_s)),
        root=draw(st.sampled_from([None, 0])),
        replicas=replicas,
        teams=tuple(_team(rng, min(boards, 3), units) for _ in range(teams)),
    )
