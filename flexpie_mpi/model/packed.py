"""Weights of matrix products laid out as kernels want them, in files that all sessions of a rank map.

onnxruntime lays these weights out anew for every session: two of the same model, one for prompts and one for single
tokens, would hold them twice. What it has laid out it can write behind the weights themselves. A session whose model
says where still lays out one constant after the other, but keeps what is in the file wherever that is equal.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from ..core.versions import processor
from ..files.cache import Cache
from .session import VERSION, Level, create, options_of
from .shard import SegmentModel, WeightFiles
from .weights import EXTERNAL

KIND = "weights"
"""Of entries in the cache: they are beside the weights themselves, since a session knows of one folder."""

_PRODUCTS = ("MatMul", "Gemm")
_KERNELS = (*_PRODUCTS, "FusedMatMul", "FusedGemm")
"""What becomes of them in a session: all take what a Gemm has laid out."""
_MODEL, _WEIGHTS, _LAID_OUT = "model.onnx", "weights.bin", "prepacked_0"


def packs(segment: SegmentModel) -> bool:
    """Whether a segment has products whose weights are laid out; a table that a FusedMatMul turns is read as it is."""
    return any(node.op_type in _PRODUCTS and node.input[1] in segment.weights for node in segment.proto.graph.node)


def packed(segment: SegmentModel, files: WeightFiles, cache: Cache) -> dict[str, dict[str, str]]:
    """Where the data of a segment's right operands are, by initializer, with what is laid out behind them.

    As entries of external data. Files are made at first use; what is in none is left out.
    """
    tensors = {tensor.name: tensor for tensor in segment.proto.graph.initializer if tensor.name in segment.weights}
    found = {}
    for node in segment.proto.graph.node:
        tensor = tensors.get(node.input[1]) if node.op_type in _PRODUCTS else None
        if tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2:
            is_turned = any(item.name == "transB" and item.i for item in node.attribute)
            path = files.folder / files.names[segment.weights[tensor.name]]
            found[tensor.name] = _entries(path, tensor, cache, is_turned=is_turned)
    return {name: entries for name, entries in found.items() if entries}


def _entries(path: Path, tensor: TensorProto, cache: Cache, *, is_turned: bool) -> dict[str, str]:
    """Entries of a weight whose bytes are all of a file; none where nothing is laid out, or not beside that file."""
    described = f"{VERSION} {processor()} {is_turned}"
    key = f"{path.name}.{hashlib.blake2b(described.encode(), digest_size=8).hexdigest()}"
    write = partial(_write, path, tensor, is_turned)
    folder = cache.find(KIND, key) or cache.store(KIND, key, write)
    (weight,) = onnx.load(folder / _MODEL, load_external_data=False).graph.initializer
    entries = {entry.key: entry.value for entry in weight.external_data}
    if folder.parent != path.parent or _LAID_OUT not in entries:
        return {}
    content = entries.pop(_LAID_OUT).partition("+")[2]
    laid_out = {f"prepacked_{number}": f"{kernel}+{content}" for number, kernel in enumerate(_KERNELS)}
    return {**entries, "location": f"{key}/{_WEIGHTS}", **laid_out}


def _write(path: Path, tensor: TensorProto, is_turned: bool, folder: Path) -> None:
    """Let onnxruntime write a weight, and what it lays out of it, in a folder."""
    folder.mkdir()
    weight = TensorProto(name="weight", data_type=tensor.data_type, dims=tensor.dims, data_location=EXTERNAL)
    weight.external_data.add(key="location", value=path.name)
    rows, columns = reversed(tensor.dims) if is_turned else tensor.dims
    ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, (1, rows)), ("y", 1, (1, columns)))]
    node = helper.make_node("Gemm", ["x", "weight"], ["y"], transB=int(is_turned))
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [weight])
    options = options_of(Level.ORT_ENABLE_BASIC)
    options.optimized_model_filepath = str(folder / _MODEL)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(prefix + "file_name", _WEIGHTS)
    options.add_session_config_entry(prefix + "min_size_in_bytes", "0")
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    create(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), options)
