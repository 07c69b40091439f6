"""What is written in the place of a node of a model: other nodes, and the constants that they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .walks import fresh


class InPlace:
    """Nodes that together do what one node of a graph does, in order, with names that begin as its own or its value's.

    Inputs are names of values or, where they are arrays, become constants of the graph; "" is an absent one.
    """

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto, taken: set[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._node, self._taken = graph, node, taken

    def add(self, op: str, *inputs: str | np.ndarray, output: str = "", **attributes: Any) -> str:
        """Write a node; the name of its only output, which is a new one unless `output` is given."""
        return self.add_several(op, inputs, [output], **attributes)[0]

    def add_several(
        self, op: str, inputs: Sequence[str | np.ndarray], outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Write a node; the names of its outputs, new ones for those that are ""."""
        first = next(filter(None, self._node.output))
        writes = [name or fresh(f"{first}/{op.lower()}", self._taken) for name in outputs]
        name = fresh(f"{self._node.name}/{op.lower()}", self._taken)
        self.nodes.append(helper.make_node(op, [self._named(each) for each in inputs], writes, name, **attributes))
        return writes

    def _named(self, value: str | np.ndarray) -> str:
        if isinstance(value, str):
            return value
        name = fresh(f"{self._node.name}/constant", self._taken)
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
