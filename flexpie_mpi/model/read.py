"""A model file as a ModelProto whose large weights stay on disk, with the place of each."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..core.budget import Budget
from ..core.errors import ModelError
from .canonicalise import lift_constants
from .external import ExternalData, inner_tensors, sparse_parts
from .strip_weights import WireError, strip_weights
from .walks import nodes_inside, subgraphs
from .weights import Source, StoredTensor, check_shape, digest_of, stub

LARGE_BYTES = 64 << 10
"""Weights larger than this are not loaded with the model."""

_HASHERS = min(4, os.cpu_count() or 1)
_MOST_PARSED = (1 << 31) - 1
"""Bytes that protobuf can parse."""
_MOST_TIMES = 16
"""The weights may be so many times the bytes of the files that they are in: some share them."""

MOST_NODES = 200_000
"""The largest models in use have a tenth of it."""

_Id = tuple[str, str, str]
"""Domain, name and overload of a function."""


def read_source(path: Path, threshold: int = LARGE_BYTES, budget: Budget | None = None) -> Source:
    """Read an .onnx file and find its weights, in the file itself or in external data files beside it.

    Initializers of more than `threshold` bytes are left on disk; without them the model may take `budget` in memory
    (that of this machine when not given). Raises ModelError when the file, or one of its external data files, is
    missing, too short, no ONNX model, or not the model's own.
    """
    budget = budget or Budget.of_machine()
    mark = secrets.token_hex(16)
    proto = _parse(path, threshold, mark, budget)
    try:
        check_names(proto)
        check_counts(proto)
        stored = _embed_small(proto, ExternalData(path, budget, mark), threshold, budget)
        _stub_stored(proto.graph, stored)
    except ModelError as error:
        raise ModelError(f"Model {path} cannot be used: {error}") from error
    return Source(proto, stored)


def _embed_small(proto: onnx.ModelProto, data: ExternalData, threshold: int, budget: Budget) -> dict[str, StoredTensor]:
    """Bring all data but large initializers' into the message, and say where those are."""
    for tensor in sparse_parts(proto.graph):
        data.embed(tensor)
    lift_constants(proto.graph, budget)
    stored: dict[str, StoredTensor] = {}
    for tensor in proto.graph.initializer:
        check_shape(tensor.dims, f"Weight '{tensor.name}'")
        if kept := data.embed(tensor, threshold):
            stored[tensor.name] = kept
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


def _check_overlap(stored: Collection[StoredTensor]) -> None:
    """Refuse weights that are the same bytes again and again: small files would take hours to read."""
    read = sum(tensor.length for tensor in stored)
    held = sum(path.stat().st_size for path in {tensor.path for tensor in stored})
    if read > _MOST_TIMES * held:
        raise ModelError(f"The model's weights are {read} bytes, from files of {held}: the same ones many times over.")


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

    That file has no name in any folder: child processes find it too, by this process's number and that of its
    descriptor, and it is gone with this process however that ends.

    Raises ModelError when the path is a device, or the pipe cannot be read, or there is no room for what comes
    through it.
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


# What must hold of a message before anything walks over it: names are text, and nodes are not too many. A few kilobytes
# of functions that call each other can stand for billions of nodes.


def check_counts(proto: onnx.ModelProto) -> None:
    """Raise ModelError when a model has more than `MOST_NODES` nodes, or a function that calls itself."""
    count = count_of(proto)
    if count > MOST_NODES:
        raise ModelError(f"The model has {count} nodes, and {MOST_NODES} are the most that are run.")


def count_of(proto: onnx.ModelProto) -> int:
    """Nodes of a model, calls of its functions counted as what they stand for.

    Raises ModelError when a function calls itself.
    """

    def calls(nodes: Iterable[onnx.NodeProto]) -> list[_Id]:
        return [(node.domain, node.op_type, node.overload) for node in nodes_inside(nodes)]

    called = {(item.domain, item.name, item.overload): calls(item.node) for item in proto.functions}
    graph = {name: called.keys() & names for name, names in called.items()}
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        name = error.args[1][0][1]
        raise ModelError(f"The model's function '{name}' calls itself, directly or through others.") from error
    sizes: dict[_Id, int] = {}
    for function in order:
        sizes[function] = sum(sizes.get(name, 1) for name in called[function])
    return sum(sizes.get(name, 1) for name in calls(proto.graph.node))


def check_names(proto: onnx.ModelProto) -> None:
    """Raise ModelError when a name in a model is no text; protobuf gives bytes for it, or raises."""
    try:
        is_text = all(isinstance(name, str) for name in _names(proto))
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise ModelError("A name in the model is no text (UTF-8).")


def _names(proto: onnx.ModelProto) -> Iterator[object]:
    yield from (item.domain for item in proto.opset_import)
    nodes = list(nodes_inside([*proto.graph.node, *(node for item in proto.functions for node in item.node)]))
    for graph in (proto.graph, *(inner for node in nodes for inner in subgraphs(node))):
        yield graph.name
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
        yield from (tensor.name for tensor in graph.initializer)
        yield from (tensor.values.name for tensor in graph.sparse_initializer)
    for function in proto.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
