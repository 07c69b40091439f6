"""Plans: choices only. Which nodes run together, in which layout, on which ranks; the same for every rank.

A plan is a short JSON file that a person can read, compare and edit. What follows from it (regions, messages,
buffers) is derived by :mod:`flexpie_mpi.lower` and never stored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from math import lcm
from typing import Any

from .document import DocumentError, from_json, is_number, is_whole, printable, shown
from .errors import LayoutError, PlanError
from .graph import Graph
from .layout import Layout
from .region import consecutive

FORMAT = 3
"""The format that is written. 1, without turns and what is carried, and 2, without parts, are read too."""

MOST_BYTES, MOST_RANKS, MOST_PERIOD = 8 << 20, 1024, 1024
"""A plan that is read has no more bytes, ranks, and requests until its replicas begin anew."""

_MOST_WEIGHT = 1e9

BUSY = 2
"""Requests that keep a board, or a team, busy: one that is computed, and one on its way there."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive nodes that run without an exchange between them.

    In the file, `replicas` are ``turns`` and what a segment `forwards` it ``carries``.
    """

    nodes: tuple[str, ...]
    layout: Layout  # of every value that leaves the segment; inside, each rank computes whatever its shard needs
    replicas: tuple[Layout, ...] = ()  # layouts of other ranks that take turns with `layout`, request by request
    forwards: tuple[str, ...] = ()  # values made before that its ranks take along: later segments fetch them here

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The layouts that requests take in turn: request r the one at ``r % len``."""
        return (self.layout, *self.replicas)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank that runs it, in some request."""
        return tuple(dict.fromkeys(rank for layout in self.layouts for rank in layout.ranks))


@dataclass(frozen=True, slots=True)
class Stage:
    """Ranks that work for the same requests at the same time: a stage of the pipeline."""

    ranks: tuple[int, ...]  # ascending
    segments: tuple[int, ...]  # places in the plan
    period: int  # requests after which the same ranks do the same again; 1 without replicas


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments in order, for `ranks` ranks, with where they came from."""

    segments: tuple[Segment, ...]  # together they hold every node of the graph once, in the graph's order
    ranks: int  # number of ranks of the job; layouts name ranks below it
    model: str  # digest of the graph that the plan was made for
    root: int = 0  # the rank that holds the inputs before a request and the outputs after it
    provenance: Mapping[str, str] = field(default_factory=dict)  # for people; the engine never reads it

    @property
    def spans(self) -> tuple[tuple[Segment, int, int], ...]:
        """Every segment with its place among the graph's nodes: ``[first, end)``."""
        ranges = consecutive(len(segment.nodes) for segment in self.segments)
        return tuple((segment, *span) for segment, span in zip(self.segments, ranges, strict=True))

    @property
    def period(self) -> int:
        """The number of requests after which every segment is at its first replica again; 1 without replicas."""
        return lcm(*(len(segment.layouts) for segment in self.segments))

    def variant(self, request: int) -> Plan:
        """The plan that one request follows, in which nobody takes turns."""
        if self.period == 1:
            return self
        chosen = (
            replace(item, layout=item.layouts[request % len(item.layouts)], replicas=()) for item in self.segments
        )
        return replace(self, segments=tuple(chosen))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The plan as a pipeline: segments that have ranks in common are one stage, however many there are.

        A plan for latency is a single one.
        """
        alike: dict[frozenset[int], list[int]] = {}
        for index, segment in enumerate(self.segments):
            alike.setdefault(frozenset(segment.ranks), []).append(index)
        stages: list[tuple[frozenset[int], list[int]]] = []
        for item in alike.items():
            shared = [other for other in stages if not other[0].isdisjoint(item[0])]
            stages = [other for other in stages if other not in shared]
            sets, indices = zip(item, *shared, strict=True)
            stages.append((frozenset().union(*sets), sorted(chain.from_iterable(indices))))
        return tuple(
            Stage(tuple(sorted(ranks)), tuple(indices), lcm(*(len(self.segments[index].layouts) for index in indices)))
            for ranks, indices in sorted(stages, key=lambda item: item[1])
        )

    def to_json(self) -> str:
        """The plan as JSON text, one line per segment."""
        head = {"format": FORMAT, "model": self.model, "ranks": self.ranks, "root": self.root}
        lines = [f'  "{key}": {json.dumps(value)},' for key, value in head.items()]
        lines.append(f'  "provenance": {json.dumps(dict(self.provenance), sort_keys=True)},')
        rows = ",\n".join(f"    {json.dumps(_segment_record(segment))}" for segment in self.segments)
        return "{\n" + "\n".join(lines) + '\n  "segments": [\n' + rows + "\n  ]\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan back.

        Raises PlanError when the text is no plan of a known format; the sentence names the field.
        """
        try:
            record = from_json(text)
        except DocumentError as error:
            raise PlanError(f"the plan is not JSON: {error}") from error
        if not isinstance(record, dict) or not is_whole(record.get("format"), 1, FORMAT):
            known = shown(record.get("format")) if isinstance(record, dict) else type(record).__name__
            raise PlanError(f"the plan has format {known}; this version reads formats up to {FORMAT}")
        _check_fields(record, ("format", "model", "ranks", "root", "provenance", "segments"), "the plan")
        plan = cls(
            segments=tuple(_read_segment(index, item) for index, item in enumerate(_get(record, "segments", list))),
            ranks=_get(record, "ranks", int),
            model=_get(record, "model", str),
            root=_get(record, "root", int),
            provenance=_texts(_get(record, "provenance", dict, {})),
        )
        if plan.ranks > MOST_RANKS or plan.period > MOST_PERIOD:
            raise PlanError(
                f"the plan is for {plan.ranks} ranks and has {plan.period} turns; "
                f"at most {MOST_RANKS} and {MOST_PERIOD} are possible"
            )
        return plan


