"""GRU, LSTM and RNN: cut along the batch and the directions; one step by hidden units."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.ops.base import OWN

from .harness import check_rule, random_inputs, session
from .numbers import weights
from .onenode import NEWEST, one_node

STEPS, BATCH, FEATURES, HIDDEN = 4, 5, 3, 6
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
PAIR = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "RNN": ["Tanh"]}
OTHER = {"GRU": ["HardSigmoid", "Softsign"], "LSTM": ["HardSigmoid", "Relu", "Softsign"], "RNN": ["Relu"]}


def operands(op, directions, *, bias=True, lengths=False, states=True, peepholes=False):
    gates = GATES[op] * HIDDEN
    result = [
        (STEPS, BATCH, FEATURES),
        weights(directions, gates, FEATURES),
        weights(directions, gates, HIDDEN, seed=1),
        weights(directions, 2 * gates, seed=2) if bias else None,
        ((BATCH,), "int32") if lengths else None,
        (directions, BATCH, HIDDEN) if states else None,
    ]
    if op == "LSTM":
        result += [(directions, BATCH, HIDDEN) if states else None]
        result += [weights(directions, 3 * HIDDEN, seed=3) if peepholes else None]
    return result


def made(op, directions, direction, opset=NEWEST, activations=None, **terms):
    outputs = 3 if op == "LSTM" else 2
    extra = {"activations": activations} if activations else {}
    inputs = operands(op, directions, **terms)
    return one_node(op, inputs, opset=opset, outputs=outputs, hidden_size=HIDDEN, direction=direction, **extra)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("opset", [7, 14, NEWEST])
@pytest.mark.parametrize("states", [True, False])
def test_batch_and_directions(op, direction, opset, states):
    proto = made(op, 2 if direction == "bidirectional" else 1, direction, opset, states=states, bias=states)
    check_rule(proto, cut=({1, 2}, {0, 1}, {0, 1})[: 3 if op == "LSTM" else 2], trials=15)


@pytest.mark.parametrize("op", GATES)
def test_activations_of_each_direction(op):
    check_rule(made(op, 2, "bidirectional", activations=PAIR[op] + OTHER[op]), trials=15)


@pytest.mark.parametrize("op", GATES)
def test_lengths_of_sequences(op, rng):
    proto = made(op, 2, "bidirectional", lengths=True)
    feeds = {
        "x0": rng.standard_normal((STEPS, BATCH, FEATURES)).astype(np.float32),
        "x4": np.array([4, 2, 3, 1, 4], np.int32),
        "x5": rng.standard_normal((2, BATCH, HIDDEN)).astype(np.float32),
        "x6": rng.standard_normal((2, BATCH, HIDDEN)).astype(np.float32),
    }
    feeds = {item.name: feeds[item.name] for item in proto.graph.input}
    check_rule(proto, feeds=feeds, trials=15)


def test_peepholes():
    check_rule(made("LSTM", 2, "bidirectional", peepholes=True), trials=15)


def test_directions_whose_activations_share_a_list_of_parameters_stay_together():
    proto = one_node(
        "RNN",
        operands("RNN", 2),
        outputs=2,
        hidden_size=HIDDEN,
        direction="bidirectional",
        activations=["Tanh", "LeakyRelu"],
        activation_alpha=[0.3],
    )
    check_rule(proto, cut=({2}, {1}))


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
@pytest.mark.parametrize("opset", [11, NEWEST])
@pytest.mark.parametrize("bias", [True, False])
def test_one_step_by_hidden_units(op, opset, bias, rng):
    data, *constants, _, hidden = operands(op, 1, bias=bias)[:6]
    states, gates = [hidden] * (2 if op == "LSTM" else 1), GATES[op]
    plain = [(1, *data[1:]), *constants, None, *states]
    apart = [(1, gates, HIDDEN, FEATURES), (1, gates, HIDDEN, HIDDEN), (1, 2, gates, HIDDEN)]
    pieces = [array if array is None else array.reshape(shape) for array, shape in zip(constants, apart, strict=True)]
    extra = {"hidden_size": HIDDEN} | ({"linear_before_reset": 1} if op == "GRU" else {})
    reference = one_node(op, plain, opset=opset, outputs=1 + len(states), **extra)
    proto = one_node(op, [plain[0], *pieces, None, *states], opset=opset, outputs=len(states), domain=OWN, **extra)
    feeds = random_inputs(reference, rng)
    _, *results = session(reference).run(None, feeds)
    expected = {f"y{number}": result for number, result in enumerate(results)}
    check_rule(proto, cut=({1, 2},) * len(states), feeds=feeds, expected=expected, trials=15)
