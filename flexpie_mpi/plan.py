"""Plans: choices only. Which nodes run together, in which layout, on which ranks; the same for every rank.

A plan is a short JSON file that a person can read, compare and edit. What follows from it (regions, messages,
buffers) is derived by :mod:`flexpie_mpi.lower` and never stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import LayoutError, PlanError
from .graph import Graph
from .layout import Layout
from .region import consecutive

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive nodes that run without an exchange between them.

    `layout` spreads every value that leaves the segment; inside, each rank computes whatever its shard needs.
    """

    nodes: tuple[str, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments in order, for `ranks` ranks, with where they came from.

    Attributes
    ----------
    segments : tuple of Segment
        Together they hold every node of the graph once, in the graph's order.
    ranks : int
        Number of ranks of the job; layouts name ranks below it.
    root : int
        The rank that holds the inputs before a request and the outputs after it.
    model : str
        Digest of the graph the plan was made for.
    provenance : mapping of str to str
        Model name, planner, package versions: for people, never read by the engine.
    """

    segments: tuple[Segment, ...]
    ranks: int
    model: str
    root: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def spans(self) -> tuple[tuple[Segment, int, int], ...]:
        """Every segment with its place among the graph's nodes: ``[first, end)``."""
        ranges = consecutive(len(segment.nodes) for segment in self.segments)
        return tuple((segment, *span) for segment, span in zip(self.segments, ranges, strict=True))

    def to_json(self) -> str:
        """The plan as JSON text, one line per segment."""
        head = {"format": FORMAT, "model": self.model, "ranks": self.ranks, "root": self.root}
        lines = [f'  "{key}": {json.dumps(value)},' for key, value in head.items()]
        lines.append(f'  "provenance": {json.dumps(dict(self.provenance), sort_keys=True)},')
        rows = ",\n".join(f"    {json.dumps(_segment_record(segment))}" for segment in self.segments)
        return "{\n" + "\n".join(lines) + '\n  "segments": [\n' + rows + "\n  ]\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan back.

        Raises
        ------
        PlanError
            When the text is no plan of a known format; the sentence names the field.
        """
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"the plan is not JSON: {error}") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else type(record).__name__
            raise PlanError(f"the plan has format {found!r}; this version reads format {FORMAT}")
        unknown = set(record) - {"format", "model", "ranks", "root", "provenance", "segments"}
        if unknown:
            raise PlanError(f"the plan has an unknown field '{min(unknown)}'")
        return cls(
            segments=tuple(_read_segment(place, item) for place, item in enumerate(_get(record, "segments", list))),
            ranks=_get(record, "ranks", int),
            model=_get(record, "model", str),
            root=_get(record, "root", int),
            provenance=_get(record, "provenance", dict, {}),
        )


def problems(plan: Plan, graph: Graph) -> list[str]:
    """Everything that keeps `plan` from being lowered for `graph`, as sentences; empty when nothing does.

    Whether each operator allows the layout asked of it is judged by :func:`flexpie_mpi.shards.segment_problems`.
    """
    found = []
    if plan.model != graph.digest:
        found.append(
            f"the plan was made for another model (digest {plan.model}, this model '{graph.name}' has {graph.digest}); "
            "make a new plan, or pass the same model and --shape as then"
        )
    if plan.ranks < 1 or not 0 <= plan.root < plan.ranks:
        found.append(f"ranks = {plan.ranks} and root = {plan.root} do not fit; need ranks >= 1 and 0 <= root < ranks")
    found += _node_problems(plan, graph)
    for place, segment in enumerate(plan.segments):
        if max(segment.layout.ranks) >= plan.ranks:
            found.append(
                f"segment {place} uses rank {max(segment.layout.ranks)}, but the plan has only {plan.ranks} ranks"
            )
    return found


def _node_problems(plan: Plan, graph: Graph) -> list[str]:
    listed = [name for segment in plan.segments for name in segment.nodes]
    expected = [node.name for node in graph.nodes]
    if listed == expected:
        return []
    unknown = sorted(set(listed) - set(expected))
    missing = sorted(set(expected) - set(listed))
    if unknown:
        return [f"the plan names node '{unknown[0]}', which the model does not have{_others(unknown)}"]
    if missing:
        return [f"the plan leaves out node '{missing[0]}' of the model{_others(missing)}"]
    if len(listed) > len(expected):
        twice = next(name for name in listed if listed.count(name) > 1)
        return [f"the plan lists node '{twice}' more than once"]
    place = next(i for i, (a, b) in enumerate(zip(listed, expected, strict=True)) if a != b)
    return [f"the plan has node '{listed[place]}' where the model's order has '{expected[place]}'"]


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _segment_record(segment: Segment) -> dict[str, Any]:
    layout = {key: value for key, value in asdict(segment.layout).items() if value}
    return {"layout": layout, "nodes": segment.nodes}


def _read_segment(place: int, record: Any) -> Segment:
    where = f"segment {place} of the plan"
    if not isinstance(record, dict):
        raise PlanError(f"{where} is not an object")
    nodes = _get(record, "nodes", list, where=where)
    if not nodes or not all(isinstance(name, str) for name in nodes):
        raise PlanError(f"{where}: 'nodes' must be a list of node names with at least one")
    layout = _get(record, "layout", dict, where=where)
    unknown = set(layout) - {"kind", "ranks", "weights", "grid"}
    if unknown:
        raise PlanError(f"{where}: the layout has an unknown field '{min(unknown)}'")
    try:
        return Segment(
            tuple(nodes),
            Layout(
                kind=_get(layout, "kind", str, where=where),
                ranks=_numbers(layout, "ranks", int, where),
                weights=_numbers(layout, "weights", (int, float), where),
                grid=_numbers(layout, "grid", int, where),
            ),
        )
    except LayoutError as error:
        raise PlanError(f"{where}: {error}") from error


def _get(record: Mapping[str, Any], key: str, kind: type, default: Any = None, where: str = "the plan") -> Any:
    value = record.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PlanError(f"{where}: '{key}' must be {kind.__name__}, not {value!r}")
    return value


def _numbers(record: Mapping[str, Any], key: str, kind: Any, where: str) -> tuple[Any, ...]:
    values = _get(record, key, list, [], where=where)
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        raise PlanError(f"{where}: '{key}' must be a list of numbers, not {values!r}")
    return tuple(values)
