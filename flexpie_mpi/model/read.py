"""A model file as a ModelProto whose large weights stay on disk, with the place of each."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..core.budget import Budget
from ..core.errors import ModelError
from .canonicalise import lift_constants
from .external import EXTERNAL, ExternalData, inner_tensors, sparse_parts
from .strip_weights import WireError, strip_weights
from .walks import subgraphs
from .weights import StoredTensor, check_shape, digest_of

LARGE_BYTES = 64 << 10
"""Weights larger than this are not loaded with the model."""

_HASHERS = min(4, os.cpu_count() or 1)
_MOST_PARSED = (1 << 31) - 1
"""Bytes that protobuf can parse."""
_MOST_TIMES = 16
"""The weights may be so many times the bytes of the files that they are in: some share them."""

MOST_NODES = 200_000
"""The largest models in use have a tenth of it."""

_Key = tuple[str, str, str]


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
        stubs = (tensor for tensor in self.proto.graph.initializer if tensor.data_location == EXTERNAL)
        return {tensor.name: self.stored[stub_entries(tensor)["source"]] for tensor in stubs}


def read_source(path: Path, threshold: int = LARGE_BYTES, budget: Budget | None = None) -> Source:
    """Read an .onnx file and find its weights, in the file itself or in external data files beside it.

    Parameters
    ----------
    path : Path
    threshold : int
        Initializers of more bytes than this are left on disk.
    budget : Budget, optional
        What the model may take in memory without them; that of this machine when not given.

    Raises
    ------
    ModelError
        The file, or one of its external data files, is missing, too short, no ONNX model, or not the model's own.
    """
    budget = budget or Budget.of_machine()
    mark = secrets.token_hex(16)
    proto = _parse(path, threshold, mark, budget)
    try:
        check_names(proto)
        check_counts(proto)
        stored = _settled(proto, ExternalData(path, budget, mark), threshold, budget)
        _stub_stored(proto.graph, stored)
    except ModelError as error:
        raise ModelError(f"Model {path} cannot be used: {error}") from error
    return Source(proto, stored)


def _settled(proto: onnx.ModelProto, data: ExternalData, threshold: int, budget: Budget) -> dict[str, StoredTensor]:
    """Bring all data but large initializers' into the message, and say where those are."""
    for tensor in sparse_parts(proto.graph):
        data.embed(tensor)
    lift_constants(proto.graph, budget)
    stored: dict[str, StoredTensor] = {}
    for tensor in proto.graph.initializer:
        check_shape(tensor.dims, f"Weight '{tensor.name}'")
        if tensor.data_location == EXTERNAL and (found := data.keep_or_embed(tensor, threshold)):
            stored[tensor.name] = found
    for tensor in inner_tensors(proto):
        data.embed(tensor)
    return stored


def _stub_stored(graph: onnx.GraphProto, stored: Mapping[str, StoredTensor]) -> None:
    """Leave digests in place of tensors whose data stays on disk; hashing is the long part of a warm start."""
    different = dict.fromkeys(stored.values())
    _check_overlap(different)
    with ThreadPoolExecutor(_HASHERS) as pool:
        digests = dict(zip(different, pool.map(digest_of, different), strict=True))
    for tensor in graph.initializer:
        if tensor.name in stored:
            stub(tensor, digests[stored[tensor.name]], source=tensor.name)


def _check_overlap(stored: Iterable[StoredTensor]) -> None:
    """Refuse weights that are the same bytes again and again: small files would take hours to read."""
    places = [tensor.place for tensor in stored]
    read = sum(place.length for place in places)
    held = sum(path.stat().st_size for path in {place.path for place in places})
    if read > _MOST_TIMES * held:
        raise ModelError(f"The model's weights are {read} bytes, from files of {held}: the same ones many times over.")


def stub(tensor: onnx.TensorProto, digest: str, **entries: str) -> None:
    """Take the data out of a tensor and leave a digest of it, and other entries, in its place."""
    for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(name)  # type: ignore[arg-type]
    tensor.data_location = EXTERNAL
    for key, value in {**entries, "digest": digest}.items():
        tensor.external_data.add(key=key, value=value)


