"""Plans by a rule: one layout wherever it can be, without a cost model; and random plans.

Where a node cannot be cut as asked it falls back, in this order: in parts when it makes the moments of a normalisation,
by channels when it carries heavy weights, replicated when later nodes are cut again, on the root alone otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby, takewhile
from math import isqrt
from random import Random

from ..core.choices import FUSIONS, OF_SEQUENCES, PRESETS
from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import KINDS, Layout
from ..core.plan import Plan, Segment
from ..lower.shards import Growing, is_in_parts, segment_problems, segment_shard
from ..ops import whole
from ..ops.moments import makes_moments
from .heads import Pair, between, cuts, pairs
from .repeats import Shortened, repeats, shorten
from .units import Atom, atoms, units

HEAVY_BYTES = 1 << 20
"""Weights above this are worth cutting even where nothing else of the plan is cut by channels."""

ROOT = Layout("single", (0,))

AHEAD = 24
"""About as many atoms as split and turn heads, between values that are cut by tokens."""

KEPT = 3
"""Blocks by which a plan of a network that repeats them is made: two that are planned alike, and one ahead."""

Placed = tuple[int, int, Layout]
"""Nodes ``[first, end)`` that are one segment, and its layout."""


def layout_plan(
    graph: Graph,
    ranks: int,
    preset: str = "rows",
    *,
    fusion: str = "free",
    weights: Sequence[float] = (),
    grid: tuple[int, int] | None = None,
) -> Plan:
    """A plan that uses one layout wherever it can.

    Parameters
    ----------
    graph : Graph
    ranks : int
        Number of ranks; layouts take all of them.
    preset : one of :data:`flexpie_mpi.core.choices.PRESETS`
    fusion : one of :data:`flexpie_mpi.core.choices.FUSIONS`, or a number of nodes
    weights : sequence of numbers
        Relative share of each rank, for every preset but ``single``; equal shares when empty.
    grid : (r, c)
        Rows and columns of ``grid``; the most square one that holds all ranks when None.

    Raises
    ------
    PlanError
        For an unknown preset or fusion, or parameters that do not fit the ranks.
    """
    if ranks < 1:
        raise PlanError(f"a plan needs at least one rank, not {ranks}")
    if preset not in (*KINDS, *OF_SEQUENCES) or preset == "replicated":
        raise PlanError(f"unknown layout '{preset}'; choose from {', '.join(PRESETS)}")
    if preset in OF_SEQUENCES and ranks > 1:
        columns = Layout("channels", tuple(range(ranks)), tuple(weights))
        return _of_sequences(graph, _shorter(graph), columns, preset, fusion)
    pieces, wanted = atoms(graph), ROOT
    if preset != "single" and ranks > 1:
        shape = (grid or square(ranks)) if KINDS[preset].is_grid else ()
        wanted = Layout(preset, tuple(range(ranks)), tuple(weights), shape)
    placed = _fused(graph, pieces, _layouts(graph, pieces, wanted, ranks), fusion)
    return _plan(graph, ranks, placed, {"planner": preset, "fusion": fusion})


def sequence_plans(graph: Graph, ranks: int, weights: Sequence[float] = ()) -> Iterator[Plan]:
    """The plans of the rules for sequences, where a graph has several pairs of products for so many ranks; else none.

    A network of images may end in one, which any search finds. `weights` are relative shares of the ranks.
    """
    columns, short = Layout("channels", tuple(range(ranks)), tuple(weights)), _shorter(graph)
    shown = short.units.graph if short else graph
    closed = pairs(shown, atoms(shown), columns)
    if sum(layout.in_parts for _, _, layout in closed) > 1:
        for preset in OF_SEQUENCES:
            yield _of_sequences(graph, short, columns, preset)


def with_more_tokens(plan: Plan, graph: Graph) -> Plan | None:
    """A plan for a graph with the nodes of another plan, and more tokens: ranks read the slices of weights of that one.

    What every rank makes of one token, by itself or in front of what is shared out, or the root alone of few weights,
    goes by tokens. None where the graph has other nodes, or a segment of that plan cannot be one here.
    """
    places = {name: number for number, segment in enumerate(plan.segments) for name in segment.nodes}
    if not places.keys() >= graph.position.keys():
        return None
    layouts = [segment.layout for segment in plan.segments]
    everyone = tuple(range(plan.ranks))
    shares = Counter(each.weights for each in layouts if each.ranks == everyone)  # those of pairs may be whole heads
    tokens = Layout("rows", everyone, shares.most_common(1)[0][0] if shares else ())

    def place(atom: Atom) -> int:
        return places[graph.nodes[atom.first].name]

    def own(atom: Atom) -> Layout:
        layout = layouts[place(atom)]
        is_light = layout.kind == "replicated" or _weight_bytes(graph, atom) < HEAVY_BYTES
        return tokens if is_light and cuts(graph, atom, tokens) else layout

    placed: list[Placed] = []
    apart: list[Atom] = []
    for number, some in groupby(atoms(graph), place):
        run, layout = list(some), layouts[number]
        if not KINDS[layout.kind].cuts:
            apart += run
            continue
        span = run[0].first, run[-1].end
        choices = (layout, replace(layout, in_parts=False))  # nobody may want the sum here
        fitting = (each for each in choices if not segment_problems(graph, *span, each, plan.root))
        if (fit := next(fitting, None)) is None:
            return None
        ahead = _ahead(graph, [*takewhile(lambda atom: own(atom) == tokens, run)], span, fit)
        apart += run[:ahead]
        if ahead < len(run):
            placed += _fused(graph, apart, map(own, apart), "free", AHEAD)
            placed.append((run[ahead].first, span[1], fit))
            apart = []
    placed += _fused(graph, apart, map(own, apart), "free", AHEAD)
    return _plan(graph, plan.ranks, placed, plan.provenance, plan.root)


def _ahead(graph: Graph, run: Sequence[Atom], span: Span, layout: Layout) -> int:
    """How many of the first atoms of a segment every rank makes whole."""
    made = _made_by_all(graph, span, layout) if run else set[str]()
    return next((count for count, atom in enumerate(run) if not _makers(graph, atom) <= made), len(run))


def _made_by_all(graph: Graph, span: Span, layout: Layout) -> set[str]:
    """Names of the nodes of a segment of which every rank makes all that they write."""
    return set.intersection(*({*_made(graph, span, layout, rank)} for rank in layout.ranks))


def _made(graph: Graph, span: Span, layout: Layout, rank: int) -> Iterator[str]:
    """Names of the nodes of a segment of which a rank makes all that they write."""
    shard = segment_shard(graph, *span, layout, rank)
    for block in shard.blocks if shard else ():
        outputs = zip(graph.bound[graph.position[block.node]].outputs, block.outputs, strict=True)
        if not block.is_part and all(value is None or region == whole(value) for value, region in outputs):
            yield block.node


def _makers(graph: Graph, atom: Atom) -> set[str]:
    """Names of the nodes of an atom, but for those that prepare constants."""
    return {graph.nodes[at].name for at in range(atom.first, atom.end) if at not in graph.preparing}


def _of_sequences(graph: Graph, short: Shortened | None, columns: Layout, preset: str, fusion: str = "free") -> Plan:
    """By heads or by tokens; where there is a shorter network, blocks that the whole one repeats are planned once."""
    placed = short.unfolded(_placed(short.units.graph, columns, preset, fusion)) if short else None
    if placed is None:
        placed = _placed(graph, columns, preset, fusion)
    known = {"planner": preset, "fusion": fusion}
    if preset == "megatron":
        known["pairs"] = str(sum(layout.in_parts and layout.kind == columns.kind for _, _, layout in placed))
    return _plan(graph, len(columns.ranks), placed, known)


def _placed(graph: Graph, columns: Layout, preset: str, fusion: str) -> list[Placed]:
    """The segments of a plan by heads or by tokens."""
    pieces, tokens = atoms(graph), replace(columns, kind="rows")
    closed = tuple(pairs(graph, pieces, columns)) if preset == "megatron" else None
    layouts = tuple(between(graph, pieces, closed, columns, tokens))
    return list(_around(graph, pieces, closed or (), layouts, fusion))


def _shorter(graph: Graph) -> Shortened | None:
    """The network with as many of the blocks that it repeats as tell how it goes on, if it has more."""
    whole = repeats(units(graph))
    return shorten(whole, KEPT, ()) if whole else None


def _plan(graph: Graph, ranks: int, placed: Iterable[Placed], known: Mapping[str, str], root: int = 0) -> Plan:
    """A plan of segments, with what is `known` of it."""
    segments = tuple(
        Segment(tuple(node.name for node in graph.nodes[first:end]), layout) for first, end, layout in placed
    )
    return Plan(segments, ranks, graph.digest, root, {**known, "model": graph.name})


def _fused(
    graph: Graph, run: Sequence[Atom], layouts: Iterable[Layout], fusion: str, ahead: int = 1
) -> Iterator[Placed]:
    """Segments of atoms, each with its layout."""
    for layout, some in groupby(zip(run, layouts, strict=True), key=lambda pair: pair[1]):
        yield from ((*span, layout) for span in fuse(graph, [atom for atom, _ in some], layout, fusion, ahead))


def _around(
    graph: Graph, pieces: Sequence[Atom], pairs: Sequence[Pair], layouts: Sequence[Layout], fusion: str
) -> Iterator[Placed]:
    """Segments of pairs, and around them those of atoms in their layouts.

    What every rank makes in front of a pair belongs to the pair: nothing travels in between.
    """
    at = 0
    for first, end, layout in (*pairs, (len(pieces), len(pieces), ROOT)):
        begin = _begin(graph, pieces[at:end], layouts[at:first], layout) + at if first < end else first
        yield from _fused(graph, pieces[at:begin], layouts[at:begin], fusion, AHEAD)
        if first < end:
            yield pieces[begin].first, pieces[end - 1].end, layout
        at = end


def _begin(graph: Graph, run: Sequence[Atom], layouts: Sequence[Layout], layout: Layout) -> int:
    """From which atom of a run on a pair can be one segment with what stands in front of it, which has `layouts`."""
    first = begin = len(layouts)
    while begin and layouts[begin - 1].kind == "replicated":
        begin -= 1
    span, ahead = (run[begin].first, run[-1].end), run[begin:first]
    if segment_problems(graph, *span, layout) or _ahead(graph, ahead, span, layout) < len(ahead):
        return first
    return begin


def square(ranks: int) -> tuple[int, int]:
    """The most square (rows, columns) grid of exactly `ranks` ranks, rows at least columns.

    >>> square(6), square(7), square(8)
    ((3, 2), (7, 1), (4, 2))
    """
    columns = next(c for c in range(isqrt(ranks), 0, -1) if ranks % c == 0)
    return ranks // columns, columns


def grid_weights(shares: Sequence[float], grid: tuple[int, int]) -> tuple[float, ...]:
    """Shares of each row and then of each column of a grid, from the shares of its ranks, row by row."""
    rows, columns = grid
    down = [sum(shares[r * columns : (r + 1) * columns]) for r in range(rows)]
    across = [sum(shares[c::columns]) for c in range(columns)]
    return tuple(round(weight, 3) for weight in (*down, *across))


def _layouts(graph: Graph, pieces: Sequence[Atom], wanted: Layout, ranks: int) -> Iterator[Layout]:
    """The layout of every atom: what is wanted, or what the atom falls back to."""
    everyone = tuple(range(ranks))
    is_cut = [wanted != ROOT and cuts(graph, atom, wanted) for atom in pieces]
    last_cut = max((number for number, cut in enumerate(is_cut) if cut), default=-1)
    by_channels, in_parts = Layout("channels", everyone), replace(wanted, in_parts=KINDS[wanted.kind].cuts)
    for number, atom in enumerate(pieces):
        if is_cut[number]:
            yield wanted
        elif _leaves_moments(graph, atom, in_parts):
            yield in_parts
        elif atom.fixed or wanted == ROOT:
            yield ROOT
        elif _weight_bytes(graph, atom) >= HEAVY_BYTES and cuts(graph, atom, by_channels):
            yield by_channels
        else:
            yield Layout("replicated", everyone) if number < last_cut else ROOT


def _leaves_moments(graph: Graph, atom: Atom, layout: Layout) -> bool:
    """Whether the atom makes moments of a normalisation, and a layout leaves them in parts."""
    nodes = graph.bound[atom.first : atom.end]
    return all(makes_moments(node) and is_in_parts(graph, node.node.writes[0], layout) for node in nodes)


def _weight_bytes(graph: Graph, atom: Atom) -> int:
    names = {name for node in graph.nodes[atom.first : atom.end] for name in node.reads}
    return sum(graph.value(name).nbytes for name in names if graph.value(name).is_constant)


# Fusion


Span = tuple[int, int]


def fuse(graph: Graph, run: Sequence[Atom], layout: Layout, fusion: str, ahead: int = 1) -> list[Span]:
    """Spans of nodes, one per segment, of consecutive atoms that have one layout.

    Fused freely, a span may compute more than its atoms apart in between, for less than so many atoms (`ahead`).
    Raises PlanError when `fusion` is neither a known rule nor a positive number.
    """
    if fusion == "all-legal":
        return [(run[0].first, run[-1].end)]
    if fusion == "free":
        return list(_free(graph, run, layout, ahead))
    count = 1 if fusion == "none" else int(fusion) if fusion.isdecimal() else 0
    if count < 1:
        raise PlanError(f"unknown fusion '{fusion}'; choose from {', '.join(FUSIONS)}, or a number of nodes from 1 on")
    groups = [run[start : start + count] for start in range(0, len(run), count)]
    return [(group[0].first, group[-1].end) for group in groups]


def _free(graph: Graph, run: Sequence[Atom], layout: Layout, ahead: int) -> Iterator[Span]:
    """Spans that reach as far as they compute no more together than apart, as seen so many atoms `ahead`."""
    if len(layout.ranks) == 1:
        yield run[0].first, run[-1].end
        return
    work = _most if ahead > 1 else _flops

    @cache
    def alone(number: int) -> int:
        return work(_grown(graph, run[number].first, run[number].end, layout))

    first = 0
    while first < len(run):
        segment, last = _grown(graph, run[first].first, run[first].end, layout), first
        apart = work(segment)
        for number in range(first + 1, len(run)):
            if number > last + ahead:
                break
            for part in segment:
                part.grow(run[number].end)
            apart += alone(number)
            if work(segment) <= apart:
                last, apart = number, work(segment)
        yield run[first].first, run[last].end
        first = last + 1


def _grown(graph: Graph, first: int, end: int, layout: Layout) -> list[Growing]:
    """The parts of the ranks that stand for all of a segment: the first, second, middle and last of its layout.

    The widest halo is on a rank inside; sampling keeps the price of a rule independent of the number of ranks.
    """
    ranks = layout.ranks
    witnesses = dict.fromkeys((ranks[0], ranks[min(1, len(ranks) - 1)], ranks[len(ranks) // 2], ranks[-1]))
    parts = [Growing(graph, first, layout, rank) for rank in witnesses]
    for part in parts:
        part.grow(end)
    return parts


def _flops(parts: Sequence[Growing]) -> int:
    return sum(part.flops for part in parts)


def _most(parts: Sequence[Growing]) -> int:
    return max(part.flops for part in parts)


# Chance


LENGTHS = (1, 1, 2, 3, 5, 8)
"""How many atoms a segment takes."""


def random_plan(graph: Graph, ranks: int, source: Random, root: int = 0) -> Plan:
    """A plan of random segments, each in a random layout that its nodes allow, on a random team of ranks.

    Every second segment that can leave its values in parts does. The same seed of `source` gives the same plan.
    """
    placed: list[Placed] = []
    pieces = atoms(graph)
    while pieces:
        count = min(source.choice(LENGTHS), len(pieces))
        first, end = pieces[0].first, pieces[count - 1].end
        layouts = [_layout(kind, ranks, source) for kind in source.sample(tuple(KINDS), len(KINDS))]
        if source.random() < 0.5:
            layouts = [replace(each, in_parts=True) for each in layouts if KINDS[each.kind].cuts] + layouts
        fitting = (item for item in layouts if not segment_problems(graph, first, end, item, root))
        placed.append((first, end, next(fitting, Layout("single", (root,)))))
        pieces = pieces[count:]
    return _plan(graph, ranks, placed, {"planner": "random"}, root)


def _layout(kind: str, ranks: int, source: Random) -> Layout:
    """A layout of a kind, mostly on all ranks and mostly of equal shares."""
    if kind == "single":
        return Layout("single", (source.randrange(ranks),))
    size = ranks if source.random() < 0.7 else source.randint(1, ranks)
    team = tuple(sorted(source.sample(range(ranks), size)))
    weights = tuple(float(source.randint(1, 4)) for _ in team) if source.random() < 0.2 else ()
    if KINDS[kind].is_grid:
        return Layout(kind, team, grid=square(size))
    return Layout(kind, team, weights if kind != "replicated" else ())
