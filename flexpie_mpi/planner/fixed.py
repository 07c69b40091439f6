"""Plans by a rule: one layout wherever it can be, without a cost model.

Where a node cannot be cut as asked it falls back, in this order: by channels when it carries heavy weights, replicated
when later nodes are cut again, on the root alone otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import isqrt

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..lower.shards import can_cut
from .atoms import Atom, atoms
from .fuse import fuse

PRESETS = ("rows", "columns", "grid", "channels", "batch", "single")
"""Layouts a plan can be asked for."""

HEAVY_BYTES = 1 << 20
"""Weights above this are worth cutting even where nothing else of the plan is cut by channels."""

ROOT = Layout("single", (0,))


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
    preset : one of `PRESETS`
    fusion : one of :data:`flexpie_mpi.planner.fuse.FUSIONS`, or a number of nodes
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
    choose = _chooser(graph, ranks, preset, tuple(weights), grid)
    whole = atoms(graph)
    chosen = [ROOT if atom.fixed else choose(atom) for atom in whole]
    placed = zip(whole, _with_fallback(graph, whole, chosen, ranks), strict=True)
    segments = tuple(
        Segment(tuple(node.name for node in graph.nodes[first:end]), layout)
        for layout, run in groupby(placed, key=lambda pair: pair[1])
        for first, end in fuse(graph, [atom for atom, _ in run], layout, fusion)
    )
    provenance = {"model": graph.name, "planner": preset, "fusion": fusion}
    return Plan(segments, ranks, graph.digest, provenance=provenance)


Chooser = Callable[[Atom], "Layout | None"]
"""The layout an atom should have; None where the rule has none for it."""


def _chooser(
    graph: Graph, ranks: int, preset: str, weights: tuple[float, ...], grid: tuple[int, int] | None
) -> Chooser:
    everyone = tuple(range(ranks))
    if preset not in PRESETS:
        raise PlanError(f"unknown layout '{preset}'; choose from {', '.join(PRESETS)}")
    if preset == "single" or ranks == 1:
        return lambda atom: ROOT
    shape = (grid or square(ranks)) if preset == "grid" else ()
    layout = Layout(preset, everyone, weights, shape)
    return lambda atom: layout if _cuts(graph, atom, layout) else None


def square(ranks: int) -> tuple[int, int]:
    """The most square (rows, columns) grid of exactly `ranks` ranks, rows at least columns.

    >>> square(6), square(7), square(8)
    ((3, 2), (7, 1), (4, 2))
    """
    columns = next(c for c in range(isqrt(ranks), 0, -1) if ranks % c == 0)
    return ranks // columns, columns


def _outputs(graph: Graph, atom: Atom) -> Iterator[str]:
    names = (name for node in graph.nodes[atom.first : atom.end] for name in node.writes)
    return (name for name in names if name not in graph.derived)


def _cuts(graph: Graph, atom: Atom, layout: Layout) -> bool:
    """Whether a layout really shares the atom: every output may be cut, and two ranks at least get some of one."""
    if atom.fixed or not all(can_cut(graph, name, layout) for name in _outputs(graph, atom)):
        return False
    shapes = [graph.value(name).shape or () for name in _outputs(graph, atom)]
    return any(sum(layout.region(shape, rank) is not None for rank in layout.ranks) > 1 for shape in shapes)


def _with_fallback(graph: Graph, whole: Sequence[Atom], chosen: Sequence[Layout | None], ranks: int) -> list[Layout]:
    """A layout for every atom, also where the rule has none."""
    everyone = tuple(range(ranks))
    layouts: list[Layout] = []
    last_cut = max((place for place, layout in enumerate(chosen) if layout and len(layout.ranks) > 1), default=-1)
    for place, (atom, layout) in enumerate(zip(whole, chosen, strict=True)):
        by_channels = Layout("channels", everyone)
        if layout is not None:
            layouts.append(layout)
        elif _weight_bytes(graph, atom) >= HEAVY_BYTES and _cuts(graph, atom, by_channels):
            layouts.append(by_channels)
        else:
            layouts.append(Layout("replicated", everyone) if place < last_cut else ROOT)
    return layouts


def _weight_bytes(graph: Graph, atom: Atom) -> int:
    names = {name for node in graph.nodes[atom.first : atom.end] for name in node.reads}
    return sum(graph.value(name).nbytes for name in names if graph.value(name).is_constant)