def enough_in_flight(plan: Plan) -> int:
    """Requests under way that keep all boards busy, and one more; a multiple of the plan's period.

    Of every replica, and of every group of boards that work for the same requests, `BUSY`: 3 for a latency plan.
    """
    wanted = BUSY * sum(stage.period for stage in plan.stages) + 1
    return -(-wanted // plan.period) * plan.period


def problems(plan: Plan, graph: Graph) -> list[str]:
    """Everything that keeps `plan` from being lowered for `graph`, as sentences; empty when nothing does.

    Whether each operator allows the layout asked of it is judged by :func:`flexpie_mpi.lower.shards.segment_problems`.
    """
    wrong = []
    if plan.model != graph.digest:
        wrong.append(
            f"the plan was made for another model (digest {printable(plan.model, 80)}, "
            f"this model '{graph.name}' has {graph.digest}); "
            "make a new plan, or pass the same model, --shape and --state as then"
        )
    if plan.ranks < 1 or not 0 <= plan.root < plan.ranks:
        wrong.append(f"ranks = {plan.ranks} and root = {plan.root} do not fit; need ranks >= 1 and 0 <= root < ranks")
    wrong += _node_problems(plan, graph)
    for index, segment in enumerate(plan.segments):
        if max(segment.ranks) >= plan.ranks:
            wrong.append(f"segment {index} uses rank {max(segment.ranks)}, but the plan has only {plan.ranks} ranks")
    return wrong + (_carried_problems(plan, graph) if not wrong else [])


def _carried_problems(plan: Plan, graph: Graph) -> list[str]:
    """Segments may carry only values that exist before them and that can be sent."""
    wrong = []
    for index, (segment, first, _) in enumerate(plan.spans):
        for name in segment.forwards:
            if name not in graph.given and graph.producer.get(name, first) >= first:
                wrong.append(f"segment {index} carries '{printable(name)}', which nothing before it makes")
            elif graph.value(name).is_opaque:
                wrong.append(f"segment {index} carries '{name}', which has a shape or type known only at run time")
    return wrong


def _node_problems(plan: Plan, graph: Graph) -> list[str]:
    listed = [name for segment in plan.segments for name in segment.nodes]
    expected = [node.name for node in graph.nodes]
    if listed == expected:
        return []
    unknown = sorted(set(listed) - set(expected))
    missing = sorted(set(expected) - set(listed))
    if unknown:
        return [f"the plan names node '{printable(unknown[0])}', which the model does not have{_others(unknown)}"]
    if missing:
        return [f"the plan leaves out node '{missing[0]}' of the model{_others(missing)}"]
    if len(listed) > len(expected):
        twice = next(name for name, times in Counter(listed).items() if times > 1)
        return [f"the plan lists node '{twice}' more than once"]
    first = next(i for i, (a, b) in enumerate(zip(listed, expected, strict=True)) if a != b)
    return [f"the plan has node '{printable(listed[first])}' where the model's order has '{expected[first]}'"]


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _segment_record(segment: Segment) -> dict[str, Any]:
    record: dict[str, Any] = {"layout": _layout_record(segment.layout)}
    if segment.replicas:
        record["turns"] = [_layout_record(layout) for layout in segment.replicas]
    if segment.forwards:
        record["carries"] = segment.forwards
    return record | {"nodes": segment.nodes}


def _layout_record(layout: Layout) -> dict[str, Any]:
    return {key: value for key, value in asdict(layout).items() if value}


def _read_segment(index: int, record: Any) -> Segment:
    where = f"segment {index} of the plan"
    if not isinstance(record, dict):
        raise PlanError(f"{where} is not an object")
    _check_fields(record, ("layout", "turns", "carries", "nodes"), where)
    nodes, forwards = _names(record, "nodes", where), _names(record, "carries", where)
    if not nodes:
        raise PlanError(f"{where}: 'nodes' must be a list of node names with at least one")
    layout = _read_layout(_get(record, "layout", dict, where=where), where)
    turns = enumerate(_get(record, "turns", list, [], where), 1)
    return Segment(nodes, layout, tuple(_read_layout(item, f"{where}, turn {turn}") for turn, item in turns), forwards)


def _names(record: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    names = _get(record, key, list, [], where)
    if not all(isinstance(name, str) for name in names):
        raise PlanError(f"{where}: '{key}' must be a list of names, not {shown(names)}")
    return tuple(names)


def _read_layout(record: Any, where: str) -> Layout:
    if not isinstance(record, dict):
        raise PlanError(f"{where}: the layout is not an object")
    _check_fields(record, ("kind", "ranks", "weights", "grid", "in_parts"), f"{where}: the layout")
    try:
        return Layout(
            kind=_get(record, "kind", str, where=where),
            ranks=_numbers(record, "ranks", _is_count, where),
            weights=_numbers(record, "weights", _is_weight, where),
            grid=_numbers(record, "grid", _is_count, where),
            in_parts=_is_said(record, "in_parts", where),
        )
    except LayoutError as error:
        raise PlanError(f"{where}: {printable(str(error))}") from error


_is_count = partial(is_whole, least=0, most=MOST_RANKS)
_is_weight = partial(is_number, least=-_MOST_WEIGHT, most=_MOST_WEIGHT)


def _check_fields(record: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = set(record).difference(known)
    if unknown:
        raise PlanError(f"{where} has an unknown field '{printable(min(unknown), 80)}'")


def _texts(provenance: dict[str, Any]) -> dict[str, str]:
    for key, value in provenance.items():
        if not isinstance(value, str):
            raise PlanError(f"the plan: {shown(key)} of 'provenance' must be str, not {shown(value)}")
    return {printable(key): printable(value) for key, value in provenance.items()}


def _get(record: Mapping[str, Any], key: str, kind: type, default: Any = None, where: str = "the plan") -> Any:
    value = record.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PlanError(f"{where}: '{key}' must be {kind.__name__}, not {shown(value)}")
    return value


def _is_said(record: Mapping[str, Any], key: str, where: str) -> bool:
    value = record.get(key, False)
    if not isinstance(value, bool):
        raise PlanError(f"{where}: '{key}' must be true or false, not {shown(value)}")
    return value


def _numbers(record: Mapping[str, Any], key: str, fits: Callable[[Any], bool], where: str) -> tuple[Any, ...]:
    values = _get(record, key, list, [], where=where)
    if len(values) > MOST_RANKS or not all(map(fits, values)):
        raise PlanError(
            f"{where}: '{key}' must be a list of numbers, {MOST_RANKS} at most and each in its range, "
            f"not {shown(values)}"
        )
    return tuple(values)
