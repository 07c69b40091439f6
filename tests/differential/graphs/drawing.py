"""A small graph from its inputs to its outputs."""

from __future__ import annotations

import numpy as np

from ..draft import NEWEST, OLDEST, Draft
from .growing import STEPS, Growth


def draw_graph(draft: Draft) -> tuple[str, list[str]]:
    """Three to fifteen nodes or so on whole numbers, which no order of summing changes; names of the outputs."""
    d = draft
    d.opset = d.between(11, NEWEST) if d.chance(0.8) else d.between(OLDEST, 10)
    growth = Growth(d)
    for shape in _inputs(d):
        growth.given(d.numbers.integers(-3, 4, shape).astype("float32" if d.chance(0.9) else "int64"))
    functions, weights = zip(*STEPS, strict=True)
    names: list[str] = []
    goal, tries = d.between(3, 15), 40
    while len(d.nodes) < goal and tries:
        tries -= 1
        chosen = d.rng.choices(functions, weights)[0]
        if growth.grow(chosen):
            names.append(chosen.__name__)
    if not d.nodes:
        raise ValueError("no step could be taken")
    return "+".join(names), _outputs(d)


def _inputs(d: Draft) -> list[tuple[int, ...]]:
    image = (d.pick(1, 1, 2), d.pick(2, 3, 4), d.between(4, 11), d.between(4, 11))
    matrix = (d.between(1, 3), d.between(2, 7), d.between(2, 7))
    flat = (d.between(1, 12),)
    found = [shape for shape, share in ((image, 0.75), (matrix, 0.5), (flat, 0.4)) if d.chance(share)] or [image]
    return [*found, found[0]] if d.chance(0.3) else found


def _outputs(d: Draft) -> list[str]:
    """What no node reads, some other values, and at times an input, a constant, or one listed twice."""
    made = [name for node in d.nodes for name in node.output if name]
    read = {name for node in d.nodes for name in node.input}
    found = [name for name in made if name not in read] or made[-1:]
    found += [name for name in made if name not in found and d.chance(0.15)]
    if d.chance(0.12):
        found.append(d.inputs[0][0])
    if d.initializers and d.chance(0.1):
        found.append(d.initializers[0][0])
    if d.chance(0.1):
        d.given(np.zeros((2, 3), np.float32), "unused")
    if d.chance(0.1):
        d.fixed(np.zeros((2, 3), np.float32), "unused")
    if d.chance(0.04):
        found.append(found[0])
    return found
