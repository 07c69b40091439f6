"""Why nothing fits, with the numbers, and what would."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from ..problem import RESERVE_BYTES
from .instance import Problem, capacities, root_slots
from .memory import SLOTS, mb

STEPS = 30
"""Halvings of the range in which the least memory is that would do."""


def hopeless(problem: Problem, solver: str, is_proved: bool) -> str:
    """Why there is no placement, in a sentence: what needs most, what there is, and what would do."""
    testbed, graph = problem.testbed, problem.graph
    free = np.maximum(capacities(testbed) - RESERVE_BYTES, 0).sum()
    verdict = "does not fit" if is_proved else f"was not made to fit, by '{solver}', which is no proof,"
    return (
        f"{graph.name} {verdict} the boards of testbed '{testbed.name}' ({_sizes(problem)}): {_reason(problem)}; its "
        f"weights are {mb(graph.weight_bytes)}, and the boards have {mb(free)} beside a process of {mb(RESERVE_BYTES)} "
        f"on each: take boards of {mb(enough(problem))} each, or more of them"
    )


def enough(problem: Problem) -> float:
    """Bytes of memory with which as many equal boards would do, each by itself: stage after stage."""
    need = problem.solo.root_bytes(root_slots(SLOTS, problem.testbed.ranks))
    low, high = float(need.diagonal(1).max()), float(need[0, -1])
    low, high = min(low, high), max(low, high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _boards(need, middle) <= problem.testbed.ranks else (middle, high)
    return high


def _boards(need: np.ndarray, limit: float) -> float:
    """Boards of so much memory that it takes; infinite when no number would do."""
    least = np.full(len(need), np.inf)
    least[0] = 0
    for end in range(1, len(need)):
        able = need[:end, end] <= limit
        least[end] = (least[:end][able] + 1).min(initial=np.inf)
    return float(least[-1])


def _reason(problem: Problem) -> str:
    """What alone is too much, where something is; else that the whole is."""
    capacity = capacities(problem.testbed)
    root = problem.testbed.devices[problem.root]
    idle = problem.solo.idle_root_bytes(1)
    if idle > capacity[problem.root]:
        return f"a process with the inputs and outputs of one request alone takes {mb(idle)} on the root '{root.name}'"
    need = problem.solo.need_bytes(1)
    heaviest = int(np.argmax(problem.solo.weight_bytes.diagonal(1)))
    most, weights = need[heaviest, heaviest + 1], problem.solo.weight_bytes[heaviest, heaviest + 1]
    if most > capacity.max():
        return f"'{_name(problem, heaviest)}' alone needs {mb(most)} on one board, {mb(weights)} of them weights"
    return f"every part fits a board, the heaviest with {mb(most)}, but all of them together do not"


def _name(problem: Problem, unit: int) -> str:
    """The node of a unit that has the most weights."""
    graph, ends = problem.graph, problem.units.ends
    weights = {
        node.name: sum(graph.value(name).nbytes for name in node.reads if graph.value(name).is_constant)
        for node in graph.nodes[ends[unit] : ends[unit + 1]]
    }
    return max(weights, key=lambda name: weights[name])


def _sizes(problem: Problem) -> str:
    """Memory of the boards, in order: "3 x 268 MB, 1 x 1074 MB"."""
    runs = [(size, len(list(run))) for size, run in groupby(capacities(problem.testbed).tolist())]
    return ", ".join(f"{count} x {mb(size)}" for size, count in runs)
