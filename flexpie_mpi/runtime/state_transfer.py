"""The state of a job in one piece: read by the root, or written by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.graph import Graph
from ..core.program import Compute, Program
from ..lower.states import reading, writing
from .engine import Engine
from .executor import Executor
from .provider import Action
from .states import States
from .transport import on_root


def read_states(engine: Engine) -> dict[str, np.ndarray]:
    """What all ranks keep, on the root, by the inputs of the states; empty elsewhere. Called by all ranks together.

    Of what grows, the positions that hold something.
    """
    graph, states, plan = engine.model.graph, engine.states, engine.plan
    whole = _carried_out(engine, reading(graph, plan.ranks, states.homes, plan.root), {})
    return {name: np.array(array[_filled(states, name)]) for name, array in whole.items()}


def write_states(engine: Engine, given: Mapping[str, np.ndarray]) -> None:
    """Put what the root is given, by the inputs of the states, in the place of what all ranks keep; called by all.

    That is all that requests change, or what they do not change, or both. Raises DataError on every rank, when a state
    is missing, or one is of another shape or type, or unlike the others.
    """
    transport, graph, states, plan = engine.transport, engine.model.graph, engine.states, engine.plan
    whole, length = on_root(transport, lambda: _checked(graph, states, given), plan.root) or ({}, 0)
    names, length = transport.broadcast((tuple(whole), length), plan.root)
    homes = {name: states.homes[name] for name in names}
    _carried_out(engine, writing(graph, plan.ranks, homes, plan.root), whole)
    states.length = length


def _carried_out(engine: Engine, programs: Sequence[Program], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs of programs that compute nothing, on what an engine keeps."""
    engine.states.take(engine.model.graph, keep=0)
    executor = Executor(programs[engine.transport.rank], engine.transport, _none, states=engine.states)
    outputs = executor.run(inputs)
    executor.close()
    return outputs


def _none(step: Compute, values: Mapping[int, Any]) -> Action:
    raise AssertionError("nothing is computed")


def _filled(states: States, name: str) -> tuple[slice, ...]:
    axis = states.axes[name]
    return () if axis < 0 else (slice(None),) * axis + (slice(states.length),)


def _checked(graph: Graph, states: States, given: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
    """Arrays of states, with zeros where those that grow have nothing yet; and how much these have."""
    changing, wanted = given.keys() - states.fixed, states.axes.keys() - states.fixed
    unlike = sorted(changing ^ wanted) if changing or not given else ()
    if unlike:
        raise DataError(f"'{unlike[0]}' is no state, or is missing: give {', '.join(states.axes)}")
    lengths, whole = set[int](), {}
    for name, array in given.items():
        value, axis = graph.value(name), states.axes[name]
        whole[name] = np.zeros(value.shape or (), value.dtype)
        place = (*(slice(None),) * axis, slice(array.shape[axis])) if 0 <= axis < array.ndim else ()
        if whole[name][place].shape != array.shape or array.dtype != value.dtype:
            raise DataError(
                f"state '{name}' is of shape {array.shape} and type {array.dtype}: "
                f"the model takes {value.shape} {value.dtype}, or less along axis {axis}"
            )
        whole[name][place] = array
        lengths |= {array.shape[axis]} if axis >= 0 else set()
    if len(lengths) > 1:
        raise DataError(f"states have {' and '.join(map(str, sorted(lengths)))} positions: give as many of each")
    return whole, max(lengths, default=0 if changing else states.length)
