"""Tensors whose bytes are in a file: found there, inside the model's own folder, and read into messages where small.

A model of a stranger names files: absolute ones, ones above its folder, symbolic links to either, pipes. Only a regular
file in or under the folder of the model is ever opened, with all links followed. Where the model's own name is a link,
as in the caches of model hubs, the folder that it leads to counts as well.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path, PurePosixPath

import onnx

from ..core.budget import Budget
from ..core.document import shown
from ..core.errors import ModelError
from .strip_weights import MARK_ENTRIES
from .weights import EXTERNAL, StoredTensor, byte_length, check_shape

_NUMBER = re.compile(r"[0-9]{1,20}")
"""What onnxruntime takes for an offset or a length."""


class ExternalData:
    """Where the data of a model's tensors are; what is read into the message may take `budget`, all together.

    `mark` is the location of what `strip_weights` has left in the model's own file; nobody else may know it.
    """

    def __init__(self, model_path: Path, budget: Budget, mark: str) -> None:
        self._model_path, self._budget, self._mark = model_path, budget, mark
        own = Path(os.path.realpath(model_path))
        is_named = own.exists()  # what came through a pipe has no name, and no folder
        self._own = own if is_named else model_path
        self._folders = {os.path.realpath(model_path.parent), *([str(own.parent)] if is_named else ())}
        self._embedded = 0

    def locate(self, tensor: onnx.TensorProto) -> StoredTensor:
        """Where the bytes of an external tensor are.

        Raises ModelError when they do not exist, are not as many as its shape needs, or are not the model's own.
        """
        where = f"weight '{tensor.name}'"
        entries = self._entries(tensor, where)
        check_shape(tensor.dims, f"The {where}")
        need = byte_length(tensor.data_type, tensor.dims)
        if need is None:
            raise ModelError(f"External {where} has element type {tensor.data_type}, which has no raw bytes.")
        if not all(isinstance(text, str) for text in entries.values()):  # protobuf gives bytes where they are no text
            raise ModelError(f"The {where} is external data whose entries are no text (UTF-8).")
        offset, length = (_number(entries.get(key, "0"), key, where) for key in ("offset", "length"))
        length = length or need  # as onnxruntime takes it
        path, size = self._file(entries.get("location", ""), where)
        if length != need:
            raise ModelError(f"The {where} has {length} bytes, but its shape {list(tensor.dims)} needs {need}.")
        if offset + length > size:
            raise ModelError(f"The {where} is bytes {offset} to {offset + length} of {path}, which has only {size}.")
        return StoredTensor(tensor.data_type, tuple(tensor.dims), path, offset, length)

    def embed(self, tensor: onnx.TensorProto, most_bytes: float = inf) -> StoredTensor | None:
        """Read the data of a tensor into its message, if they are elsewhere and not more than `most_bytes`.

        Returns where the data of a larger tensor are. Raises ModelError as :meth:`locate` does, or when this and what
        was read before take more than the budget.
        """
        if tensor.data_location != EXTERNAL:
            return None
        stored = self.locate(tensor)
        if stored.length > most_bytes:
            return stored
        self._embedded += stored.length
        self._budget.admit(self._embedded, "What it has in other files", ModelError)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = stored.read_bytes()
        return None

    def _entries(self, tensor: onnx.TensorProto, where: str) -> dict[str, str]:
        """The external data entries of a tensor, empty ones left out, which are all ours or all the model's."""
        entries = {entry.key: entry.value for entry in tensor.external_data if entry.value}
        is_ours = any(entry.value == self._mark for entry in tensor.external_data)
        if is_ours and len(tensor.external_data) != MARK_ENTRIES:
            raise ModelError(f"The {where} has its data at more than one place: save the model again.")
        return entries

    def _file(self, location: str, where: str) -> tuple[Path, int]:
        """The file that an external data entry names, links followed, and its size."""
        is_own = location == self._mark
        if os.path.basename(location) in ("", "."):
            what = f"location {shown(location)}, which names no file" if location else "no location"
            raise ModelError(f"The {where} is external data with {what}: save the model again.")
        named = PurePosixPath(location)
        outside = f"The {where} is in '{location}': external data must be in or under the model's folder"
        if named.is_absolute() or ".." in named.parts:
            raise ModelError(f"{outside}.")
        try:
            path = self._own if is_own else Path(os.path.realpath(self._model_path.parent / named))
            if not any(path.is_relative_to(folder) for folder in self._folders):
                raise ModelError(f"{outside}, and a link leads out of it.")
            status = path.stat()
        except FileNotFoundError as error:
            missing = self._model_path.parent / named
            raise ModelError(f"The {where} is in external data file {missing}, which does not exist.") from error
        except (OSError, ValueError) as error:  # a name too long, or with a byte 0
            reason = getattr(error, "strerror", None) or str(error)
            raise ModelError(f"The {where} is in an external data file that cannot be opened: {reason}.") from error
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"The {where} is in {self._model_path.parent / named}, which is no regular file.")
        return path, status.st_size


def _number(text: str, key: str, where: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ModelError(f"The {where} is external data with {key} {shown(text)}, which is no number.")
    return int(text)


def sparse_parts(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Values and indices of the sparse tensors that become initializers of a graph."""
    yield from _of_sparse(graph.sparse_initializer)
    for node in graph.node:
        yield from _of_sparse(item.sparse_tensor for item in node.attribute if item.HasField("sparse_tensor"))


def inner_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors everywhere but among the initializers of the main graph: in attributes, subgraphs and functions."""
    nodes = [*proto.graph.node, *(node for item in proto.functions for node in item.node)]
    defaults = (attribute for item in proto.functions for attribute in item.attribute_proto)
    for attribute in (*defaults, *(attribute for node in nodes for attribute in node.attribute)):
        yield from _of_attribute(attribute)


def _of_attribute(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    yield from _of_sparse(attribute.sparse_tensors)
    if attribute.HasField("sparse_tensor"):
        yield from _of_sparse([attribute.sparse_tensor])
    for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
        yield from graph.initializer
        yield from _of_sparse(graph.sparse_initializer)
        for node in graph.node:
            for inner in node.attribute:
                yield from _of_attribute(inner)


def _of_sparse(tensors: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for sparse in tensors:
        yield from (sparse.values, sparse.indices)
