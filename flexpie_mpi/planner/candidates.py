"""Candidates: the layouts a search chooses from, on which teams of ranks.

A *team* is the ranks that share a segment. Ranks are put in an order of preference, the root and the fastest first, and
every team is the beginning of that order: of equal boards it does not matter which are left out, of unequal ones the
slowest are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.errors import PlanError
from ..core.layout import KINDS, Layout
from ..testbed import Testbed

FEW, MANY = 8, 32
"""Up to `FEW` ranks every size of team is tried, up to `MANY` halves of halves; beyond, down to an eighth of them."""

Team = tuple[int, ...]


def candidates(testbed: Testbed, root: int, kinds: Sequence[str], *, plain: bool = False) -> tuple[Layout, ...]:
    """All layouts on a testbed that share the work by one of `kinds`, without repetition; the root alone comes first.

    `plain` ones take all ranks, with equal shares, and of grids the most square one; otherwise teams may leave ranks
    out, and faster ranks may get more. Raises PlanError when `root` is no rank of the testbed.
    """
    if not 0 <= root < testbed.ranks:
        raise PlanError(f"root {root} is no rank of testbed '{testbed.name}', which has {testbed.ranks}")
    layouts = [Layout("single", (root,))]
    for team in (tuple(range(testbed.ranks)),) if plain else teams(testbed, root):
        layouts += _shared(testbed, team, kinds, plain) if len(team) > 1 else ()
    if not plain and _speeds(testbed, tuple(range(testbed.ranks))):
        layouts += (Layout("single", (rank,)) for rank in range(testbed.ranks))
    return tuple(dict.fromkeys(layouts))


def teams(testbed: Testbed, root: int) -> tuple[Team, ...]:
    """Teams in order of size: the beginnings of the orders of preference."""
    beginnings = (order[:size] for order in _orders(testbed, root) for size in _sizes(testbed.ranks))
    return tuple(sorted(dict.fromkeys(tuple(sorted(team)) for team in beginnings), key=len))


def _orders(testbed: Testbed, root: int) -> Iterator[list[int]]:
    """Ranks by preference: the fastest first, ranks of one host together, and then hosts in turn."""
    devices = testbed.devices
    seen: dict[str, int] = {}
    turn = []
    for rank, device in enumerate(devices):
        host = device.host or f"\0{rank}"
        turn.append(seen.get(host, 0))
        seen[host] = turn[-1] + 1
    ranks = range(testbed.ranks)
    yield sorted(ranks, key=lambda rank: (rank != root, devices[rank].slowdown, rank))
    yield sorted(ranks, key=lambda rank: (devices[rank].slowdown, rank != root, rank))
    yield sorted(ranks, key=lambda rank: (rank != root, devices[rank].slowdown, turn[rank], rank))


def _sizes(ranks: int) -> list[int]:
    """Sizes of teams that are tried, rising."""
    if ranks <= FEW:
        return list(range(1, ranks + 1))
    halves = [ranks >> times for times in range(4 if ranks > MANY else ranks.bit_length())]
    return sorted({1, *halves})


def _shared(testbed: Testbed, team: Team, kinds: Sequence[str], plain: bool) -> Iterator[Layout]:
    """Layouts by which a team shares the work, with equal shares and, unless they are `plain`, with shares by speed."""
    speeds = () if plain else _speeds(testbed, team)
    for kind in kinds:
        if KINDS[kind].is_grid:
            for grid in _grids(len(team), plain):
                yield Layout(kind, team, grid=grid)
                if speeds:
                    yield Layout(kind, team, _grid_weights(speeds, grid), grid)
        else:
            yield Layout(kind, team)
            if speeds and kind != "replicated":
                yield Layout(kind, team, speeds)


def _speeds(testbed: Testbed, team: Team) -> tuple[float, ...]:
    """Speeds of a team's ranks when all of it computes, relative to the fastest; empty when they are equal."""
    loads = [testbed.devices[rank].slowdown * load for rank, load in zip(team, testbed.active(team), strict=True)]
    speeds = tuple(round(min(loads) / load, 3) for load in loads)
    return speeds if len(set(speeds)) > 1 else ()


def _grids(parts: int, square_only: bool) -> list[tuple[int, int]]:
    """(rows, columns) of every grid that is no single row or column; the most square one alone if asked."""
    grids = [(parts // columns, columns) for columns in range(2, parts // 2 + 1) if parts % columns == 0]
    if square_only:
        return sorted(grids, key=lambda grid: (abs(grid[0] - grid[1]), -grid[0]))[:1]
    return grids


def _grid_weights(speeds: Sequence[float], grid: tuple[int, int]) -> tuple[float, ...]:
    """Shares of each row and then of each column of a grid, from the speeds of its ranks, row by row."""
    rows, columns = grid
    down = [sum(speeds[r * columns : (r + 1) * columns]) for r in range(rows)]
    across = [sum(speeds[c::columns]) for c in range(columns)]
    return tuple(round(weight, 3) for weight in (*down, *across))
