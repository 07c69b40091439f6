"""Whether a model that has room for positions to come computes what its file does without that room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError
from ..core.graph import Graph
from ..files.synthetic import random_inputs
from ..lower.growth import inputs_of, told, writable
from .counted import take_positions
from .equality import compare
from .model import Model
from .outputs import picked
from .read import read_source
from .session import Level, RunError, Session, create, options_of, with_weights
from .trial import RUN_S

_HELD = 3
"""Positions that are there before, in the comparison."""

_TOLERANCE, _OF_HALVES = 1e-3, 2e-2
"""Of results that differ in how much is summed; a position that is wrong, or is not masked, changes far more."""


def check_growth(model: Model) -> None:
    """Run the file of a model with a few positions, and with as many among all that there is room for.

    Raises ModelError when the results differ: the model counts what it holds, whether or not it is masked. Also when it
    does not run both ways.
    """
    graph, growth = model.graph, model.graph.growth
    assert growth is not None and model.source is not None, "of a model that grows, on the rank that has loaded it"
    file = create(model.source, options_of(Level.ORT_ENABLE_ALL))
    held = min(_HELD, growth.most)
    inputs, states = random_inputs(graph, seed=1), _random_states(graph, held)
    try:
        alone = _run(file, model, held, {**inputs, **writable(graph, states), **told(graph, held)})
        session = _told(model, model.source) if {growth.places} - {"", *file.inputs()} else file
        roomy = _run(session, model, held, {**inputs, **_with_room(graph, states), **inputs_of(graph, held)})
    except RunError as error:
        raise ModelError(f"It cannot be run with {held} positions and with room for {growth.most}: {error}") from error
    are_half = any(graph.value(state.input).dtype == "float16" for state in graph.states)
    for name in alone:
        check = compare(name, roomy[name], alone[name], tolerance=_OF_HALVES if are_half else _TOLERANCE)
        if check.problem:
            raise ModelError(
                f"With room for {growth.most} positions, {held} of which are taken, the model does not compute what "
                f"it does with {held} ('{name}' {check.problem}): it counts positions instead of taking them from "
                f"{' and '.join(filter(None, (growth.mask, growth.places)))}. Run it without --max-length."
            )


def _told(model: Model, file: Path) -> Session:
    """A session of the file that is told positions."""
    growth, source = model.graph.growth, read_source(file)
    assert growth is not None, "of a model that grows"
    take_positions(source.proto, {state.input for state in model.graph.states if state.axis >= 0}, growth.step)
    proto, arrays = with_weights(source, ())
    return create(proto, options_of(Level.ORT_ENABLE_ALL), arrays)


def _random_states(graph: Graph, held: int) -> dict[str, np.ndarray]:
    """Something for each state, with so many positions of those that grow."""
    generator, made = np.random.default_rng(2), {}
    for state in graph.states:
        value = graph.value(state.input)
        shape = list(value.shape or ())
        if state.axis >= 0:
            shape[state.axis] = held
        made[state.input] = generator.standard_normal(shape).astype(value.dtype)
    return made


def _with_room(graph: Graph, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same states among zeros, as they are in memory."""
    roomy = {}
    for state in graph.states:
        value, array = graph.value(state.input), states[state.input]
        roomy[state.input] = np.zeros(value.shape or (), value.dtype)
        roomy[state.input][tuple(slice(size) for size in array.shape)] = array
    return roomy


def _run(session: Session, model: Model, held: int, feeds: dict[str, Any]) -> dict[str, Any]:
    """Outputs of a request behind so many positions, and what it leaves of states."""
    graph, growth = model.graph, model.graph.growth
    assert growth is not None, "of a model that grows"
    outputs = session.run(feeds, RUN_S)
    results = picked(graph.outputs, outputs)
    for state in graph.changing:
        output = outputs[model.state_outputs[state.input]]
        if state.axis >= 0:
            first = held if output.shape[state.axis] == growth.most else output.shape[state.axis] - growth.step
            output = np.moveaxis(output, state.axis, 0)[first : first + growth.step]
        results[state.input] = output
    return results
