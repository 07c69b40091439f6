"""What a placement asks of every board and every resource, and which of them is the bottleneck."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import lcm

import numpy as np

from ..core.errors import PlacementError
from .instance import MOST_PERIOD, Instance, TeamSpan


@dataclass(frozen=True, slots=True)
class PlacedStage:
    """Units ``[begin, end)`` and who runs them."""

    begin: int
    end: int
    # One board; or several that take turns: request r is that of ``boards[r % len(boards)]``; or a team
    boards: tuple[int, ...]
    together: bool = False  # whether the boards are a team, each of which does a part of every request


@dataclass(frozen=True, slots=True)
class Placement:
    """Stages in order, from the first unit to the last; no board is in two of them."""

    stages: tuple[PlacedStage, ...]

    @property
    def boards(self) -> tuple[int, ...]:
        """The boards that compute, in the order of the stages."""
        return tuple(board for stage in self.stages for board in stage.boards)

    @property
    def period(self) -> int:
        """Requests after which the turns of all stages begin anew."""
        return lcm(*(1 if stage.together else len(stage.boards) for stage in self.stages))


@dataclass(frozen=True, eq=False)
class Loads:
    """Seconds per request, on average over the turns, for which boards compute and resources are occupied."""

    compute_s: np.ndarray  # array (n,)
    resource_s: np.ndarray  # array (R,)

    @cached_property
    def seconds(self) -> float:
        """The bottleneck: seconds between two requests when everything overlaps, at least (paper: beta)."""
        return float(max(self.compute_s.max(initial=0.0), self.resource_s.max(initial=0.0)))


def loads(instance: Instance, placement: Placement) -> Loads:
    """What a placement asks for.

    Raises PlacementError when it is no placement of the instance: units left out, a board twice, too little memory, too
    many turns.
    """
    for problem in problems(instance, placement):
        raise PlacementError(problem)
    compute, occupied = np.zeros(instance.boards), np.zeros(len(instance.resource_s))
    for stage in placement.stages:
        if stage.together:
            span = _team_span(instance, stage)
            compute[list(stage.boards)] += span.compute_s
        else:
            share = np.array([instance.compute_s[b, stage.begin, stage.end] for b in stage.boards])
            compute[list(stage.boards)] += share / len(stage.boards)
    for source, target, nbytes in messages(instance, placement):
        for number in instance.routes[source][target]:
            occupied[number] += nbytes * instance.resource_s[number]
    return Loads(compute, occupied)


def messages(instance: Instance, placement: Placement) -> Iterator[tuple[int, int, float]]:
    """(source, target, bytes per request on average) of everything that is sent between two boards."""
    stages, root = placement.stages, instance.root
    ends = (
        [PlacedStage(0, 0, (root,)), PlacedStage(instance.units, instance.units, (root,))] if root is not None else []
    )
    chain = [*ends[:1], *stages, *ends[1:]]
    for before, after in pairwise(chain):
        yield from _handed_over(instance, before, after)
    for stage in placement.stages:
        if stage.together:
            for (source, target), nbytes in _team_span(instance, stage).inner.items():
                yield stage.boards[source], stage.boards[target], float(nbytes)


def _handed_over(instance: Instance, before: PlacedStage, after: PlacedStage) -> Iterator[tuple[int, int, float]]:
    """What one stage sends the next at the cut between them; what a board has already is not sent."""
    entry = _team_span(instance, after).entry_bytes if after.together else None
    leaving = _team_span(instance, before).exit_bytes if before.together else None
    size = float(instance.crossing[before.end])
    for source, target, nbytes in parts(len(before.boards), len(after.boards), size, entry, leaving):
        if before.boards[source] != after.boards[target] and nbytes:
            yield before.boards[source], after.boards[target], nbytes


def parts(
    before: int, after: int, nbytes: float, entry: np.ndarray | None, leaving: np.ndarray | None
) -> Iterator[tuple[int, int, float]]:
    """What each board of a stage sends each board of the next: (index in one, index in the other, bytes per request).

    Parameters
    ----------
    before, after : int
        Boards of the two stages; replicas meet as their turns do.
    nbytes : float
        Bytes alive at the cut between them.
    entry, leaving : array, optional
        Bytes that each board of a team receives where its span begins, or holds where its span ends.
    """
    if entry is not None:
        yield from ((a, b, float(entry[b]) / before) for b in range(after) for a in range(before))
    elif leaving is not None:
        yield from ((a, b, float(leaving[a]) / after) for a in range(before) for b in range(after))
    else:
        period = lcm(before, after)
        yield from ((turn % before, turn % after, nbytes / period) for turn in range(period))


def problems(instance: Instance, placement: Placement) -> list[str]:
    """Why this is no placement of the instance, as sentences; empty when it is one."""
    stages, boards, sentences = placement.stages, placement.boards, []
    cuts = [0, *(stage.end for stage in stages)]
    if [stage.begin for stage in stages] != cuts[:-1] or cuts[-1] != instance.units:
        return [f"stages {[(s.begin, s.end) for s in stages]} do not follow each other from 0 to {instance.units}"]
    for stage in stages:
        if stage.begin >= stage.end or not stage.boards:
            return [
                f"stage {(stage.begin, stage.end)} of boards {stage.boards} must have units, and boards to run them"
            ]
    if len(set(boards)) != len(boards) or not all(0 <= board < instance.boards for board in boards):
        return [f"boards {boards} must be different ones of the {instance.boards}"]
    for stage in stages:
        sentences += _stage_problems(instance, stage)
    if any(a.together and b.together for a, b in pairwise(stages)):
        sentences.append("two teams follow each other directly")
    if placement.period > MOST_PERIOD:
        sentences.append(f"turns begin anew after {placement.period} requests, and at most {MOST_PERIOD} are allowed")
    if instance.most_boards is not None and len(boards) > instance.most_boards:
        sentences.append(f"{len(boards)} boards are more than the {instance.most_boards} allowed")
    return sentences


def _stage_problems(instance: Instance, stage: PlacedStage) -> list[str]:
    span = (stage.begin, stage.end)
    if stage.together:
        is_offered = (stage.boards, span) in instance.team_spans
        return [] if is_offered else [f"no team {stage.boards} is offered for units {span}"]
    sentences = [
        f"board {board} cannot run units {span}: they need {instance.need_bytes[span]:.0f} bytes of memory, and it has "
        f"{instance.capacity[board]:.0f}"
        for board in stage.boards
        if not instance.fits[board][span]
    ]
    if len(stage.boards) > instance.replicas:
        sentences.append(f"{len(stage.boards)} boards take turns, and at most {instance.replicas} are allowed")
    return sentences


def _team_span(instance: Instance, stage: PlacedStage) -> TeamSpan:
    return instance.team_spans[stage.boards, (stage.begin, stage.end)]
