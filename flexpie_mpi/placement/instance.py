"""What is to be placed: units in order, boards, and what running and sending takes; bare numbers, no graph, no testbed.

A network is a row of `m` units with the cuts 0 .. m around them: cut 0 is where the inputs come in, cut m where the
outputs go out. A *stage* is a run of units that one *crew* of boards runs; at a cut between two stages everything alive
there is sent from one crew to the next, which takes along what only later stages read.

Source: "Partitioning and Placement of Deep Neural Networks on Distributed Edge Devices to Maximize Inference
Throughput", which has crews of one board, one memory capacity for all, no compute time, and no ports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from ..core.errors import PlacementError

Span = tuple[int, int]
"""Units ``[begin, end)``."""

MOST_PERIOD = 16
"""Requests after which the turns of all stages begin anew, at most: replicas of all stages share this cycle."""


@dataclass(frozen=True, eq=False)
class TeamSpan:
    """A span of units as one team runs it for one request; arrays are by member, in the team's order."""

    compute_s: np.ndarray  # array (g,). Seconds that a member computes.
    # `entry_bytes` and `exit_bytes`: array (g,). Bytes that a member receives of what is alive where the span begins,
    # and holds of what is alive where it ends. Whoever comes before sends the former in all, whoever comes after
    # receives the latter in all.
    entry_bytes: np.ndarray
    exit_bytes: np.ndarray
    # Mapping of (source, target) members to bytes. What members, by place in the team, send each other.
    inner: Mapping[tuple[int, int], float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, eq=False)
class Team:
    """Boards that run a span together, each a part of every request, and the spans they are offered for.

    What a span needs of memory is seen to by whoever offers it. Two teams never follow each other directly.
    """

    boards: tuple[int, ...]
    spans: Mapping[Span, TeamSpan]


@dataclass(frozen=True, eq=False)
class Instance:
    """A row of m units, n boards and R resources that messages occupy.

    Raises PlacementError when the arrays do not fit together.
    """

    # Array (m + 1,). Bytes alive at each cut, per request. The first are the inputs, the last the outputs.
    crossing: np.ndarray
    # Array (n, m + 1, m + 1). ``[b, i, j]`` is what board b takes to compute units ``[i, j)`` for one request; infinite
    # where it must not. Only ``i < j`` is read, and there it is 0 or more. Zeros where computing does not count.
    compute_s: np.ndarray
    need_bytes: np.ndarray  # array (m + 1, m + 1). Memory that units ``[i, j)`` need on one board.
    capacity: np.ndarray  # array (n,). Bytes of memory of each board; infinite where nothing limits it.
    # ``routes[a][b]``: the resources that a message from board a to board b passes; ``routes[a][a]`` is not read
    routes: tuple[tuple[tuple[int, ...], ...], ...]
    # Array (R,). Seconds for which one byte occupies each resource: a port's sending or receiving side, or a link.
    resource_s: np.ndarray
    # The board that has the inputs and takes the outputs. None where neither counts: inputs are where the first stage
    # is, outputs stay where the last one was.
    root: int | None = 0
    replicas: int = 1  # boards that may take turns in one stage, at most; 1 for no replicas
    teams: tuple[Team, ...] = ()
    # Array of bool (m + 1,), optional. Cuts at which a stage of one board or of replicas may begin and end; all when
    # None. The first and the last are always among them. Teams are offered span by span, so this does not touch them.
    cuttable: np.ndarray | None = None
    most_boards: int | None = None  # int, optional. Boards that a placement may use; all of them when None.

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise PlacementError(problem)

    @property
    def units(self) -> int:
        return len(self.crossing) - 1

    @property
    def boards(self) -> int:
        return len(self.capacity)

    @property
    def board_limit(self) -> int:
        """Boards that a placement may use."""
        return self.boards if self.most_boards is None else min(self.boards, self.most_boards)

    @property
    def replica_limit(self) -> int:
        """Boards that may take turns in one stage."""
        return min(self.replicas, self.board_limit)

    @cached_property
    def team_spans(self) -> Mapping[tuple[tuple[int, ...], Span], TeamSpan]:
        """What teams are offered for, by boards and span; where the same is offered twice, the first counts."""
        spans: dict[tuple[tuple[int, ...], Span], TeamSpan] = {}
        for team in self.teams:
            for span, costs in team.spans.items():
                spans.setdefault((team.boards, span), costs)
        return spans

    @cached_property
    def fits(self) -> np.ndarray:
        """Whether a board can run units ``[i, j)`` by itself: bool array (n, m + 1, m + 1)."""
        row = np.arange(self.units + 1)
        ends = np.ones(self.units + 1, bool) if self.cuttable is None else np.array(self.cuttable, bool)
        ends[[0, -1]] = True
        is_span = (row[:, None] < row[None, :]) & ends[:, None] & ends[None, :]
        fits: np.ndarray = is_span & np.isfinite(self.compute_s) & (self.need_bytes <= self.capacity[:, None, None])
        return fits

    @cached_property
    def pair_s(self) -> np.ndarray:
        """Seconds for which one byte from board a to board b occupies the slowest resource it passes, array (n, n)."""
        slowest = np.zeros((self.boards, self.boards))
        for a, row in enumerate(self.routes):
            for b, passed in enumerate(row):
                if a != b:
                    slowest[a, b] = max((self.resource_s[number] for number in passed), default=0.0)
        return slowest


