"""A space made ready for whole arrays: options in bundles that carry the same values over (:mod:`.bundle`).

Labels tell apart only what makes a difference. A value that is always held alike when it is read has no digit, nor has
one that nobody reads any more: of an output, the volume of the exit exchange is paid when its last reader is behind,
and the latency is *owed*, since of all outputs the largest counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log2

import numpy as np

from .bundle import Bundle, Carry, Code, Owed, Read
from .space import Options, Space

KEY_BITS = 62
"""Bits of a key word that digits may fill; labels of more alive values take several words."""


@dataclass(frozen=True, eq=False)
class OptionTables:
    """A space and its options in bundles."""

    space: Space
    # By cut, the values whose states tell labels apart, and the number behind the last of them for what is owed
    alive: tuple[tuple[int, ...], ...]
    owed_s: np.ndarray  # float array, rising. Latencies of the exit exchange that may be owed, by digit.
    words: tuple[Code, ...]  # words of the *key* that tells the labels of a cut apart
    bundles: tuple[tuple[Bundle, ...], ...]  # by cut, tuple of Bundle

    @classmethod
    def of(cls, space: Space) -> OptionTables:
        """The tables of a space; options that take infinitely long are left out."""
        return _Maker(space).tables()

    @property
    def states(self) -> int:
        """Number of digits, H."""
        return max(len(self.space.upgrade), len(self.owed_s))

    @property
    def owed(self) -> int:
        """What is like a value: the latency that is owed."""
        return len(self.space.latency)

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
        return replace(self, bundles=tuple(bundles))

    def charged(self, rates: np.ndarray) -> OptionTables:
        """The same with `rates` (R,) seconds per byte charged for constants."""
        bundles = (
            tuple(replace(bundle, seconds=bundle.seconds + bundle.weights @ rates) for bundle in here)
            for here in self.bundles
        )
        return replace(self, bundles=tuple(bundles))

    @property
    def start(self) -> np.ndarray:
        """Key (W, 1) of the one label of cut 0."""
        start = dict(zip(self.space.alive[0], self.space.start, strict=True))
        states = np.array([[start[value]] for value in self.alive[0]], dtype=np.int64).reshape(-1, 1)
        return np.stack([code.of(self.alive[0], 0, states) for code in self.words])

    def lead(self, bundle: Bundle, rows: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """Keys (W, N) behind N options of a bundle, each from one label of `digits` (K, N)."""
        return np.stack([code.lead(bundle, rows, digits) for code in self.words])

    def digits(self, cut: int, keys: np.ndarray) -> np.ndarray:
        """States (K, S) of the alive values in labels of `keys` (W, S)."""
        values = self.alive[cut]
        digits = np.empty((len(values), keys.shape[1]), dtype=np.int64)
        for row, value in enumerate(values):
            word = next(word for word, code in enumerate(self.words) if code.strides[cut, value])
            digits[row] = keys[word] // self.words[word].strides[cut, value] % self.states
        return digits

    def grid(self, cut: int, known: Sequence[int]) -> np.ndarray:
        """Digits (K, H ** T) of all states of T of the alive values; of the others the best, that nothing is owed."""
        alive, count = self.alive[cut], self.states ** len(known)
        digits = np.full((len(alive), count), self.states, dtype=np.int64)
        digits[[value == self.owed for value in alive]] = 0
        for axis, value in enumerate(known):
            digits[alive.index(value)] = np.arange(count) // self.states**axis % self.states
        return digits

    def exit(self, digits: np.ndarray) -> np.ndarray:
        """Seconds (S,) that labels of `digits` (K, S) still owe for the exit exchange at the last cut."""
        return np.asarray(self.owed_s[np.minimum(digits[0], len(self.owed_s) - 1)])


class _Maker:
    """Makes the tables of a space."""

    def __init__(self, space: Space) -> None:
        self._space, self._owed = space, len(space.latency)
        self._outputs = sorted(space.alive[-1])
        self._born = {value: cut for cut in range(space.cuts, -1, -1) for value in space.alive[cut]}
        self._until, earliest = _reading(space)
        starts = zip(space.alive[0], space.start, strict=True)
        self._arriving = {v: state for v, state in starts if earliest[v] > self._until[v] and v not in self._outputs}
        for value in self._outputs:
            self._until[value] = max(self._until[value], 0 if value in space.alive[0] else -1)
        self._paid = {value: max(self._born[value], int(self._until[value]) + 1) for value in self._outputs}
        self._alive = tuple(self._telling(cut) for cut in range(space.cuts + 1))
        self._is_alive = np.zeros((space.cuts + 1, self._owed + 1), dtype=bool)
        for cut, values in enumerate(self._alive):
            self._is_alive[cut, list(values)] = True
        latencies = [space.exit_latency[value] for value in self._outputs]
        self._owed_s = np.unique(np.concatenate([np.zeros(1), *latencies]))
        self._states = max(len(space.upgrade), len(self._owed_s))
        pairs = zip(space.latency, space.volume, strict=True)
        self._tables = [(self._by_column(latency), self._by_column(volume)) for latency, volume in pairs]
        self._exits = {value: self._exit(value) for value in self._outputs}
        # digits between the last state and the one of any state are of no label
        self._upgrade = np.zeros((space.upgrade.shape[1], self._states + 1), int)
        self._upgrade[:, : len(space.upgrade)], self._upgrade[:, -1] = space.upgrade.T, self._states

    def tables(self) -> OptionTables:
        """The tables."""
        bundles, first = list[tuple[Bundle, ...]](), 0
        for cut, options in enumerate(self._space.options):
            bundles.append(tuple(self._bundles(cut, options, first)))
            first += sum(len(bundle.end) for bundle in bundles[-1])
        return OptionTables(self._space, self._alive, self._owed_s, self._words(), tuple(bundles))

    def _telling(self, cut: int) -> tuple[int, ...]:
        """The values whose states tell labels of a cut apart, and what is owed."""
        alive = tuple(v for v in self._space.alive[cut] if cut <= self._until[v] and v not in self._arriving)
        return (*alive, self._owed) if cut >= min(self._paid.values(), default=self._space.cuts) else alive

    def _by_column(self, table: np.ndarray) -> np.ndarray:
        """A table (H, U) turned round, with the least over all states behind those: (U, H + 1)."""
        least = np.repeat(table.min(axis=0)[None], self._states + 1 - len(table), axis=0)
        return np.ascontiguousarray(np.vstack([table, least]).T)

    def _exit(self, value: int) -> tuple[np.ndarray, np.ndarray]:
        """Volume and what is owed of the exit exchange, (U, H + 1), of an output whose last reader is behind.

        Rows are: nothing, while it is not; the output as it was; and fetched by each layout.
        """
        space = self._space
        held = np.vstack([np.arange(len(space.upgrade)), space.upgrade.T]).T
        nothing = np.zeros((len(held), 1), int)
        owed = np.searchsorted(self._owed_s, space.exit_latency[value])
        volume = self._by_column(np.hstack([nothing, space.exit_volume[value][held]]))
        return volume, self._by_column(np.hstack([nothing, owed[held]]))

    def _words(self) -> tuple[Code, ...]:
        """As many code words as the labels of the cut with the most alive values need."""
        per_word = max(1, int(KEY_BITS / max(1.0, log2(self._states))))
        words = max(1, -(-max(map(len, self._alive)) // per_word))
        strides = np.zeros((words, self._space.cuts + 1, self._owed + 1), dtype=np.int64)
        for cut, values in enumerate(self._alive):
            for number, value in enumerate(values):
                strides[number // per_word, cut, value] = self._states ** (number % per_word)
        return tuple(Code(word, np.zeros(len(word), dtype=np.int64)) for word in strides)

    def _bundles(self, cut: int, options: Options, first: int) -> Iterator[Bundle]:
        """The bundles of a cut."""
        values, row_of = self._alive[cut], {value: row for row, value in enumerate(self._space.alive[cut])}
        seconds, floor = self._always(options, row_of)
        made, paid_s = self._made(cut, options)
        held = tuple(self._held(values, options, row_of))
        owed_row = values.index(self._owed) if self._owed in values else None
        for rows, carried in self._alike(cut, options):
            known = [
                (row, value, options.needs[row_of[value], rows]) for row, value in enumerate(values) if value in row_of
            ]
            reads = [Read(row, needs, *self._tables[value]) for row, value, needs in known if needs.any()]
            paying = [(row, value, column[rows]) for row, value, column in held if column[rows].any()]
            yield Bundle(
                cut,
                values,
                np.arange(first, first + len(rows)),
                options.end[rows].astype(np.int64),
                options.layout[rows].astype(np.int64),
                seconds[rows] + paid_s[rows],
                options.weights[rows],
                floor[rows],
                (*reads, *(Read(row, column, None, self._exits[value][0]) for row, value, column in paying)),
                tuple(Carry(row, options.fetches[row_of[values[row]], rows], self._upgrade) for row in carried),
                Owed(
                    self._owed,
                    owed_row,
                    made[rows],
                    tuple((row, column, self._exits[value][1]) for row, value, column in paying),
                ),
            )
            first += len(rows)

    def _always(self, options: Options, row_of: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Seconds (M,), and latency, with the fetching of values that are always held as they were in the beginning."""
        seconds, floor = options.seconds.astype(float), np.zeros(len(options.end))
        for value, state in self._arriving.items():
            if value in row_of:
                needs = options.needs[row_of[value]]
                floor = np.maximum(floor, self._space.latency[value][state, needs])
                seconds = seconds + self._space.volume[value][state, needs]
        return seconds, floor

    def _made(self, cut: int, options: Options) -> tuple[np.ndarray, np.ndarray]:
        """What each option owes, and seconds (M,) that it pays, for outputs that it makes and nobody reads any more."""
        owed, paid_s = np.zeros(len(options.end), int), np.zeros(len(options.end))
        last = int(options.end.max(initial=cut))
        for value in self._outputs:
            if cut < self._born[value] and self._paid[value] <= last:
                volume, latency = self._exits[value]
                which = np.flatnonzero(options.end >= self._paid[value])
                owed[which] = np.maximum(owed[which], latency[1, options.layout[which]])
                paid_s[which] += volume[1, options.layout[which]]
        return owed, paid_s

    def _held(
        self, values: Sequence[int], options: Options, row_of: Mapping[int, int]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Outputs that were made before (row, value), and which row (M,) of their exit tables each option pays."""
        for row, value in enumerate(values):
            if value in self._paid:
                fetched = np.where(options.fetches[row_of[value]], 2 + options.layout, 1)
                yield row, value, np.where(options.end >= self._paid[value], fetched, 0)

    def _alike(self, cut: int, options: Options) -> Iterator[tuple[np.ndarray, list[int]]]:
        """Options of a cut that carry the same values, sorted by end, and the rows of those values."""
        usable = np.flatnonzero(np.isfinite(options.seconds))
        # what is carried depends on the end alone, and a narrow type sorts in linear time
        ends, index = np.unique(options.end[usable].astype(np.min_scalar_type(self._space.cuts)), return_inverse=True)
        usable = usable[np.argsort(index.astype(np.min_scalar_type(len(ends))), kind="stable")]
        values = [value for value in self._alive[cut] if value != self._owed]
        patterns: dict[bytes, list[int]] = {}
        for end, pattern in zip(ends.tolist(), self._is_alive[ends][:, values], strict=True):
            patterns.setdefault(pattern.tobytes(), []).append(end)
        for pattern, mine in patterns.items():
            chosen = usable if len(patterns) == 1 else usable[np.isin(options.end[usable], mine)]
            yield chosen, np.flatnonzero(np.frombuffer(pattern, dtype=bool)).tolist()


def _reading(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Of every value, the last cut from which an option reads it, -1 without one, and the first where one ends."""
    until, earliest = np.full(len(space.latency), -1), np.full(len(space.latency), space.cuts + 1)
    for cut, options in enumerate(space.options):
        for value, needs in zip(space.alive[cut], options.needs, strict=True):
            which = np.flatnonzero(needs)
            if which.size:
                until[value], earliest[value] = cut, min(earliest[value], options.end[which].min())
    return until, earliest
