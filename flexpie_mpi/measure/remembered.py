"""What one session of a model's file is given of earlier requests: all of it, request after request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..lower.growth import told, writable
from ..model import Model


class Remembered:
    """The states of a model as its file has them: those that grow are as long as what they hold.

    Requests leave all their positions. A model without states has nothing to remember.
    """

    def __init__(self, model: Model) -> None:
        self._graph, self._outputs = model.graph, model.state_outputs
        self._length = 0
        self._held: dict[str, Any] = {}
        for state in self._graph.states:
            value = self._graph.value(state.input)
            shape = (0 if axis == state.axis else size for axis, size in enumerate(value.shape or ()))
            self._held[state.input] = np.zeros(tuple(shape), value.dtype)

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the file takes for the next request."""
        return {**inputs, **writable(self._graph, self._held), **told(self._graph, self._length)}

    def keep(self, outputs: Mapping[str, Any]) -> None:
        """Take what the file has made of it."""
        self._held = {name: outputs[own] for name, own in self._outputs.items()}
        growth = self._graph.growth
        self._length += growth.step if growth else 0
