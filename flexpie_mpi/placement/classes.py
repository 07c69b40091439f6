"""Boards that are interchangeable: swapping two of a class changes no placement's bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .instance import Instance
from .resources import Resources, Shares


@dataclass(frozen=True, eq=False)
class Classes:
    """Boards by class, and what is the same for all of a class.

    Teams are left aside: a placement counts a team's boards with their classes, and says only at the end which boards
    of a class the other stages get.

    Attributes
    ----------
    groups : tuple of tuple of int
        The boards of each class. The root is a class of its own.
    of : tuple of int
        The class of each board.
    root : int
        The root's class; -1 without a root.
    size : array (k,)
        Boards of each class.
    compute_s : array (k, m + 1, m + 1)
        Infinite where a board of the class cannot run the span by itself.
    out_s, in_s, both_s : array (k,)
    pair_s : array (k, k)
        As of :class:`~.resources.Resources`; the diagonal is for two boards of one class.
    shared_s : mapping of (class, class) to Shares
    """

    groups: tuple[tuple[int, ...], ...]
    of: tuple[int, ...]
    root: int
    size: np.ndarray
    compute_s: np.ndarray
    out_s: np.ndarray
    in_s: np.ndarray
    both_s: np.ndarray
    pair_s: np.ndarray
    shared_s: Mapping[tuple[int, int], Shares]

    @property
    def count(self) -> int:
        return len(self.groups)


def classes(instance: Instance, ways: Resources) -> Classes:
    """Group the boards of an instance.

    Two boards are alike when they compute alike, fit the same spans, have equal ports, and reach and are reached by
    every other board equally. What only spreads unequally over shared resources makes them different.
    """
    compute = np.where(instance.fits, instance.compute_s, np.inf)
    groups: dict[tuple, list[list[int]]] = {}
    for board in range(instance.boards):
        alike = groups.setdefault(_mark(instance, ways, compute, board), [])
        found = next((group for group in alike if _can_swap(ways, compute, group[0], board)), None)
        if found is None:
            alike.append([board])
        else:
            found.append(board)
    ordered = sorted(tuple(group) for alike in groups.values() for group in alike)
    first = np.array([group[0] for group in ordered])
    twin = np.array([group[-1] for group in ordered])
    of = [0] * instance.boards
    for number, group in enumerate(ordered):
        for board in group:
            of[board] = number
    pair_s = ways.pair_s[np.ix_(first, first)]
    np.fill_diagonal(pair_s, ways.pair_s[first, twin])
    return Classes(
        tuple(ordered),
        tuple(of),
        of[instance.root] if instance.root is not None else -1,
        np.array([len(group) for group in ordered]),
        compute[first],
        ways.out_s[first],
        ways.in_s[first],
        ways.both_s[first],
        pair_s,
        _shares(ways, ordered),
    )


def _mark(instance: Instance, ways: Resources, compute: np.ndarray, board: int) -> tuple:
    """What boards of a class have in common, and can be told without looking at others."""
    ports = (float(ways.out_s[board]), float(ways.in_s[board]), float(ways.both_s[board]))
    links = [np.delete(row, board) for row in (ways.pair_s[board], ways.pair_s[:, board])]
    return (board == instance.root, ports, compute[board, 0].tobytes(), *(np.sort(row).tobytes() for row in links))


def _can_swap(ways: Resources, compute: np.ndarray, a: int, b: int) -> bool:
    """Whether boards a and b compute alike, reach all others equally, and each other equally both ways."""
    if not np.array_equal(compute[a], compute[b]):
        return False
    others = np.ones(len(ways.out_s), bool)
    others[[a, b]] = False
    for matrix in (ways.pair_s, ways.pair_s.T):
        if not np.array_equal(matrix[a][others], matrix[b][others]) or matrix[a, b] != matrix[b, a]:
            return False
    if not ways.shared_s:
        return True
    reach = ways.shared_s.get
    return reach((a, b)) == reach((b, a)) and all(
        reach((a, other)) == reach((b, other)) and reach((other, a)) == reach((other, b))
        for other in np.flatnonzero(others).tolist()
    )


def _shares(ways: Resources, groups: list[tuple[int, ...]]) -> dict[tuple[int, int], Shares]:
    found = {}
    for a, sources in enumerate(groups if ways.shared_s else []):
        for b, targets in enumerate(groups):
            passed = ways.shared_s.get((sources[0], targets[-1]))
            if passed is not None:
                found[a, b] = passed
    return found
