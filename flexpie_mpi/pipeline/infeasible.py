"""Why nothing fits, with the numbers, and what would."""

from __future__ import annotations

from itertools import groupby
from math import ceil

import numpy as np

from ..lower.memory import PROCESS_BYTES, mb
from .problem import PlacementProblem, capacities

STEPS = 30
"""Halvings of the range in which the least memory is that would do."""

MB = 10**6
"""What advice is rounded up to."""


def infeasible(problem: PlacementProblem, solver: str, is_proved: bool) -> str:
    """Why there is no placement, in a sentence: what needs most, what there is, and what would do."""
    testbed, graph = problem.testbed, problem.graph
    free = np.maximum(capacities(testbed) - PROCESS_BYTES, 0).sum()
    verdict = "does not fit" if is_proved else f"was not made to fit, by '{solver}', which is no proof,"
    return (
        f"{graph.name} {verdict} the boards of testbed '{testbed.name}' ({_sizes(problem)}): {_reason(problem)}; its "
        f"weights are {mb(graph.weight_bytes)}, and the boards have {mb(free)} beside a process of {mb(PROCESS_BYTES)} "
        f"on each: take boards of {mb(enough(problem))} each, or more of them"
    )


def enough(problem: PlacementProblem) -> float:
    """Bytes of memory with which as many equal boards would do, one request at a time, each by itself: in stages."""
    root, others = problem.single_device.root_bytes(1), problem.single_device.need_bytes(1)
    allowed = np.isfinite(np.delete(problem.single_device.compute_s, problem.root, axis=0)).all(axis=0)
    others = np.where(allowed, others, np.inf)
    low, high = problem.single_device.idle_root_bytes(1), float(root[0, -1])
    for _ in range(STEPS):
        middle = (low + high) / 2
        able = _others(root, others, middle) <= problem.testbed.ranks - 1
        low, high = (low, middle) if able else (middle, high)
    return ceil(high / MB) * MB


def _others(root: np.ndarray, others: np.ndarray, limit: float) -> float:
    """Boards of so much memory that it takes beside the root; infinite when no number would do.

    Up to each cut, once with a stage on the root and once without one yet.
    """
    with_root, without = np.full((2, len(root)), np.inf)
    without[0] = 0
    for end in range(1, len(root)):
        able, own = others[:end, end] <= limit, root[:end, end] <= limit
        without[end] = (without[:end][able] + 1).min(initial=np.inf)
        with_root[end] = min((with_root[:end][able] + 1).min(initial=np.inf), without[:end][own].min(initial=np.inf))
    return float(min(with_root[-1], without[-1]))


def _reason(problem: PlacementProblem) -> str:
    """What alone is too much, where something is; else that the whole is."""
    capacity = capacities(problem.testbed)
    root = problem.testbed.devices[problem.root]
    idle = problem.single_device.idle_root_bytes(1)
    if idle > capacity[problem.root]:
        return f"a process with the inputs and outputs of one request alone takes {mb(idle)} on the root '{root.name}'"
    need = problem.single_device.need_bytes(1)
    heaviest = int(np.argmax(problem.single_device.weight_bytes.diagonal(1)))
    most, weights = need[heaviest, heaviest + 1], problem.single_device.weight_bytes[heaviest, heaviest + 1]
    if most > capacity.max():
        return f"'{_name(problem, heaviest)}' alone needs {mb(most)} on one board, {mb(weights)} of them weights"
    return f"every part fits a board, the heaviest with {mb(most)}, but all of them together do not"


def _name(problem: PlacementProblem, unit: int) -> str:
    """The node of a unit that has the most weights."""
    graph, ends = problem.graph, problem.units.ends
    weights = {
        node.name: sum(graph.value(name).nbytes for name in node.reads if graph.value(name).is_constant)
        for node in graph.nodes[ends[unit] : ends[unit + 1]]
    }
    return max(weights, key=lambda name: weights[name])


def _sizes(problem: PlacementProblem) -> str:
    """Memory of the boards, in order: "3 x 268 MB, 1 x 1074 MB"."""
    runs = [(size, len(list(run))) for size, run in groupby(capacities(problem.testbed).tolist())]
    return ", ".join(f"{count} x {mb(size)}" for size, count in runs)
