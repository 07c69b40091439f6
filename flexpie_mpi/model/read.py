"""A model file as a ModelProto whose large weights stay on disk, with the place of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..errors import ModelError
from .tidy import lift_constants
from .weights import ByteRange, StoredTensor, byte_length, digest_of
from .wire import WireError, slim

LARGE_BYTES = 64 << 10
"""Weights larger than this are not loaded with the model."""

_HASHERS = min(4, os.cpu_count() or 1)
_EXTERNAL = onnx.TensorProto.EXTERNAL


@dataclass(frozen=True)
class Source:
    """A model as read from a file.

    Attributes
    ----------
    proto : onnx.ModelProto
        Large initializers have no data, only the external data entries "digest" and "source".
    stored : dict of str to StoredTensor
        Where the bytes of those initializers are, by "source": their name in the file.
    """

    proto: onnx.ModelProto
    stored: dict[str, StoredTensor] = field(default_factory=dict)

    def large(self) -> dict[str, StoredTensor]:
        """The initializers without data and where their bytes are, by the name that they have now."""
        stubs = (tensor for tensor in self.proto.graph.initializer if tensor.data_location == _EXTERNAL)
        return {tensor.name: self.stored[stub_entries(tensor)["source"]] for tensor in stubs}


def read_source(path: Path, threshold: int = LARGE_BYTES) -> Source:
    """Read an .onnx file and find its weights, in the file itself or in external data files beside it.

    Parameters
    ----------
    path : Path
    threshold : int
        Initializers of more bytes than this are left on disk.

    Raises
    ------
    ModelError
        The file, or one of its external data files, is missing, too short, or no ONNX model.
    """
    proto = _parse(path, threshold)
    lift_constants(proto.graph)
    stored: dict[str, StoredTensor] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == _EXTERNAL:
            found = _locate(tensor, path)
            if found.place.length > threshold:
                stored[tensor.name] = found
            else:
                _embed(tensor, found)
    for tensor in _inner_tensors(proto):
        if tensor.data_location == _EXTERNAL:
            _embed(tensor, _locate(tensor, path))
    _stub_stored(proto.graph, stored)
    return Source(proto, stored)


def _stub_stored(graph: onnx.GraphProto, stored: Mapping[str, StoredTensor]) -> None:
    """Leave digests in place of tensors whose data stays on disk; hashing is the long part of a warm start."""
    with ThreadPoolExecutor(_HASHERS) as pool:
        digests = dict(zip(stored, pool.map(digest_of, stored.values()), strict=True))
    for tensor in graph.initializer:
        if tensor.name in digests:
            stub(tensor, digests[tensor.name], source=tensor.name)


def stub(tensor: onnx.TensorProto, digest: str, **entries: str) -> None:
    """Take the data out of a tensor and leave a digest of it, and other entries, in its place."""
    for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(name)  # type: ignore[arg-type]
    tensor.data_location = _EXTERNAL
    for key, value in {**entries, "digest": digest}.items():
        tensor.external_data.add(key=key, value=value)


def stub_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """The external data entries of a tensor."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _parse(path: Path, threshold: int) -> onnx.ModelProto:
    """The model in a file, its large tensors external to the parsed message."""
    try:
        if path.is_dir():
            raise ModelError(f"Model {path} is a directory: give the .onnx file inside it.")
        with path.open("rb") as file:
            data = slim(file, threshold)
        proto = onnx.ModelProto.FromString(data)
    except FileNotFoundError as error:
        raise ModelError(f"Model file {path} does not exist.") from error
    except OSError as error:
        raise ModelError(f"Model file {path} cannot be read: {error.strerror}.") from error
    except (WireError, DecodeError) as error:
        reason = str(error) if isinstance(error, WireError) else "its fields cannot be parsed"
        raise ModelError(f"Model file {path} is truncated or no ONNX model: {reason}.") from error
    if not data:
        raise ModelError(f"Model file {path} is empty.")
    if not proto.HasField("graph") or proto.ir_version < 1:
        raise ModelError(f"Model file {path} is no ONNX model: it has no graph or no IR version.")
    return proto


def _locate(tensor: onnx.TensorProto, model_path: Path) -> StoredTensor:
    """Where the bytes of an external tensor are; they must exist and be as many as its shape needs."""
    entries = stub_entries(tensor)
    where = f"weight '{tensor.name}' of {model_path}"
    need = byte_length(tensor.data_type, tensor.dims)
    if need is None:
        raise ModelError(f"External {where} has element type {tensor.data_type}, which has no raw bytes.")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", need))
    except ValueError as error:
        raise ModelError(f"External {where} has an offset or length that is no number.") from error
    path = _data_path(entries.get("location"), model_path, where)
    if length != need:
        raise ModelError(f"The {where} has {length} bytes, but its shape {list(tensor.dims)} needs {need}.")
    if offset < 0 or offset + length > path.stat().st_size:
        raise ModelError(
            f"The {where} is bytes {offset} to {offset + length} of {path}, which has only {path.stat().st_size}."
        )
    return StoredTensor(tensor.data_type, tuple(tensor.dims), ByteRange(path, offset, length))


def _data_path(location: str | None, model_path: Path, where: str) -> Path:
    """The file that an external data entry names; the model file itself when it names none."""
    if location is None:
        return model_path
    relative = PurePosixPath(location)
    if relative.is_absolute() or ".." in relative.parts:
        raise ModelError(f"The {where} is in '{location}': external data must be in or under the model's folder.")
    path = model_path.parent / relative
    if not path.is_file():
        raise ModelError(f"The {where} is in external data file {path}, which does not exist.")
    return path


def _embed(tensor: onnx.TensorProto, found: StoredTensor) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = found.place.read()


def _inner_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors in attributes, subgraphs and functions."""
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in nodes:
            yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from graph.initializer
            for inner in graph.node:
                yield from _node_tensors(inner)
