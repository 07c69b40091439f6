"""Color coding: a simple path on k nodes, found through random colors (Alon, Yuster and Zwick, 1995).

Every node gets one of `COLORS_PER_NODE` k colors. A path on which no color comes twice visits no node twice, and
such paths are found by a dynamic programme over sets of colors instead of sets of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, log, perm

import numpy as np

COLORS_PER_NODE = 1.3
"""The paper's: a little more than one, so that a path's colors are more often all different."""

MISS = 1e-3
"""Chance that a path which is there stays unseen in all colorings, at most."""

Layer = dict[int, int]
"""Nodes, as bits, at which a path with exactly these colors, as bits, may end."""


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
