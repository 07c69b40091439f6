"""A model as every rank has it: the graph, and a skeleton of the ONNX model without its large weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..core.errors import ModelError
from ..core.graph import Graph
from .convert import convert
from .read import stub_entries
from .tidy import taken_names
from .weights import WeightStore, digest_bytes, raw_bytes


@dataclass(frozen=True, eq=False)
class Model:
    """A graph and the ONNX messages it came from.

    Attributes
    ----------
    name : str
    graph : Graph
    proto : onnx.ModelProto
        The skeleton: pre-optimised, with static shapes in ``value_info``. Constants over 1 KiB are stubs: their
        ``data_location`` is EXTERNAL and their entry "digest" identifies the content.
    store : WeightStore or None
        The data of the stubs, on the rank that loaded the model.
    source : Path or None
        The file the model was loaded from, on that rank.
    """

    name: str
    graph: Graph
    proto: onnx.ModelProto
    store: WeightStore | None = None
    source: Path | None = None

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto, store: WeightStore | None = None, source: Path | None = None) -> Model:
        """The model that a skeleton describes."""
        return cls(proto.graph.name, convert(proto), proto, store, source)

    @classmethod
    def from_skeleton(cls, data: bytes) -> Model:
        """The model that another rank's :meth:`skeleton` describes: same graph, no weights."""
        return cls.from_proto(onnx.ModelProto.FromString(data))

    def skeleton(self) -> bytes:
        """What the other ranks need to know the model."""
        return self.proto.SerializeToString()

    def weight_digest(self, constant: str) -> str:
        """Content digest (blake2b, hex) of a constant's type, shape and bytes; known on every rank."""
        tensor = self._initializers[constant]
        if _is_stub(tensor):
            return stub_entries(tensor)["digest"]
        return digest_bytes(tensor.data_type, tensor.dims, raw_bytes(tensor))

    def array(self, constant: str) -> np.ndarray:
        """The elements of a constant.

        Raises
        ------
        ModelError
            The constant is a stub and this rank did not load the model, or its file cannot be read.
        """
        tensor = self._initializers[constant]
        if not _is_stub(tensor):
            return numpy_helper.to_array(tensor)
        if self.store is None:
            raise ModelError(f"The data of weight '{constant}' is only on the rank that loaded model '{self.name}'.")
        return self.store.read(constant)

    def tensor_proto(self, constant: str) -> onnx.TensorProto:
        """The message of a constant; without data when it is stored."""
        return self._initializers[constant]

    def is_stored(self, constant: str) -> bool:
        """Whether the data of a constant is in the store rather than in the skeleton."""
        return _is_stub(self._initializers[constant])

    def node_proto(self, name: str) -> onnx.NodeProto:
        """The message of a node of the graph."""
        return self.proto.graph.node[self.graph.position[name]]

    def type_proto(self, value: str) -> onnx.TypeProto:
        """The ONNX type of a computed value, with its shape where that is static."""
        return self._types[value]

    def element_type(self, value: str) -> int:
        """The element type of a tensor, computed or constant, as in ``onnx.TensorProto``."""
        if value in self._initializers:
            return self._initializers[value].data_type
        return self._types[value].tensor_type.elem_type

    @property
    def opset_imports(self) -> tuple[onnx.OperatorSetIdProto, ...]:
        return tuple(self.proto.opset_import)

    @property
    def ir_version(self) -> int:
        return self.proto.ir_version

    @cached_property
    def names(self) -> frozenset[str]:
        """Names that nodes and values have, in subgraphs as well, so that no other may be given them."""
        return frozenset(taken_names(self.proto))

    @cached_property
    def _initializers(self) -> Mapping[str, onnx.TensorProto]:
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    @cached_property
    def _types(self) -> Mapping[str, onnx.TypeProto]:
        graph = self.proto.graph
        return {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}


def _is_stub(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL
