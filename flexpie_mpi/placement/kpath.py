"""The paper's placement: cuts in classes of size, the largest class first, each run of cuts on the fastest path left.

Kept as published, weaknesses and all, but for what made it fail or differ from run to run: the number of boards limits
the partition while it is searched; the largest size belongs to the last class; any k different colors count; colors
come from a seed; a stage goes only to a board that may run it. A run of more than `LONGEST` boards is laid in pieces,
since color coding takes time exponential in its length.

Color coding finds a simple path on k nodes through random colors (Alon, Yuster and Zwick, 1995). Every node gets one of
`COLORS_PER_NODE` k colors. A path on which no color comes twice visits no node twice, and such paths are found by a
dynamic programme over sets of colors instead of sets of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from math import ceil, log, perm

import numpy as np

from .baselines import chain, min_sum, outcome
from .instance import Instance
from .loads import Placement, loads
from .outcome import Deadline, Outcome

CLASSES = 20
"""Classes into which the sizes of cuts are sorted; the paper's headline figures are for so many."""

LONGEST = 7
"""Boards on one path, at most."""

COLORS_PER_NODE = 1.3
"""The paper's: a little more than one, so that a path's colors are more often all different."""

MISS = 1e-3
"""Chance that a path which is there stays unseen in all colorings, at most."""

Layer = dict[int, int]
"""Nodes, as bits, at which a path with exactly these colors, as bits, may end."""


def kpath(instance: Instance, seed: int = 0, time_limit_s: float | None = None, classes: int = CLASSES) -> Outcome:
    """Paper, section on k-path matching: partition by the least sum of bytes, for the smallest memory of any board.

    When time runs out, what is left is laid on the paths found so far, or on any.
    """
    deadline = Deadline.start(time_limit_s)
    cuts = min_sum(instance, range(instance.boards), float(instance.capacity.min()))
    if cuts is None:
        return outcome(instance, None, deadline, 0)
    search = _Search(instance, seed, deadline)
    return outcome(instance, search.placement(cuts, classes), deadline, search.tests)


def size_classes(instance: Instance, cuts: Sequence[int], classes: int) -> list[int]:
    """Class of each inner cut, 1 .. `classes`: bins of equal width over the bytes of all cuts that may be chosen."""
    inner = np.ones(instance.units + 1, bool) if instance.cuttable is None else np.array(instance.cuttable, bool)
    inner[[0, -1]] = False
    sizes = instance.crossing[inner]
    if not len(cuts[1:-1]):
        return []
    edges = np.linspace(sizes.min(), sizes.max(), classes + 1)
    numbers = np.digitize(instance.crossing[list(cuts[1:-1])], edges)
    return [int(number) for number in np.clip(numbers, 1, classes)]


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """(first, end) of maximal runs of equal numbers: the highest number first, of one number the longest first.

    >>> runs([2, 3, 3, 1, 3])
    [(1, 3), (4, 5), (0, 1), (3, 4)]
    """
    groups = [[index for index, _ in group] for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1])]
    return sorted(
        ((group[0], group[-1] + 1) for group in groups), key=lambda run: (-numbers[run[0]], run[0] - run[1], run[0])
    )


def pieces(first: int, end: int) -> Iterator[tuple[int, int]]:
    """(first, end) of a run of cuts in pieces for which a path needs at most `LONGEST` boards."""
    for start in range(first, end, LONGEST - 1):
        yield start, min(start + LONGEST - 1, end)


class _Search:
    """Boards of the stages of one partition, filled in run by run."""

    def __init__(self, instance: Instance, seed: int, deadline: Deadline) -> None:
        self.instance = instance
        self.generator = np.random.default_rng(seed)
        self.deadline = deadline
        self.tests = 0

    def placement(self, cuts: Sequence[int], classes: int) -> Placement | None:
        """A board for every stage; None where some run finds none."""
        may_run = [_bits(self.instance.fits[(slice(None), *span)]) for span in pairwise(cuts)]
        placed: list[int | None] = [None] * len(may_run)
        if len(may_run) == 1:
            return self._alone(cuts)
        for run in runs(size_classes(self.instance, cuts, classes)):
            for first, end in pieces(*run):
                stages = range(first, end + 1)  # cut t is between the stages t and t + 1
                path = self._fastest([self._choice(placed, may_run, stage) for stage in stages])
                if path is None:
                    return None
                placed[first : end + 1] = path
        return chain(cuts, [board for board in placed if board is not None])

    def _alone(self, cuts: Sequence[int]) -> Placement | None:
        """One stage: the paper asks for no board in particular, so it is the one on which it is fastest."""
        boards = np.flatnonzero(self.instance.fits[:, 0, -1]).tolist()
        placements = [chain(cuts, [board]) for board in boards]
        return min(placements, key=lambda placement: loads(self.instance, placement).seconds, default=None)

    def _choice(self, placed: Sequence[int | None], may_run: Sequence[int], stage: int) -> int:
        """Boards, as bits, for a stage: the one it has, or any that is free and may run it."""
        board = placed[stage]
        if board is not None:
            return 1 << board
        used = sum(1 << other for other in placed if other is not None)
        return may_run[stage] & ~used

    def _fastest(self, allowed: Sequence[int]) -> tuple[int, ...] | None:
        """A path over links as fast as can be, by binary search over the speeds there are."""
        levels = np.unique(self.instance.pair_s)
        low, high = 0, len(levels) - 1
        best = self._path(float(levels[high]), allowed)
        while best is not None and low < high and not self.deadline.is_over:
            middle = (low + high) // 2
            path = self._path(float(levels[middle]), allowed)
            if path is None:
                low = middle + 1
            else:
                best, high = path, middle
        return best

    def _path(self, level: float, allowed: Sequence[int]) -> tuple[int, ...] | None:
        """A path over links on which a byte takes no longer than `level`."""
        self.tests += 1
        is_linked = self.instance.pair_s <= level
        np.fill_diagonal(is_linked, False)
        return find_path([_bits(row) for row in is_linked], allowed, self.generator)


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


