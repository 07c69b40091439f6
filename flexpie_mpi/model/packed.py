"""Weights of matrix products laid out as kernels want them, in files that all sessions of a rank map.

onnxruntime lays these weights out anew for every session: two of the same model, one for prompts and one for single
tokens, would hold them twice. What it has laid out it can write behind the weights themselves. A session whose model
says where still lays out one constant after the other, but keeps what is in the file wherever that is equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper

from ..core.versions import processor
from ..files.cache import Cache
from .session import VERSION, Level, create, options_of
from .shard import SegmentModel, WeightFiles
from .walks import PRODUCTS
from .weights import EXTERNAL

KIND = "weights"
"""Of entries in the cache: they are beside the weights themselves, since a session knows of one folder."""

_BY_BLOCKS = "MatMulNBits"
_LAID_OUT_ANEW = (*PRODUCTS, _BY_BLOCKS)
_KERNELS = (*PRODUCTS, "FusedMatMul", "FusedGemm")
"""What becomes of ONNX's own products in a session: all take what a Gemm has laid out."""
_MODEL, _WEIGHTS, _LAID_OUT = "model.onnx", "weights.bin", "prepacked_0"


def packs(segment: SegmentModel) -> bool:
    """Whether a segment has products whose weights are laid out; a table that a FusedMatMul turns is read as it is."""
    return any(node.op_type in _LAID_OUT_ANEW and node.input[1] in segment.weights for node in segment.proto.graph.node)


def packed(segment: SegmentModel, files: WeightFiles, cache: Cache) -> dict[str, dict[str, str]]:
    """Where the data of a segment's right operands are, by initializer, with what is laid out behind them.

    As entries of external data. Files are made at first use; what is in none is left out.
    """
    tensors = {tensor.name: tensor for tensor in segment.proto.graph.initializer if tensor.name in segment.weights}
    found = {}
    for node in segment.proto.graph.node:
        product = _product(node, tensors) if node.op_type in _LAID_OUT_ANEW and node.input[1] in tensors else None
        if product is not None:
            names = [files.names[segment.weights[weight.name]] for weight in product.weights]
            found[node.input[1]] = _entries(product, names, files.folder, cache)
    return {name: entries for name, entries in found.items() if entries}


class _Product(NamedTuple):
    """A product by itself, as it is laid out: of ``x``, weights, and whatever they are laid out with."""

    node: onnx.NodeProto
    weights: list[TensorProto]
    element_type: int  # of ``x`` and of what comes out
    rows: int
    columns: int

    def model(self, names: Sequence[str]) -> onnx.ModelProto:
        """Its model, with the data of the weights in files of these names."""
        sizes = (("x", self.rows), ("y", self.columns))
        x, y = (helper.make_tensor_value_info(end, self.element_type, (1, size)) for end, size in sizes)
        weights = []
        for inner, name, each in zip(self.node.input[1:], names, self.weights, strict=True):
            weights.append(TensorProto(name=inner, data_type=each.data_type, dims=each.dims, data_location=EXTERNAL))
            weights[-1].external_data.add(key="location", value=name)
        graph = helper.make_graph([self.node], "product", [x], [y], weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _product(node: onnx.NodeProto, tensors: Mapping[str, TensorProto]) -> _Product | None:
    """A node as a product by itself; None where its weights are not laid out in a way that is known here."""
    weight, known = tensors[node.input[1]], {item.name: item.i for item in node.attribute}
    if node.op_type == _BY_BLOCKS:
        names = [name for name in node.input[1:4] if name]  # a bias is laid out with nothing
        if not all(name in tensors for name in names):
            return None
        alone = onnx.NodeProto(op_type=_BY_BLOCKS, domain=node.domain, output=["y"], attribute=node.attribute)
        alone.input.extend(["x", *(f"weight{number}" for number in range(len(names)))])
        weights = [tensors[name] for name in names]
        return _Product(alone, weights, weights[1].data_type, known["K"], known["N"])
    if weight.data_type != TensorProto.FLOAT or len(weight.dims) != 2:
        return None
    is_turned = bool(known.get("transB"))
    rows, columns = reversed(weight.dims) if is_turned else weight.dims
    alone = helper.make_node("Gemm", ["x", "weight0"], ["y"], transB=int(is_turned))
    return _Product(alone, [weight], TensorProto.FLOAT, rows, columns)


def _entries(product: _Product, names: Sequence[str], folder: Path, cache: Cache) -> dict[str, str]:
    """Entries of a weight whose bytes are all of a file; none where nothing is laid out, or not beside that file."""
    described = f"{VERSION} {processor()} {names}".encode() + product.node.SerializeToString(deterministic=True)
    key = f"{names[0]}.{hashlib.blake2b(described, digest_size=8).hexdigest()}"
    made = cache.find(KIND, key) or cache.store(KIND, key, partial(_write, product.model(names), folder))
    tensors = onnx.load(made / _MODEL, load_external_data=False).graph.initializer
    (weight,) = (tensor for tensor in tensors if tensor.name == product.node.input[1])
    entries = {entry.key: entry.value for entry in weight.external_data}
    if made.parent != folder or _LAID_OUT not in entries:
        return {}
    content = entries.pop(_LAID_OUT).partition("+")[2]
    kernels = [_BY_BLOCKS] if product.node.op_type == _BY_BLOCKS else _KERNELS
    laid_out = {f"prepacked_{number}": f"{kernel}+{content}" for number, kernel in enumerate(kernels)}
    return {**entries, "location": f"{key}/{_WEIGHTS}", **laid_out}


def _write(model: onnx.ModelProto, weights: Path, folder: Path) -> None:
    """Let onnxruntime write a product's weights, which are in a folder, and what it lays out of them, in another."""
    folder.mkdir()
    options = options_of(Level.ORT_ENABLE_BASIC)
    options.optimized_model_filepath = str(folder / _MODEL)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(prefix + "file_name", _WEIGHTS)
    options.add_session_config_entry(prefix + "min_size_in_bytes", "0")
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    create(model, options)
