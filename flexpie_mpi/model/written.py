"""What is written in the place of a node of a model: other nodes, and the constants that they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .walks import fresh


class InPlace:
    """Nodes that together do what one node of a graph does, in order.

    Their inputs are names of values or, where they are arrays, become constants of the graph; "" is an absent one.
    """

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto, taken: set[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._node, self._taken = graph, node, taken

    def add(self, op: str, *inputs: str | np.ndarray, output: str = "", **attributes: Any) -> str:
        """Write a node; the name of its output, which is a new one unless `output` is given."""
        written = output or fresh(f"{self._node.output[0]}/{op.lower()}", self._taken)
        name = fresh(f"{self._node.name}/{op.lower()}", self._taken)
        self.nodes.append(helper.make_node(op, self._named(inputs), [written], name, **attributes))
        return written

    def rewrite(self, inputs: Sequence[str | np.ndarray], outputs: Sequence[str], domain: str) -> None:
        """Write the node itself with other inputs and outputs, as an operator of another domain."""
        node = onnx.NodeProto()
        node.CopyFrom(self._node)
        node.domain, node.input[:], node.output[:] = domain, self._named(inputs), outputs
        self.nodes.append(node)

    def value(self, shape: Sequence[int]) -> str:
        """The name of a new value of float32 numbers."""
        name = fresh(f"{self._node.name}/value", self._taken)
        self._graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        return name

    def _named(self, inputs: Sequence[str | np.ndarray]) -> list[str]:
        return [each if isinstance(each, str) else self._constant(each) for each in inputs]

    def _constant(self, array: np.ndarray) -> str:
        name = fresh(f"{self._node.name}/constant", self._taken)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name
