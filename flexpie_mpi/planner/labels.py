"""A space made ready for whole arrays: the options of a cut by what they carry over, the prices of many labels at once.

A *label* is one way of holding the values alive at a cut: one *digit*, the state, per value. The *code* of a label is a
sum of digit times stride, so the code behind a segment is a sum over the values it carries over, plus the layout times
the strides of what it makes.
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


Parts = tuple[np.ndarray, tuple[np.ndarray, ...]]
"""The number of the label behind each of M options, in parts: one of its own (M,), one per carried value (M, H + 1)."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """M options of one cut that carry the same alive values over, sorted by end.

    Tables have H + 1 columns: the last is for a value whose state is not known, and holds the least over all states.

    Attributes
    ----------
    cut : int
        Where they begin.
    number : int array (M,)
        Their numbers among all options of the space, rising.
    end, layout : int array (M,)
    seconds : float array (M,)
    weights : float array (M, R)
    carried : tuple of int
        Rows of the alive values that are still alive behind every one of them.
    latency, volume : tuple of (row, float array (M, H + 1))
        Of the alive values that some of them read.
    held : tuple of int array (M, H + 1)
        By carried value: its state behind the segment, by its state before.
    keys : tuple of (int array (M,), tuple of int array (M, H + 1))
        By key word of the labels behind: what the makings add, and what each carried value adds by its state before.
    """

    cut: int
    number: np.ndarray
    end: np.ndarray
    layout: np.ndarray
    seconds: np.ndarray
    weights: np.ndarray
    carried: tuple[int, ...]
    latency: tuple[tuple[int, np.ndarray], ...]
    volume: tuple[tuple[int, np.ndarray], ...]
    held: tuple[np.ndarray, ...]
    keys: tuple[Parts, ...] = ()

    def take(self, rows: np.ndarray) -> Bundle:
        """Only some of the options; `first` has no meaning then."""
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in ("number", "end", "layout", "seconds", "weights")},
            latency=tuple((row, table[rows]) for row, table in self.latency),
            volume=tuple((row, table[rows]) for row, table in self.volume),
            held=tuple(table[rows] for table in self.held),
            keys=tuple((base[rows], tuple(table[rows] for table in tables)) for base, tables in self.keys),
        )

    def price(self, digits: np.ndarray) -> np.ndarray:
        """Seconds (M, S or 1) of each option and of its entry exchange, for labels of `digits` (K, S)."""
        seconds = self.seconds[:, None]
        if not self.latency:
            return seconds
        slowest = None
        for row, table in self.latency:
            found = table.take(digits[row], axis=1)
            slowest = found if slowest is None else np.maximum(slowest, found, out=slowest)
        assert slowest is not None
        for row, table in self.volume:
            slowest += table.take(digits[row], axis=1)
        slowest += seconds
        return slowest

    @property
    def least(self) -> np.ndarray:
        """Seconds (M,) of each option when all that it reads is held in the best state."""
        return self.price(np.full((max((row for row, _ in self.latency), default=0) + 1, 1), -1))[:, 0]

    def lead(self, rows: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """Keys (W, N) of the labels that N options of the bundle lead to, from labels of `digits` (K, N)."""
        words = []
        for base, tables in self.keys:
            word = base[rows]
            for row, table in zip(self.carried, tables, strict=True):
                word = word + table[rows, digits[row]]
            words.append(word)
        return np.stack(words)


@dataclass(frozen=True, eq=False)
class Code:
    """Numbers of labels: the sum of digit times stride.

    Attributes
    ----------
    strides : int array (n + 1, V)
        By cut and value; 0 where the value is not alive or does not count.
    origin : int array (n + 1,)
        Added to every number at a cut.
    """

    strides: np.ndarray
    origin: np.ndarray

    @cached_property
    def total(self) -> np.ndarray:
        """Sum of the strides of all values at each cut (n + 1,)."""
        return self.strides.sum(axis=1)

    def of(self, alive: Sequence[int], cut: int, digits: np.ndarray) -> np.ndarray:
        """Numbers (S,) of labels at a cut, of `digits` (K, S)."""
        return self.origin[cut] + self.strides[cut, list(alive)] @ digits

    def behind(self, bundle: Bundle, alive: Sequence[int]) -> Parts:
        """What the makings of each option add (M,), and what each carried value adds by its state before (M, H + 1)."""
        made, tables = self.total[bundle.end], []
        for row, held in zip(bundle.carried, bundle.held, strict=True):
            stride = self.strides[bundle.end, alive[row]]
            tables.append(held * stride[:, None])
            made = made - stride
        return self.origin[bundle.end] + bundle.layout * made, tuple(tables)


@dataclass(frozen=True, eq=False)
class Ground:
    """A space and its options in bundles.

    Attributes
    ----------
    space : Space
    keys : tuple of Code
        Words of the key that tells the labels of a cut apart.
    bundles : by cut, tuple of Bundle
    """

    space: Space
    keys: tuple[Code, ...]
    bundles: tuple[tuple[Bundle, ...], ...]

    @classmethod
    def of(cls, space: Space) -> Ground:
        """The ground of a space; options that take infinitely long are left out."""
        keys, is_alive = _key_words(space), _is_alive(space)
        latency, volume = [_with_any(table) for table in space.latency], [_with_any(table) for table in space.volume]
        first, bundles = 0, []
        for cut in range(space.cuts):
            here = []
            for rows, carried in _bundled(space, cut, is_alive):
                number = np.arange(first, first + len(rows))
                bundle = _bundle(space, cut, rows, carried, number, latency, volume)
                here.append(replace(bundle, keys=tuple(code.behind(bundle, space.alive[cut]) for code in keys)))
                first += len(rows)
            bundles.append(tuple(here))
        return cls(space, keys, tuple(bundles))

    @property
    def states(self) -> int:
        """Number of states, H."""
        return len(self.space.upgrade)

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

    def only(self, kept: Sequence[Sequence[np.ndarray]]) -> Ground:
        """The same with some options, named by row for every bundle of every cut."""
        bundles = (
            tuple(bundle.take(rows) for bundle, rows in zip(here, chosen, strict=True) if len(rows))
            for here, chosen in zip(self.bundles, kept, strict=True)
        )
        return Ground(self.space, self.keys, tuple(bundles))

    def charged(self, rates: np.ndarray) -> Ground:
        """The same with `rates` (R,) seconds per byte charged for constants."""
        bundles = (
            tuple(replace(bundle, seconds=bundle.seconds + bundle.weights @ rates) for bundle in here)
            for here in self.bundles
        )
        return Ground(self.space, self.keys, tuple(bundles))

    @property
    def start(self) -> np.ndarray:
        """Key (W, 1) of the one label of cut 0."""
        states = np.array(self.space.start, dtype=np.int64)[:, None]
        return np.stack([code.of(self.space.alive[0], 0, states) for code in self.keys])

    def digits(self, cut: int, keys: np.ndarray) -> np.ndarray:
        """States (K, S) of the alive values in labels of `keys` (W, S)."""
        values = self.space.alive[cut]
        digits = np.empty((len(values), keys.shape[1]), dtype=np.int64)
        for row, value in enumerate(values):
            word = next(word for word, code in enumerate(self.keys) if code.strides[cut, value])
            digits[row] = keys[word] // self.keys[word].strides[cut, value] % self.states
        return digits

    def exit(self, digits: np.ndarray) -> np.ndarray:
        """Seconds (S,) of the exit exchange of labels of `digits` (K, S) at the last cut; digit H is the best state."""
        space, slowest, total = self.space, np.zeros(digits.shape[1]), np.zeros(digits.shape[1])
        for row, value in enumerate(space.alive[-1]):
            np.maximum(slowest, _with_any(space.exit_latency[value][:, None])[0, digits[row]], out=slowest)
            total += _with_any(space.exit_volume[value][:, None])[0, digits[row]]
        return slowest + total


def _key_words(space: Space) -> tuple[Code, ...]:
    """As many code words as the labels of the cut with the most alive values need."""
    states = len(space.upgrade)
    per_word = max(1, int(KEY_BITS / max(1.0, log2(states))))
    words = max(1, -(-max(map(len, space.alive)) // per_word))
    strides = np.zeros((words, space.cuts + 1, len(space.latency)), dtype=np.int64)
    for cut, values in enumerate(space.alive):
        for place, value in enumerate(values):
            strides[place // per_word, cut, value] = states ** (place % per_word)
    return tuple(Code(word, np.zeros(space.cuts + 1, dtype=np.int64)) for word in strides)


def _with_any(table: np.ndarray) -> np.ndarray:
    """A table (H, U) by column and state, with the least of every column behind its states: (U, H + 1)."""
    return np.ascontiguousarray(np.vstack([table, table.min(axis=0)]).T, dtype=float)


def _is_alive(space: Space) -> np.ndarray:
    """Whether a value is alive at a cut, bool (n + 1, V)."""
    alive = np.zeros((space.cuts + 1, len(space.latency)), dtype=bool)
    for cut, values in enumerate(space.alive):
        alive[cut, list(values)] = True
    return alive


def _bundled(space: Space, cut: int, is_alive: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Options of a cut that carry the same values, sorted by end, and the rows of those values."""
    options = space.options[cut]
    usable = np.flatnonzero(np.isfinite(options.seconds))
    carries = is_alive[options.end[usable]][:, list(space.alive[cut])]
    if len(usable) and carries.shape[1]:
        kinds, kind = np.unique(carries, axis=0, return_inverse=True)
    else:
        kinds, kind = carries[:1], np.zeros(len(usable), dtype=np.int64)
    for which, pattern in enumerate(kinds):
        rows = usable[kind.reshape(-1) == which]
        rows = rows[np.argsort(options.end[rows], kind="stable")]
        yield rows, tuple(np.flatnonzero(pattern).tolist())


def _bundle(
    space: Space,
    cut: int,
    rows: np.ndarray,
    carried: tuple[int, ...],
    number: np.ndarray,
    latency: list[np.ndarray],
    volume: list[np.ndarray],
) -> Bundle:
    options, values = space.options[cut], space.alive[cut]
    needs = options.needs[:, rows]
    read = np.flatnonzero(needs.any(axis=1)).tolist()
    return Bundle(
        cut,
        number,
        options.end[rows].astype(np.int64),
        options.layout[rows].astype(np.int64),
        options.seconds[rows].astype(float),
        options.weights[rows],
        carried,
        tuple((row, latency[values[row]][needs[row]]) for row in read),
        tuple((row, volume[values[row]][needs[row]]) for row in read),
        tuple(_held(space.upgrade, options.layout[rows], options.fetches[row, rows]) for row in carried),
    )


def _held(upgrade: np.ndarray, layout: np.ndarray, fetches: np.ndarray) -> np.ndarray:
    """State behind each segment (M, H + 1), by the state before; not known stays not known."""
    states = len(upgrade)
    held = np.tile(np.arange(states + 1), (len(layout), 1))
    held[fetches, :states] = upgrade[:, layout[fetches]].T
    return held
