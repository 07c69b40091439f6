"""Rules for models of sequences: by heads and hidden features, as in Megatron, or by tokens everywhere.

By heads, matrix products come in pairs, the first cut by columns, the second by rows. What stands between the two is
cut as the first one's columns are, so that attention is shared out by heads and a feed-forward network by its hidden
features. The second product sums over them, and each rank leaves its part of the sum: one exchange for a pair. A pair
is one segment, in ``channels`` with its last value in parts::

    x ---> by columns ---> heads, hidden features ---> by rows ---> sum     (all ranks have all of x)

What is in no pair falls back: tables of embeddings and other products go by columns, what is between pairs by tokens,
or to every rank where there are too few. A table of words that is read to look them up and to say them goes by words:
each rank keeps the same share of it for both ends, and what it looks up there is a part. By tokens there are no pairs,
and products go by tokens too: attention then gathers keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..core.graph import BoundNode, Graph
from ..core.layout import Layout
from ..lower.facts import slice_bytes
from ..lower.shards import Growing, can_cut, node_flops, segment_problems, shard_region
from .units import Atom

Pair = tuple[int, int, Layout]
"""Atoms ``[first, end)`` that are one segment, and its layout."""

TOLERATED = 0.2
"""Share of the other ranks' work and weights that a rank may have in a pair beside its own: heads need not divide."""

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
    if spread and _is_shared(graph, pieces, (start, len(pieces), columns)):
        yield start, len(pieces), columns


def _closed(graph: Graph, pieces: Sequence[Atom], start: int, number: int, columns: Layout) -> Pair | None:
    """The segment that begins at `start`, and ends behind a product or before it; None where neither shares it out.

    Parts of images are left to no rule: they are larger than what they are made of.
    """
    ends = [(start, number, columns)]
    if all(len(graph.value(name).shape or ()) < 4 for name in graph.nodes[pieces[number].end - 1].writes):
        ends.insert(0, (start, number + 1, replace(columns, in_parts=True)))
    return next((pair for pair in ends if _is_shared(graph, pieces, pair)), None)


def _is_shared(graph: Graph, pieces: Sequence[Atom], pair: Pair) -> bool:
    """Whether a segment can be, and leaves every rank about its share of the work and of the weights."""
    (first, end), layout = (pieces[pair[0]].first, pieces[pair[1] - 1].end), pair[2]
    if segment_problems(graph, first, end, layout):
        return False
    nodes = graph.bound[first:end]
    factors = (value for node in nodes if _is_product(graph, node) for value in node.inputs if value is not None)
    weights = {value.name: value.nbytes for value in factors if value.is_constant}
    work, nbytes = sum(map(node_flops, nodes)), sum(weights.values())
    shares = layout.weights or (1,) * len(layout.ranks)
    for rank, share in zip(layout.ranks, shares, strict=True):
        own = share / sum(shares)
        most = own + TOLERATED * (1 - own)
        part = Growing(graph, first, layout, rank)
        part.grow(end)
        shard = part.shard()
        read = [(name, region) for name, region in (shard.weights if shard else ()) if name in weights]
        if part.flops > most * work or slice_bytes(graph, read) > most * nbytes:
            return False
    return True


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
