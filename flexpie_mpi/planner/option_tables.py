"""A space made ready for whole arrays: options in bundles that carry the same values over, many labels priced at once.

A *label* is one way of holding the values alive at a cut: one *digit*, the state, per value; digit H stands for
whatever state is best. The number of a label in a *code* is a sum of digit times stride, so that behind a segment it is
a sum over the values it carries over, plus its layout times the strides of what it makes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log2

import numpy as np

from .space import Space

KEY_BITS = 62
"""Bits of a key word that digits may fill; labels of more alive values take several words."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What fetching one alive value costs M options."""

    row: int  # which of the alive values
    column: np.ndarray  # int array (M,). Row of the tables that each option reads.
    # `latency` and `volume`: float array (U, H + 1). Seconds by state; the last column holds the least over all states.
    latency: np.ndarray
    volume: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Carry:
    """One alive value that is still alive behind M options."""

    row: int  # which of the alive values
    fetches: np.ndarray  # bool array (M,). Whether all ranks of each option's layout then hold all of it.
    upgrade: np.ndarray  # int array (L, H + 1). State it then has, by layout and state before.


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
    reads: tuple[Read, ...]  # of the alive values that some of them read
    carries: tuple[Carry, ...]

    def take(self, rows: np.ndarray) -> Bundle:
        """Only some of the options."""
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in ("number", "end", "layout", "seconds", "weights")},
            reads=tuple(replace(read, column=read.column[rows]) for read in self.reads),
            carries=tuple(replace(carry, fetches=carry.fetches[rows]) for carry in self.carries),
        )

    def price(self, digits: np.ndarray) -> np.ndarray:
        """Seconds (M, S or 1) of each option and of its entry exchange, for labels of `digits` (K, S)."""
        total = self.seconds[:, None]
        if self.reads:
            latency = [read.latency.take(read.column, 0).take(digits[read.row], 1) for read in self.reads]
            total = np.maximum.reduce(latency) + total
        for read in self.reads:
            total += read.volume.take(read.column, 0).take(digits[read.row], 1)
        return total

    @property
    def least(self) -> np.ndarray:
        """Seconds (M,) of each option when all that it reads is held in the best state."""
        return self.price(np.full((len(self.alive), 1), -1))[:, 0]

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
        return self.origin[bundle.end] + bundle.layout * made

    def behind(self, bundle: Bundle, digits: np.ndarray) -> np.ndarray:
        """Numbers (M, S or 1) behind each option of a bundle, from labels of `digits` (K, S)."""
        numbers = self.makings(bundle)[:, None]
        for carry in bundle.carries:
            strides = self.strides[bundle.end, bundle.alive[carry.row]]
            if strides.any():
                numbers = numbers + strides[:, None] * bundle.held(carry, digits)
        return numbers

    def lead(self, bundle: Bundle, rows: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """Numbers (N,) behind N options of a bundle, each from one label of `digits` (K, N)."""
        numbers, ends = self.makings(bundle)[rows], bundle.end[rows]
        for carry in bundle.carries:
            before = digits[carry.row]
            held = np.where(carry.fetches[rows], carry.upgrade[bundle.layout[rows], before], before)
            numbers += self.strides[ends, bundle.alive[carry.row]] * held
        return numbers


@dataclass(frozen=True, eq=False)
class OptionTables:
    """A space and its options in bundles."""

    space: Space
    words: tuple[Code, ...]  # words of the *key* that tells the labels of a cut apart
    bundles: tuple[tuple[Bundle, ...], ...]  # by cut, tuple of Bundle

    @classmethod
    def of(cls, space: Space) -> OptionTables:
        """The tables of a space; options that take infinitely long are left out."""
        return cls(space, _words(space), tuple(_bundles(space)))

    @property
    def states(self) -> int:
        """Number of states, H."""
        return len(self.space.upgrade)

    def backwards(self) -> Iterator[Bundle]:
        """All bundles, those of the last cut first."""
        return (bundle for here in reversed(self.bundles) for bundle in here)

    @cached_property
    def _flat(self) -> tuple[list[int], list[Bundle]]:
        """The number of the first option of every bundle, and the bundles."""
        flat = [bundle for here in self.bundles for bundle in here]
        return [int(bundle.number[0]) for bundle in flat], flat

    def option(self, number: int) -> tuple[Bundle, int]:
        """The bundle that holds an option, and its row there."""
        firsts, flat = self._flat
        bundle = flat[bisect_right(firsts, number) - 1]
        return bundle, int(np.searchsorted(bundle.number, number))

    def only(self, kept: Sequence[Sequence[np.ndarray]]) -> OptionTables:
        """The same with some options, named by row for every bundle of every cut."""
        bundles = (
            tuple(bundle.take(rows) for bundle, rows in zip(here, chosen, strict=True) if len(rows))
            for here, chosen in zip(self.bundles, kept, strict=True)
        )
        return OptionTables(self.space, self.words, tuple(bundles))

    def charged(self, rates: np.ndarray) -> OptionTables:
        """The same with `rates` (R,) seconds per byte charged for constants."""
        bundles = (
            tuple(replace(bundle, seconds=bundle.seconds + bundle.weights @ rates) for bundle in here)
            for here in self.bundles
        )
        return OptionTables(self.space, self.words, tuple(bundles))

    @property
    def start(self) -> np.ndarray:
        """Key (W, 1) of the one label of cut 0."""
        states = np.array(self.space.start, dtype=np.int64)[:, None]
        return np.stack([code.of(self.space.alive[0], 0, states) for code in self.words])

    def lead(self, bundle: Bundle, rows: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """Keys (W, N) behind N options of a bundle, each from one label of `digits` (K, N)."""
        return np.stack([code.lead(bundle, rows, digits) for code in self.words])

    def digits(self, cut: int, keys: np.ndarray) -> np.ndarray:
        """States (K, S) of the alive values in labels of `keys` (W, S)."""
        values = self.space.alive[cut]
        digits = np.empty((len(values), keys.shape[1]), dtype=np.int64)
        for row, value in enumerate(values):
            word = next(word for word, code in enumerate(self.words) if code.strides[cut, value])
            digits[row] = keys[word] // self.words[word].strides[cut, value] % self.states
        return digits

    def exit(self, digits: np.ndarray) -> np.ndarray:
        """Seconds (S,) of the exit exchange of labels of `digits` (K, S) at the last cut."""
        space, slowest, total = self.space, np.zeros(digits.shape[1]), np.zeros(digits.shape[1])
        for row, value in enumerate(space.alive[-1]):
            np.maximum(slowest, _by_column(space.exit_latency[value][:, None])[0, digits[row]], out=slowest)
            total += _by_column(space.exit_volume[value][:, None])[0, digits[row]]
        return slowest + total


def _words(space: Space) -> tuple[Code, ...]:
    """As many code words as the labels of the cut with the most alive values need."""
    states = len(space.upgrade)
    per_word = max(1, int(KEY_BITS / max(1.0, log2(states))))
    words = max(1, -(-max(map(len, space.alive)) // per_word))
    strides = np.zeros((words, space.cuts + 1, len(space.latency)), dtype=np.int64)
    for cut, values in enumerate(space.alive):
        for number, value in enumerate(values):
            strides[number // per_word, cut, value] = states ** (number % per_word)
    return tuple(Code(word, np.zeros(space.cuts + 1, dtype=np.int64)) for word in strides)


def _by_column(table: np.ndarray) -> np.ndarray:
    """A table (H, U) turned round, with the least over all states behind those: (U, H + 1)."""
    return np.ascontiguousarray(np.vstack([table, table.min(axis=0)]).T, dtype=float)


def _bundles(space: Space) -> Iterator[tuple[Bundle, ...]]:
    """The bundles of every cut."""
    tables = [
        (_by_column(latency), _by_column(volume)) for latency, volume in zip(space.latency, space.volume, strict=True)
    ]
    states = len(space.upgrade)
    upgrade = np.vstack([space.upgrade, np.full((1, space.upgrade.shape[1]), states)]).T
    is_alive = np.zeros((space.cuts + 1, len(tables)), dtype=bool)
    for cut, values in enumerate(space.alive):
        is_alive[cut, list(values)] = True
    first = 0
    for cut, options in enumerate(space.options):
        here, values = [], space.alive[cut]
        for rows, carried in _alike(space, cut, is_alive):
            needs = options.needs[:, rows]
            bundle = Bundle(
                cut,
                values,
                np.arange(first, first + len(rows)),
                options.end[rows].astype(np.int64),
                options.layout[rows].astype(np.int64),
                options.seconds[rows].astype(float),
                options.weights[rows],
                tuple(Read(row, needs[row], *tables[value]) for row, value in enumerate(values) if needs[row].any()),
                tuple(Carry(row, options.fetches[row, rows], upgrade) for row in carried),
            )
            here.append(bundle)
            first += len(rows)
        yield tuple(here)


def _alike(space: Space, cut: int, is_alive: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Options of a cut that carry the same values, sorted by end, and the rows of those values."""
    options = space.options[cut]
    usable = np.flatnonzero(np.isfinite(options.seconds))
    # what is carried depends on the end alone, and a narrow type sorts in linear time
    ends, index = np.unique(options.end[usable].astype(np.min_scalar_type(space.cuts)), return_inverse=True)
    usable = usable[np.argsort(index.astype(np.min_scalar_type(len(ends))), kind="stable")]
    patterns: dict[bytes, list[int]] = {}
    for end in ends.tolist():
        patterns.setdefault(is_alive[end, list(space.alive[cut])].tobytes(), []).append(end)
    for pattern, mine in patterns.items():
        chosen = usable if len(patterns) == 1 else usable[np.isin(options.end[usable], mine)]
        yield chosen, np.flatnonzero(np.frombuffer(pattern, dtype=bool)).tolist()
