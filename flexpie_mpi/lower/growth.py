"""What a model must know of the growth of its states: which positions hold something, and which are the request's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..core.graph import Graph


def inputs_of(graph: Graph, length: int, keep: int | None = None) -> dict[str, np.ndarray]:
    """What the root makes of the growth of states for a request behind `length` positions; nothing where none grows.

    Of the request's own, only the first `keep` are real, all where that is None; the others are masked.
    """
    growth = graph.growth
    if growth is None:
        return {}
    value = graph.value(growth.mask)
    mask = np.zeros(value.shape or (), value.dtype)
    new = growth.most if mask.shape[-1] > growth.most else length
    mask[..., :length] = mask[..., new : new + (growth.step if keep is None else keep)] = 1
    made = {growth.mask: mask}
    if growth.places:
        value = graph.value(growth.places)
        places = np.arange(length, length + growth.step, dtype=value.dtype)
        made[growth.places] = np.ascontiguousarray(np.broadcast_to(places, value.shape or ()))
    return made


def told(graph: Graph, length: int) -> dict[str, np.ndarray]:
    """The same for a model without room, whose states are as long as what they hold."""
    growth = graph.growth
    if growth is None:
        return {}
    value = graph.value(growth.mask)
    mask = np.ones((*(value.shape or ())[:-1], length + growth.step), value.dtype)
    return {**inputs_of(graph, length), growth.mask: mask}


def writable(graph: Graph, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States as such a model takes them: behind what they hold room for the request's positions, if it writes there."""
    growth = graph.growth
    if growth is None or all(node.op != "TensorScatter" for node in graph.nodes):
        return dict(states)
    axes = {state.input: state.axis for state in graph.states}
    room = (
        (name, [(0, growth.step * (axis == axes[name])) for axis in range(array.ndim)])
        for name, array in states.items()
    )
    return {name: np.pad(states[name], widths) for name, widths in room}
