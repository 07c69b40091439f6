"""What a rank keeps from one request to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..core.errors import DataError, PlanError
from ..core.graph import Graph
from ..core.program import Kept, Program
from ..core.region import Region
from ..lower.growth import inputs_of
from ..lower.states import Homes, homes_in
from .moving import Held, copies, mover
from .provider import Action
from .transport import aligned


class States:
    """Memory of a rank for what it keeps of every state; zeros at first.

    Engines of one job may work on the same, as long as their requests follow each other.

    Attributes
    ----------
    homes : Homes
        What every rank keeps.
    arrays : dict of str to array
        What this rank keeps, by the input of the state.
    fixed : set of str
        States that no request changes.
    length : int
        Positions that hold something, of states that grow.
    """

    def __init__(self, programs: Sequence[Program], rank: int, graph: Graph) -> None:
        self.homes: Homes = homes_in(programs)
        self.arrays = {
            buffer.value: aligned(buffer.nbytes).view(buffer.dtype).reshape(buffer.region.shape)
            for buffer in programs[rank].buffers
            if buffer.is_state and buffer.region is not None
        }
        self.length = 0
        self.axes = {state.input: state.axis for state in graph.states}
        self.fixed = {state.input for state in graph.states if not state.output}
        self._changing = self.axes.keys() - self.fixed
        self._shapes = _shapes(graph)
        self._most = graph.growth.most if graph.growth else 0
        self._taken = 0
        self._told: Callable[[int], dict[str, np.ndarray]] = lambda length: {}

    def check_fits(self, graph: Graph) -> None:
        """Raise a PlanError unless a model has the same states as the one that these were made for."""
        if _shapes(graph) != self._shapes:
            raise PlanError("the state is another model's: names, shapes, types and maximum length must be the same")

    def reset(self, length: int = 0) -> None:
        """Forget everything that requests have left, or what is behind the first `length` positions.

        Raises DataError when there are not so many, or states that do not grow would have to know what they were.
        """
        if length and not (0 < length <= self.length and all(self.axes[name] >= 0 for name in self._changing)):
            raise DataError(f"the state has {self.length} positions: it cannot be taken back to {length}")
        for name in () if length else self._changing & self.arrays.keys():  # what is behind a length is masked
            self.arrays[name].fill(0)
        self.length = length

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Hold afterwards what they hold now, whatever is written into their memory in between."""
        length, held = self.length, {name: array.copy() for name, array in self.arrays.items()}
        try:
            yield
        finally:
            self.length = length
            for name, array in held.items():
                np.copyto(self.arrays[name], array)

    def take(self, graph: Graph, keep: int | None = None) -> None:
        """Be ready for requests of a graph that leave so many positions; all of their own when not given."""
        self._taken = _step(graph) if keep is None else keep
        self._told = partial(inputs_of, graph, keep=keep)

    def told(self) -> dict[str, np.ndarray]:
        """What the next such request is to know of the growth of states."""
        return self._told(self.length)

    def check_room(self, graph: Graph, keep: int | None = None) -> None:
        """Raise a DataError unless such a request can leave so many positions."""
        step = _step(graph)
        keep = step if keep is None else keep
        if not 0 <= keep <= step or self.length + keep > self._most:
            raise DataError(
                f"{keep} of {step} positions are to be kept behind {self.length} others, and there is room for "
                f"{self._most}: reset the state, or load the model with a larger maximum length"
            )

    def make_room(self, graph: Graph) -> None:
        """Begin anew where there is no room for one more request: of those that are only tried."""
        if self.length + _step(graph) > self._most:
            self.length = 0

    def keeping(self, program: Program, values: Mapping[int, Any]) -> Action:
        """An action that puts away what a request leaves, once all its steps are done."""
        whole = [move for kept in program.kept if kept.axis < 0 for move in copies(*_sides(program, values, kept))]
        replacing = mover(whole, "what is kept")
        growing = [_Growing(program, values, kept, self._most) for kept in program.kept if kept.axis >= 0]

        def keep() -> None:
            replacing()
            for each in growing:
                each.put(self.length, self._taken)
            self.length += self._taken

        return keep


def _step(graph: Graph) -> int:
    """Positions of a request."""
    return graph.growth.step if graph.growth else 0


def _shapes(graph: Graph) -> dict[str, tuple[object, ...]]:
    """What states are, by their inputs."""
    values = ((state, graph.value(state.input)) for state in graph.states)
    return {value.name: (value.shape, value.dtype, state.axis) for state, value in values}


class _Growing:
    """New positions of a state on their way from where a request leaves them to where they stay.

    An output with all positions has the new ones at their places, any other has nothing else.
    """

    def __init__(self, program: Program, values: Mapping[int, Any], kept: Kept, most: int) -> None:
        region, target, source = _sides(program, values, kept)
        self._new, self._held = source.rows(region), target.memory
        self._axes = (slice(None),) * kept.axis
        self._room = target.region.bounds[kept.axis]
        self._has_all = region.shape[kept.axis] == most

    def put(self, length: int, count: int) -> None:
        """Copy those of the first `count` new ones that this rank keeps, behind `length` others."""
        first = 0 if self._has_all else length
        lo, hi = max(self._room[0], length), min(self._room[1], length + count)
        if lo < hi:
            new = self._new[(*self._axes, slice(lo - first, hi - first))]
            np.copyto(self._held[(*self._axes, slice(lo - self._room[0], hi - self._room[0]))], new)


def _sides(program: Program, values: Mapping[int, Any], kept: Kept) -> tuple[Region, Held, Held]:
    """What is kept, where it goes, and where it is."""
    target, source = (Held.of(program.buffers[index], values[index]) for index in (kept.target, kept.source))
    return kept.region, target, source
