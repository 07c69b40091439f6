"""Rules for models of sequences: by heads and hidden features, as in Megatron, or by tokens everywhere.

By heads, matrix products come in pairs, the first cut by columns, the second by rows. What stands between the two is
cut as the first one's columns are, so that attention is shared out by heads and a feed-forward network by its hidden
features. The second product sums over them, and each rank leaves its part of the sum: one exchange for a pair. A pair
is one segment, in ``channels`` with its last value in parts::

    x ---> by columns ---> heads, hidden features ---> by rows ---> sum     (all ranks have all of x)

Heads need not divide by the ranks. Ranks that share a head compute its scores twice; where whole heads, or parts of one
head at most, leave less on the fullest rank, the layout of the pair has such shares as its weights.

What is in no pair falls back: tables of embeddings and other products go by columns, what is between pairs by tokens,
or to every rank where there are too few. A table of words that is read to look them up and to say them goes by words:
each rank keeps the same share of it for both ends, and what it looks up there is a part. By tokens there are no pairs,
and products go by tokens too: attention then gathers keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from ..core.graph import BoundNode, Graph
from ..core.layout import Layout, cut_axes
from ..core.region import split_weighted
from ..lower.facts import slice_bytes
from ..lower.shards import (
    Growing,
    blocks_flops,
    can_cut,
    is_in_parts,
    live_out,
    node_flops,
    segment_problems,
    segment_shard,
    shard_region,
)
from ..ops import rule_for
from .units import Atom

Pair = tuple[int, int, Layout]
"""Atoms ``[first, end)`` that are one segment, and its layout."""

TOLERATED = 0.2
"""Share of the other ranks' work and weights that a rank may have in a pair beside its own: heads need not divide."""

EVEN = 0.01
"""Part of a pair beyond its share that a rank may have before shares of whole heads are tried."""

_LEAST_SUM = 4
"""Operations for an element of its result from which on a node that reads weights is a product."""


def pairs(graph: Graph, pieces: Sequence[Atom], columns: Layout) -> Iterator[Pair]:
    """Segments from products by columns on, up to the product by rows that sums over what is made of them.

    Where its sum cannot be left in parts, they end before it, and it is cut by columns itself.
    """
    start, spread = 0, set[str]()
    for number, atom in enumerate(pieces):
        nodes = graph.bound[atom.first : atom.end]
        reads, writes = _ends(graph, nodes)
        follows = not spread.isdisjoint(reads)
        if not any(_is_product(graph, node) for node in nodes):
            spread |= writes if follows else set()
        elif follows:
            found = _closed(graph, pieces, start, number, columns)
            if found:
                yield found
            start, spread = number, set() if found and found[1] > number else writes
        else:
            start, spread = (start, spread | writes) if spread else (number, writes)
    if spread and (found := _shared_out(graph, pieces, (start, len(pieces), columns))):
        yield found


def _closed(graph: Graph, pieces: Sequence[Atom], start: int, number: int, columns: Layout) -> Pair | None:
    """The segment that begins at `start`, and ends behind a product or before it; None where neither shares it out.

    Parts of images are left to no rule: they are larger than what they are made of.
    """
    ends = [(start, number, columns)]
    if all(len(graph.value(name).shape or ()) < 4 for name in graph.nodes[pieces[number].end - 1].writes):
        ends.insert(0, (start, number + 1, replace(columns, in_parts=True)))
    return next(filter(None, (_shared_out(graph, pieces, pair) for pair in ends)), None)


def _shared_out(graph: Graph, pieces: Sequence[Atom], pair: Pair) -> Pair | None:
    """A segment in its layout, or with shares of whole blocks, such as heads, where these leave less on the fullest.

    None where it cannot be, or neither leaves every rank about its share.
    """
    (first, end), layout = (pieces[pair[0]].first, pieces[pair[1] - 1].end), pair[2]
    if segment_problems(graph, first, end, layout):
        return None
    asked = _shares(layout)
    choices = {layout: _loads(graph, first, end, layout)}
    if _excess(choices[layout], asked) > EVEN:
        for count, size in _blocks(graph, first, end, layout):
            for weights in (_whole_blocks(count, asked), _parts_of_blocks(count, size, asked)):
                by_blocks = replace(layout, weights=weights)
                choices[by_blocks] = _loads(graph, first, end, by_blocks)
    if not any(_is_fair(loads, _shares(each)) for each, loads in choices.items()):
        return None
    return *pair[:2], min(choices, key=lambda each: _excess(choices[each], asked))


