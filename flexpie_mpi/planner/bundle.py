"""Options that carry the same values over, priced for many labels at once.

A *label* is one way of holding the values alive at a cut: one *digit*, the state, per value; digit H stands for
whatever state is best. The number of a label in a *code* is a sum of digit times stride, so that behind a segment it is
a sum over the values it carries over, plus its layout times the strides of what it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What fetching one alive value costs M options."""

    row: int  # which of the alive values
    column: np.ndarray  # int array (M,). Row of the tables that each option reads.
    # `latency` and `volume`: float array (U, H + 1). Seconds by state; the last column holds the least over all states.
    # There is no latency of what is only paid for later.
    latency: np.ndarray | None
    volume: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Carry:
    """One alive value that is still alive behind M options."""

    row: int  # which of the alive values
    fetches: np.ndarray  # bool array (M,). Whether all ranks of each option's layout then hold all of it.
    upgrade: np.ndarray  # int array (L, H + 1). State it then has, by layout and state before.


@dataclass(frozen=True, slots=True, eq=False)
class Owed:
    """The latency of the exit exchange that outputs which nobody reads any more bring along, behind M options.

    It is the largest of theirs, by its number among all there are, and has a digit like a value.
    """

    value: int  # the number of what is like a value
    row: int | None  # which of the alive values it is; None where nothing is owed yet
    made: np.ndarray  # int array (M,). That of outputs which each option makes, and nobody behind it reads.
    # Of outputs that were made before: which of the alive values, row of the table of each option (M,), and the table
    # of latencies by row and state
    held: tuple[tuple[int, np.ndarray, np.ndarray], ...]

    def take(self, rows: np.ndarray) -> Owed:
        """Only some of the options."""
        held = tuple((row, column[rows], table) for row, column, table in self.held)
        return replace(self, made=self.made[rows], held=held)

    def behind(self, digits: np.ndarray) -> np.ndarray:
        """Digits (M, S or 1) behind each option, for labels of `digits` (K, S)."""
        most = self.made[:, None]
        if self.row is not None:
            most = np.maximum(most, digits[self.row])
        for row, column, table in self.held:
            most = np.maximum(most, table.take(column, 0).take(digits[row], 1))
        return most

    def lead(self, rows: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """Digits (N,) behind N options, each from one label of `digits` (K, N)."""
        most = self.made[rows]
        if self.row is not None:
            most = np.maximum(most, digits[self.row])
        for row, column, table in self.held:
            most = np.maximum(most, table[column[rows], digits[row]])
        return most


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """M options of one cut that carry the same alive values over, sorted by end."""

    cut: int  # where they begin
    alive: tuple[int, ...]  # the values alive there
    number: np.ndarray  # int array (M,). Their numbers among all options of the space, rising.
    # `end` and `layout`: int array (M,)
    end: np.ndarray
    layout: np.ndarray
    seconds: np.ndarray  # float array (M,)
    weights: np.ndarray  # float array (M, R)
    floor: np.ndarray  # float array (M,). Latency of reading values that are always held alike.
    reads: tuple[Read, ...]  # of the alive values that some of them read
    carries: tuple[Carry, ...]
    owed: Owed

    def take(self, rows: np.ndarray) -> Bundle:
        """Only some of the options, rising."""
        if len(rows) == len(self.end):
            return self
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in ("number", "end", "layout", "seconds", "weights", "floor")},
            reads=tuple(replace(read, column=read.column[rows]) for read in self.reads),
            carries=tuple(replace(carry, fetches=carry.fetches[rows]) for carry in self.carries),
            owed=self.owed.take(rows),
        )

    def price(self, digits: np.ndarray) -> np.ndarray:
        """Seconds (M, S or 1) of each option and of its entry exchange, for labels of `digits` (K, S)."""
        latency = [
            read.latency.take(read.column, 0).take(digits[read.row], 1)
            for read in self.reads
            if read.latency is not None
        ]
        total = reduce(np.maximum, latency, self.floor[:, None]) + self.seconds[:, None]
        for read in self.reads:
            total = total + read.volume.take(read.column, 0).take(digits[read.row], 1)
        return total

    @property
    def least(self) -> np.ndarray:
        """Seconds (M,) of each option when all that it reads is held in the best state."""
        return self.price(np.full((len(self.alive), 1), -1))[:, 0]

    @property
    def lasting(self) -> list[int]:
        """Which of the alive values make a difference behind some option."""
        owed = () if self.owed.row is None else (self.owed.row,)
        return sorted({*(carry.row for carry in self.carries), *owed, *(row for row, _, _ in self.owed.held)})

    def held(self, carry: Carry, digits: np.ndarray) -> np.ndarray:
        """States (M or 1, S) of a carried value behind each option, for labels of `digits` (K, S)."""
        before = digits[carry.row][None, :]
        if not carry.fetches.any():
            return before
        return np.where(carry.fetches[:, None], carry.upgrade.take(self.layout, 0).take(before[0], 1), before)


@dataclass(frozen=True, eq=False)
class Code:
    """Numbers of labels: the sum of digit times stride."""

    strides: np.ndarray  # int array (n + 1, V), by cut and value; 0 where the value is not alive or does not count
    origin: np.ndarray  # int array (n + 1,). Added to every number at a cut.

    @cached_property
    def total(self) -> np.ndarray:
        """Sum of the strides of all values at each cut (n + 1,)."""
        return self.strides.sum(axis=1)

    def of(self, alive: Sequence[int], cut: int, digits: np.ndarray) -> np.ndarray:
        """Numbers (S,) of labels at a cut, of `digits` (K, S)."""
        return self.origin[cut] + self.strides[cut, list(alive)] @ digits

    def makings(self, bundle: Bundle) -> np.ndarray:
        """The part (M,) of the numbers behind each option that the values carried over have no part in."""
        made = self.total[bundle.end]
        for carry in bundle.carries:
            made = made - self.strides[bundle.end, bundle.alive[carry.row]]
        return self.origin[bundle.end] + bundle.layout * (made - self.strides[bundle.end, bundle.owed.value])

    def behind(self, bundle: Bundle, digits: np.ndarray) -> np.ndarray:
        """Numbers (M, S or 1) behind each option of a bundle, from labels of `digits` (K, S)."""
        numbers = self.makings(bundle)[:, None]
        for carry in bundle.carries:
            strides = self.strides[bundle.end, bundle.alive[carry.row]]
            if strides.any():
                numbers = numbers + strides[:, None] * bundle.held(carry, digits)
        strides = self.strides[bundle.end, bundle.owed.value]
        return numbers + strides[:, None] * bundle.owed.behind(digits) if strides.any() else numbers

    def least_behind(self, bundle: Bundle) -> np.ndarray:
        """Numbers (M,) behind each option of a bundle that carries nothing over that counts, when least is owed."""
        return self.makings(bundle) + self.strides[bundle.end, bundle.owed.value] * bundle.owed.made

    def lead(self, bundle: Bundle, rows: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """Numbers (N,) behind N options of a bundle, each from one label of `digits` (K, N)."""
        numbers, ends = self.makings(bundle)[rows], bundle.end[rows]
        for carry in bundle.carries:
            before = digits[carry.row]
            held = np.where(carry.fetches[rows], carry.upgrade[bundle.layout[rows], before], before)
            numbers += self.strides[ends, bundle.alive[carry.row]] * held
        return numbers + self.strides[ends, bundle.owed.value] * bundle.owed.lead(rows, digits)