def _problems(instance: Instance) -> list[str]:
    m, n = instance.units, instance.boards
    if m < 1 or n < 1:
        return [f"{m} units and {n} boards: at least one of each is needed"]
    sentences = _shape_problems(instance)
    if sentences:
        return sentences
    sentences += _route_problems(instance)
    if instance.root is not None and not 0 <= instance.root < n:
        sentences.append(f"root = {instance.root} is none of the {n} boards")
    if not 1 <= instance.replicas <= MOST_PERIOD:
        sentences.append(f"replicas = {instance.replicas} must be 1 to {MOST_PERIOD}")
    if instance.most_boards is not None and instance.most_boards < 1:
        sentences.append(f"most_boards = {instance.most_boards} must be at least 1")
    for team in instance.teams:
        sentences += _team_problems(team, n, m)
    return sentences


def _shape_problems(instance: Instance) -> list[str]:
    m, n = instance.units, instance.boards
    shapes = {
        "crossing": (np.shape(instance.crossing), (m + 1,)),
        "compute_s": (np.shape(instance.compute_s), (n, m + 1, m + 1)),
        "need_bytes": (np.shape(instance.need_bytes), (m + 1, m + 1)),
        "capacity": (np.shape(instance.capacity), (n,)),
        "cuttable": (np.shape(instance.cuttable) if instance.cuttable is not None else (m + 1,), (m + 1,)),
    }
    sentences = [
        f"{name} has shape {shape}, and {m} units on {n} boards need {wanted}"
        for name, (shape, wanted) in shapes.items()
        if shape != wanted
    ]
    amounts = {"crossing": instance.crossing, "resource_s": instance.resource_s}
    for name, array in amounts.items():
        wrong = [float(value) for value in np.ravel(array) if not 0 <= value < np.inf]
        sentences += [f"{name} holds {value}, and has to be a number, 0 or more" for value in wrong[:1]]
    return sentences


def _route_problems(instance: Instance) -> list[str]:
    n, resources = instance.boards, len(instance.resource_s)
    if len(instance.routes) != n or any(len(row) != n for row in instance.routes):
        return [f"{n} boards need {n} x {n} routes"]
    numbers = {number for a, row in enumerate(instance.routes) for b, way in enumerate(row) if a != b for number in way}
    return [f"a route passes resource {q} of {resources}" for q in sorted(numbers) if not 0 <= q < resources][:1]


def _team_problems(team: Team, boards: int, units: int) -> list[str]:
    size = len(team.boards)
    if not size or len(set(team.boards)) != size or not all(0 <= board < boards for board in team.boards):
        return [f"team {team.boards} must be of different ones of the {boards} boards"]
    sentences, who = [], f"team {team.boards}"
    for (begin, end), span in team.spans.items():
        if not 0 <= begin < end <= units:
            sentences.append(f"{who} is offered for units ({begin}, {end}) of {units}")
        if any(np.shape(part) != (size,) for part in (span.compute_s, span.entry_bytes, span.exit_bytes)):
            sentences.append(f"{who}, units ({begin}, {end}): its arrays need a number for each of its boards")
        if not all(0 <= a < size and 0 <= b < size and a != b for a, b in span.inner):
            sentences.append(f"{who}, units ({begin}, {end}): it sends inside from or to a board it has not")
    return sentences