def _blocks(graph: Graph, first: int, end: int, layout: Layout) -> list[tuple[int, int]]:
    """(number, size) of blocks that nodes of a segment work in, such as heads, and heads of keys; the most first.

    The least share tells: for one feature of a head, products with queries and with keys are made for all of the head.
    """
    extents, grains = zip(*(_shared_axis(graph, name, layout) for name in live_out(graph, first, end)), strict=True)
    extent, least = max(extents), max(grains)
    if extent <= least:
        return []
    two = replace(layout, ranks=layout.ranks[:2], weights=(least, extent - least))
    shard = segment_shard(graph, first, end, two, two.ranks[0])
    works = ((block.node, blocks_flops(graph, (block,))) for block in (shard.blocks if shard else ()))
    wholes = ((node_flops(graph.bound[graph.position[name]]), work) for name, work in works if work)
    counts = {whole // work for whole, work in wholes if whole % work == 0}
    fitting = (count for count in counts if 1 < count < extent // least and extent % count == 0)
    return [(count, extent // count) for count in sorted(fitting, reverse=True)]


def _whole_blocks(count: int, shares: Sequence[float]) -> tuple[float, ...]:
    """Shares of so many blocks that cut none."""
    return tuple(float(hi - lo) for lo, hi in split_weighted(count, shares))


def _parts_of_blocks(count: int, size: int, shares: Sequence[float]) -> tuple[float, ...]:
    """Shares of fewer blocks than ranks, of which each has a part of one block; else those that cut none.

    >>> _parts_of_blocks(2, 4, (1, 1, 1, 1, 1))
    (2.0, 2.0, 2.0, 1.0, 1.0)
    """
    middles = (end - share / 2 for end, share in zip(accumulate(shares), shares, strict=True))
    places = [int(middle * count / sum(shares)) for middle in middles]
    teams = [[share for share, at in zip(shares, places, strict=True) if at == block] for block in range(count)]
    if not all(map(sum, teams)):
        return _whole_blocks(count, shares)
    return tuple(float(hi - lo) for team in teams for lo, hi in split_weighted(size, team))


def _shared_axis(graph: Graph, name: str, layout: Layout) -> tuple[int, int]:
    """Elements along the axis that ranks share out for a value that leaves a segment, and how many stay together."""
    node, shape, grain = graph.bound[graph.producer[name]], graph.value(name).shape, 1
    if is_in_parts(graph, name, layout):
        shape, grain = node.in_shape(), rule_for(node).part_grain(node)
    axes = cut_axes(layout.kind, len(shape or ()))
    return (shape[axes[0]] if shape and axes else 1), grain


def _shares(layout: Layout) -> tuple[float, ...]:
    return layout.weights or (1.0,) * len(layout.ranks)


def _excess(loads: Sequence[float], shares: Sequence[float]) -> float:
    """How much more than its share a rank has, as a part of the whole, where it is most."""
    return max(load - share / sum(shares) for load, share in zip(loads, shares, strict=True))


def _is_fair(loads: Sequence[float], shares: Sequence[float]) -> bool:
    """Whether every rank has about its share."""
    owned = (share / sum(shares) for share in shares)
    return all(load <= own + TOLERATED * (1 - own) for load, own in zip(loads, owned, strict=True))


def _loads(graph: Graph, first: int, end: int, layout: Layout) -> list[float]:
    """What every rank has of a segment's work, or of its weights where that is more, as a part of the whole."""
    nodes = graph.bound[first:end]
    factors = (value for node in nodes if _is_product(graph, node) for value in node.inputs if value is not None)
    weights = {value.name: value.nbytes for value in factors if value.is_constant}
    work, nbytes = max(1, sum(map(node_flops, nodes))), max(1, sum(weights.values()))
    loads = []
    for rank in layout.ranks:
        part = Growing(graph, first, layout, rank)
        part.grow(end)
        shard = part.shard()
        read = [(name, region) for name, region in (shard.weights if shard else ()) if name in weights]
        loads.append(max(part.flops / work, slice_bytes(graph, read) / nbytes))
    return loads


def _is_product(graph: Graph, node: BoundNode) -> bool:
    """Whether a node multiplies and adds up with weights."""
    return _reads_weights(graph, node) and node_flops(node) >= _LEAST_SUM * _results(node)


def _looks_up(graph: Graph, node: BoundNode) -> bool:
    """Whether a node takes rows of a table of numbers."""
    is_table = node.op == "Gather" and (value := node.inputs[0]) is not None and value.dtype.startswith("float")
    return is_table and _reads_weights(graph, node)


def _results(node: BoundNode) -> int:
    return sum(value.size for value in node.outputs if value is not None)


def _reads_weights(graph: Graph, node: BoundNode) -> bool:
    """Whether a node computes something of weights with several axes, which may be prepared from constants."""
    values = [value for value in node.inputs if value is not None and len(value.shape or ()) > 1]
    return graph.derived.isdisjoint(node.node.writes) and any(_is_settled(graph, value.name) for value in values)


def between(
    graph: Graph, pieces: Sequence[Atom], pairs: Sequence[Pair] | None, columns: Layout, tokens: Layout
) -> Iterator[Layout]:
    """The layout of every atom as if it were in no pair: products and tables by columns, the rest by tokens.

    Where pairs are not wanted (None), tokens come first. What follows from no weights, as masks do, is so small that
    every rank makes it.
    """
    closed = {number for first, end, _ in pairs or () for number in range(first, end)}
    by_words, factors = replace(tokens, in_parts=True), _factors(graph)
    hidden, by_columns = set[str](), set[str]()
    for number, atom in enumerate(pieces):
        nodes = graph.bound[atom.first : atom.end]
        reads, writes = _ends(graph, nodes)
        is_heavy = any(_is_product(graph, node) or _looks_up(graph, node) for node in nodes)
        goes_on = bool(reads) and by_columns >= reads and all(len(graph.value(name).shape or ()) < 4 for name in writes)
        choices = [tokens, columns] if is_heavy else [tokens]
        if pairs is not None and (is_heavy or goes_on):
            is_both = any(_looks_up(graph, node) and node.node.inputs[0] in factors for node in nodes)
            choices = [*[by_words] * is_both, columns, tokens]
        if is_heavy or not hidden.isdisjoint(reads):
            hidden |= writes
        else:
            choices = []
        layout = next((each for each in choices if cuts(graph, atom, each)), None)
        by_columns = by_columns | writes if layout == columns and number not in closed else set()
        yield layout or (Layout("single", (0,)) if atom.fixed else Layout("replicated", columns.ranks))


def _factors(graph: Graph) -> set[str]:
    """Names of constants that products multiply with."""
    products = (node for node in graph.bound if _is_product(graph, node))
    return {value.name for node in products for value in node.inputs if value is not None and value.is_constant}


def _ends(graph: Graph, nodes: Sequence[BoundNode]) -> tuple[set[str], set[str]]:
    """Names of what nodes read, constants set aside, and of what they write."""
    reads = {name for node in nodes for name in node.node.reads if not _is_settled(graph, name)}
    return reads, {name for node in nodes for name in node.node.writes}


def _is_settled(graph: Graph, name: str) -> bool:
    return name in graph.derived or graph.value(name).is_constant


def cuts(graph: Graph, atom: Atom, layout: Layout) -> bool:
    """Whether a layout really shares the atom: every output may be cut, and two ranks at least answer for some of one.

    Values that every reader makes for itself do not count.
    """
    written = (name for node in graph.nodes[atom.first : atom.end] for name in node.writes)
    names = [name for name in written if name not in graph.derived]
    if atom.fixed or not all(can_cut(graph, name, layout) for name in names):
        return False
    owned = ([shard_region(graph, name, layout, rank) for rank in layout.ranks] for name in names)
    return any(sum(region is not None for region in regions) > 1 for regions in owned)