def stub_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """The external data entries of a tensor."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _parse(path: Path, threshold: int, mark: str, budget: Budget) -> onnx.ModelProto:
    """The model in a file, its large tensors external to the parsed message."""
    try:
        _check_regular(path)
        with path.open("rb") as file:
            data = strip_weights(file, threshold, mark, min(budget.nbytes, _MOST_PARSED))
        proto = onnx.ModelProto.FromString(data)
    except FileNotFoundError as error:
        raise ModelError(f"Model file {path} does not exist.") from error
    except OSError as error:
        raise ModelError(f"Model file {path} cannot be read: {error.strerror}.") from error
    except (WireError, DecodeError) as error:
        reason = str(error) if isinstance(error, WireError) else "its fields cannot be parsed"
        raise ModelError(f"Model file {path} is truncated or no ONNX model: {reason}.") from error
    except ValueError as error:  # a byte 0 in the name
        raise ModelError(f"Model file {str(path)!r} cannot be read: {error}.") from error
    if not data:
        raise ModelError(f"Model file {path} is empty.")
    if not proto.HasField("graph") or proto.ir_version < 1:
        raise ModelError(f"Model file {path} is no ONNX model: it has no graph or no IR version.")
    return proto


def _check_regular(path: Path) -> None:
    """Refuse what is no file: weights are read from it again, whenever they are needed."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ModelError(f"Model {path} is a directory: give the .onnx file inside it.")
    if not stat.S_ISREG(mode):
        raise ModelError(f"Model {path} is a pipe or a device: weights are read later, so write it to a file first.")


def spooled(path: Path) -> Path:
    """The path itself, or, of a pipe, a file with all that comes through it.

    The file has no name in any folder: it is found by this process's number and that of its descriptor, by child
    processes too, and is gone with this process however that ends.

    Raises
    ------
    ModelError
        When the path is a device, or the pipe cannot be read, or there is no room for what comes through it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return path  # whoever opens it says why
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise ModelError(f"Model {path} is a device: give a file or a pipe.")
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return path
    try:
        with path.open("rb") as pipe, tempfile.TemporaryFile() as file:
            shutil.copyfileobj(pipe, file, 1 << 20)
            file.flush()
            return Path(f"/proc/{os.getpid()}/fd/{os.dup(file.fileno())}")
    except OSError as error:
        raise ModelError(f"Model {path} cannot be read through its pipe: {error.strerror}.") from error


# What must hold of a message before anything walks over it: a few kilobytes of functions that call each other can stand
# for billions of nodes, and names may be no text


def check_counts(proto: onnx.ModelProto) -> None:
    """Check that a model has no more than `MOST_NODES` nodes.

    Raises
    ------
    ModelError
        When it has more, or a function calls itself.
    """
    count = count_of(proto)
    if count > MOST_NODES:
        raise ModelError(f"The model has {count} nodes, and {MOST_NODES} are the most that are run.")


def count_of(proto: onnx.ModelProto) -> int:
    """Nodes of a model, calls of its functions counted as what they stand for.

    Raises
    ------
    ModelError
        When a function calls itself.
    """
    functions = {(item.domain, item.name, item.overload): item for item in proto.functions}
    calls = {key: [*_calls(item.node)] for key, item in functions.items()}
    sizes: dict[_Key, int] = {}
    try:
        order = tuple(
            TopologicalSorter({key: set(called) & functions.keys() for key, called in calls.items()}).static_order()
        )
    except CycleError as error:
        raise ModelError(
            f"The model's function '{error.args[1][0][1]}' calls itself, directly or through others."
        ) from error
    for key in order:
        sizes[key] = _size(calls[key], sizes)
    return _size(_calls(proto.graph.node), sizes)


def check_names(proto: onnx.ModelProto) -> None:
    """Check that the names in a model are text; protobuf gives bytes, or raises, where they are not.

    Raises
    ------
    ModelError
    """
    try:
        is_text = all(isinstance(name, str) for name in _names(proto))
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise ModelError("A name in the model is no text (UTF-8).")


def _names(proto: onnx.ModelProto) -> Iterator[object]:
    yield from (item.domain for item in proto.opset_import)
    yield from _names_of_graph(proto.graph)
    for function in proto.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
        yield from _names_of_nodes(function.node)


def _names_of_graph(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from _names_of_nodes(graph.node)


def _names_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[object]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for graph in subgraphs(node):
            yield from _names_of_graph(graph)


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[_Key]:
    """What nodes, and those of graphs inside them, would be the calls of."""
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for graph in subgraphs(node):
            yield from _calls(graph.node)


def _size(calls: Iterable[_Key], sizes: dict[_Key, int]) -> int:
    return sum(sizes.get(key, 1) for key in calls)