# Color coding


def colorings(nodes: int) -> int:
    """How many colorings see a path on so many nodes, but for a chance of `MISS`.

    The published code counts a path only when its colors are the first k of the 1.3 k there are, for which it would
    need 1.3 to the k times as many; here any k different colors count.

    >>> colorings(2), colorings(7)
    (7, 111)
    """
    colors = _colors(nodes)
    seen = perm(colors, nodes) / colors**nodes
    return 1 if seen == 1 else ceil(log(MISS) / log(1 - seen))


def find_path(links: Sequence[int], allowed: Sequence[int], generator: np.random.Generator) -> tuple[int, ...] | None:
    """A simple path whose t-th node is among ``allowed[t]``; None where none was seen.

    Parameters
    ----------
    links : sequence of int
        Nodes, as bits, to which each node has a link.
    allowed : sequence of int
        Nodes, as bits, for each position of the path.
    generator : numpy.random.Generator
        Draws the colors.
    """
    allowed = _reachable(links, allowed)
    if not all(allowed):
        return None
    colors = _colors(len(allowed))
    for _ in range(colorings(len(allowed))):
        drawn = generator.integers(colors, size=len(links)).tolist()
        path = _colorful(links, allowed, drawn, colors)
        if path is not None:
            return path
    return None


def _colors(nodes: int) -> int:
    return ceil(COLORS_PER_NODE * nodes)


def _reachable(links: Sequence[int], allowed: Sequence[int]) -> list[int]:
    """Nodes of each position that lie on some walk from the first position to the last, with nodes repeated or not."""
    kept = [allowed[0]]
    for nodes in allowed[1:]:
        kept.append(nodes & _neighbours(links, kept[-1]))
    for position in range(len(kept) - 2, -1, -1):
        kept[position] = sum(1 << node for node in _nodes(kept[position]) if links[node] & kept[position + 1])
    return kept


def _colorful(
    links: Sequence[int], allowed: Sequence[int], drawn: Sequence[int], colors: int
) -> tuple[int, ...] | None:
    """A path without two nodes of the same color."""
    of_color = [0] * colors
    for node, color in enumerate(drawn):
        of_color[color] |= 1 << node
    layers: list[Layer] = [{1 << color: first for color, nodes in enumerate(of_color) if (first := nodes & allowed[0])}]
    for nodes in allowed[1:]:
        layer: Layer = {}
        for used, ends in layers[-1].items():
            following = _neighbours(links, ends) & nodes
            for color, those in enumerate(of_color):
                if following & those and not used >> color & 1:
                    key = used | 1 << color
                    layer[key] = layer.get(key, 0) | following & those
        if not layer:
            return None
        layers.append(layer)
    return _traced(links, layers, drawn)


def _traced(links: Sequence[int], layers: Sequence[Layer], drawn: Sequence[int]) -> tuple[int, ...]:
    """The path that ends at the lowest node of the last layer, walked backwards."""
    used, ends = next(iter(layers[-1].items()))
    path = [next(_nodes(ends))]
    for layer in reversed(layers[:-1]):
        used ^= 1 << drawn[path[-1]]
        path.append(next(node for node in _nodes(layer[used]) if links[node] >> path[-1] & 1))
    return tuple(reversed(path))


def _neighbours(links: Sequence[int], nodes: int) -> int:
    reached = 0
    for node in _nodes(nodes):
        reached |= links[node]
    return reached


def _nodes(bits: int) -> Iterator[int]:
    """Numbers of the bits that are set, ascending."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
