"""A graph that grows: what its values are so far, and the table of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from ..draft import Draft
from ..plain import run_plain


class Growth:
    """A draft with the values that plain onnxruntime gives, so that every step knows what it works on."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.values: dict[str, Any] = {}

    def given(self, array: np.ndarray, name: str = "x") -> str:
        name = self.draft.given(array, name)
        self.values[name] = array
        return name

    def pick(self, accepts: Callable[[np.ndarray], bool]) -> str:
        """One of the tensors that `accepts`, later ones rather than early ones; an IndexError when there is none."""
        fitting = [name for name, value in self.values.items() if isinstance(value, np.ndarray) and accepts(value)]
        return self.draft.rng.choice(fitting[-3:] if self.draft.chance(0.6) else fitting)

    def kind(self, kind: type) -> str:
        """One of the values that are a `kind`, such as a list for a sequence."""
        return self.draft.rng.choice([name for name, value in self.values.items() if isinstance(value, kind)])

    def grow(self, step: Callable[[Growth], Any]) -> bool:
        """Take a step; what plain onnxruntime does not run is taken back."""
        draft = self.draft
        before = len(draft.nodes), len(draft.inputs), len(draft.initializers), len(draft.functions)
        domains, values = dict(draft.domains), dict(self.values)
        try:
            step(self)
            if self._runs(before[0]):
                return True
        except (IndexError, ValueError, KeyError, defs.SchemaError):
            pass
        for items, length in zip((draft.nodes, draft.inputs, draft.initializers, draft.functions), before, strict=True):
            del items[length:]
        draft.domains, self.values = domains, values
        return False

    def _runs(self, first: int) -> bool:
        """Whether the new nodes run; their values, small ones only, are then known."""
        names = [name for node in self.draft.nodes[first:] for name in node.output if name]
        if not names:
            return True
        state = self.draft.rng.getstate()
        model = self.draft.model([onnx.ValueInfoProto(name=name) for name in names])
        self.draft.rng.setstate(state)
        found = run_plain(model, dict(self.draft.inputs), names)
        if found is None or any(isinstance(item, np.ndarray) and item.size > 20_000 for item in found):
            return False
        self.values |= dict(zip(names, found, strict=True))
        return True

    def inner(self, build: Callable[[], list[str]], inputs: list[onnx.ValueInfoProto] = []) -> onnx.GraphProto:  # noqa: B006
        """The graph of a branch or a body: what `build` adds, with the outputs it returns."""
        draft, outer = self.draft, (self.draft.nodes, self.draft.initializers)
        draft.nodes, draft.initializers = [], []
        try:
            outputs = build()
            tensors = [numpy_helper.from_array(array, name) for name, array in draft.initializers]
            declared = [onnx.ValueInfoProto(name=name) for name in outputs]
            return helper.make_graph(draft.nodes, draft.pick("g", "body", "n0"), inputs, declared, tensors)
        finally:
            draft.nodes, draft.initializers = outer


def is_image(array: np.ndarray) -> bool:
    return array.dtype == np.float32 and array.ndim == 4 and 0 not in array.shape


def is_float(array: np.ndarray) -> bool:
    return array.dtype == np.float32


def is_exact(array: np.ndarray) -> bool:
    """Whether a rounding error anywhere would not change it: integers, in whatever type."""
    if array.dtype.kind in "iub":
        return True
    return array.dtype == np.float32 and bool(np.all(array == np.rint(array)) and np.all(np.abs(array) < 1e6))


Step = Callable[[Growth], Any]
STEPS: list[tuple[Step, float]] = []


def step(weight: float = 1.0) -> Callable[[Step], Step]:
    """Decorator: the function is a step that graphs may take."""

    def add(function: Step) -> Step:
        STEPS.append((function, weight))
        return function

    return add
