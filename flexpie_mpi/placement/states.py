"""States of the search by tables, as rows of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from .bits import unions, unpack

POWER = 4
"""Of the mean of loads by several measures: between that of an average and that of the largest alone."""

FIELD = 62
"""Bits of a word that hold counts of boards."""


@dataclass(frozen=True, eq=False)
class Fields:
    """Where in words of bit fields the boards of each class are counted."""

    word: np.ndarray
    shift: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, size: np.ndarray) -> Fields:
        """Fields for classes of so many boards."""
        word, shift, places = 0, 0, []
        for boards in size.tolist():
            bits = boards.bit_length()
            if shift + bits > FIELD:
                word, shift = word + 1, 0
            places.append((word, shift))
            shift += bits
        words, shifts = np.array(places, np.int64).T
        return cls(words, shifts, size)

    def codes(self, counts: np.ndarray) -> np.ndarray:
        """Words of counts of boards: int array (N, k) to (N, u)."""
        unit = np.zeros((len(self.size), int(self.word[-1]) + 1), np.int64)
        unit[np.arange(len(self.size)), self.word] = np.int64(1) << self.shift
        return counts @ unit

    def left(self, used: np.ndarray) -> np.ndarray:
        """Boards left by class, of words of boards used: int array (N, k)."""
        mask = (np.int64(1) << np.array([boards.bit_length() for boards in self.size.tolist()])) - 1
        return self.size - ((used[:, self.word] >> self.shift) & mask)


@dataclass(frozen=True, eq=False)
class States:
    """N states that use equally many boards.

    Attributes
    ----------
    used : int array (N, u)
        Boards used by class, in bit fields.
    room : array (N, w)
        Work that the boards left can take on, by measure.
    last : int array (N,)
        The last crew; 0 where it does not matter.
    cycle : int array (N,)
        Requests after which turns begin anew; 1 where it does not matter.
    sets : uint64 array (N, words)
        Cuts that are reached.
    """

    used: np.ndarray
    room: np.ndarray
    last: np.ndarray
    cycle: np.ndarray
    sets: np.ndarray

    def __len__(self) -> int:
        return len(self.last)

    def rows(self, which: np.ndarray | slice) -> States:
        """Some of the states."""
        return States(*(getattr(self, part.name)[which] for part in fields(self)))

    def groups(self) -> np.ndarray:
        """Where states begin that use other boards, or other turns, than the one before; for sorted states."""
        return _starts(self.used, self.cycle)


def merged(parts: Sequence[States]) -> States:
    """All states, in order; those that differ in their cuts alone become one."""
    names = [part.name for part in fields(States)]
    joined = States(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    joined = joined.rows(np.lexsort((joined.last, joined.cycle, *joined.used.T)))
    starts = _starts(joined.used, joined.cycle, joined.last)
    if len(starts) == len(joined):
        return joined
    first = joined.rows(starts)
    return States(first.used, first.room, first.last, first.cycle, unions(joined.sets, starts))


def _starts(*columns: np.ndarray) -> np.ndarray:
    """Rows at which any of the columns changes, and the first."""
    is_new = np.zeros(len(columns[0]), bool)
    is_new[:1] = True
    for column in columns:
        differs = column[1:] != column[:-1]
        is_new[1:] |= differs.any(axis=1) if differs.ndim == 2 else differs
    return np.flatnonzero(is_new)


def best_states(states: States, rest: np.ndarray, width: int) -> States:
    """The `width` states that leave the most room for the work that is left, in the same order.

    Half of them are the best of all, the others the best by their last crews, so that these stay different.

    Parameters
    ----------
    rest : array (w, m + 1)
        Work from each cut to the end, by measure.
    """
    if len(states) <= width:
        return states
    flags = unpack(states.sets)[:, : rest.shape[1]]
    furthest = rest.shape[1] - 1 - flags[:, ::-1].argmax(axis=1)
    load = np.zeros(len(states))
    for measure, row in enumerate(rest):
        load += (row[furthest] / np.maximum(states.room[:, measure], 1e-300)) ** POWER
    order = np.lexsort((-flags.sum(axis=1), -furthest, load))
    best, others = np.split(order, [width // 2])
    others = others[np.argsort(_ranks(states.last[others]), kind="stable")]
    return states.rows(np.sort(np.concatenate([best, others[: width - len(best)]])))


def _ranks(column: np.ndarray) -> np.ndarray:
    """How many rows before each row hold the same."""
    order = np.argsort(column, kind="stable")
    starts = _starts(column[order])
    found = np.empty(len(column), int)
    found[order] = np.arange(len(column)) - np.repeat(starts, np.diff(starts, append=len(column)))
    return found
