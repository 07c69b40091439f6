"""ONNX models, with weights inside and beside them, changed through onnx's own messages and byte by byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import onnx
from cases import Kind, Place
from modelseeds import noise, seeds
from mutate import PATHS, TEXTS, WHOLES, damaged
from onnx import TensorProto, helper, numpy_helper

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import lower
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan

Edit = Callable[[onnx.ModelProto, Random, Place], None]


# Edits


def _tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    found = list(model.graph.initializer)
    for item in model.graph.sparse_initializer:
        found += [item.values, item.indices]
    for node in _nodes(model):
        found += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    return found


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for nodes in (model.graph.node, *(item.node for item in model.functions)) for node in _inside(nodes)]


def _inside(nodes) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _inside(attribute.g.node)


def _int64(rng: Random) -> int:
    return (rng.choice(WHOLES) + 2**63) % 2**64 - 2**63


def _text(rng: Random) -> str:
    return rng.choice(TEXTS)


def _edit_dims(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    tensors = _tensors(model)
    if tensors:
        tensor = rng.choice(tensors)
        dims = list(tensor.dims)
        action = rng.randrange(4)
        if action == 0 and dims:
            dims[rng.randrange(len(dims))] = _int64(rng)
        elif action == 1:
            dims = dims[::-1] + [1] * rng.choice((1, 4, 70, 300))
        elif action == 2:
            dims = dims[1:]
        else:
            dims = [2**32, 2**32] if rng.random() < 0.5 else [-1, -1, *dims]
        tensor.dims[:] = dims


def _edit_data(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    tensors = _tensors(model)
    if not tensors:
        return
    tensor = rng.choice(tensors)
    action = rng.randrange(6)
    if action == 0:
        tensor.data_type = rng.choice((*range(30), -1, 2**31 - 1))
    elif action == 1:
        tensor.raw_data = damaged(tensor.raw_data or b"\0" * 8, rng)
    elif action == 2:
        tensor.ClearField("raw_data")
    elif action == 3:
        tensor.raw_data = b""
    elif action == 4:
        array = [_int64(rng) for _ in range(rng.choice((1, 8, 300)))]
        tensor.int64_data.extend(array)
        tensor.int32_data.extend(item % 2**31 for item in array)
    else:
        tensor.string_data.extend([b"", b"\xff", b"a" * 3])
        tensor.data_type = TensorProto.STRING


def _edit_external(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    """Weights that are elsewhere, or said to be."""
    tensors = _tensors(model)
    if not tensors:
        return
    tensor = rng.choice(tensors)
    if rng.random() < 0.5:
        size = max(1, len(tensor.raw_data) or 16)
        tensor.dims[:] = [size // max(1, np.dtype("f4").itemsize)] if tensor.data_type == 1 else list(tensor.dims)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    names = (
        *PATHS,
        str(place.canary()),
        "link",
        "folder/link",
        "folder/../data.bin",
        "data.bin",
        "data.bin",
        "x" * 5000,
        "",
        "\0",
        "fifo",
        "é" * 200,
    )
    tensor.external_data.add(key="location", value=rng.choice(names))
    for key in ("offset", "length"):
        if rng.random() < 0.6:
            text = str(rng.choice((0, 4, 16, 64, 76_800, *WHOLES)))
            tensor.external_data.add(
                key=key, value=rng.choice((text, text, text, "", "1e3", "0x10", "9" * 5000, " 4 ", "٣"))
            )
    if rng.random() < 0.1:
        tensor.external_data.add(key=rng.choice(("location", "source", "digest", "offset")), value=rng.choice(PATHS))


def _edit_attribute(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    node = rng.choice(_nodes(model) or [onnx.NodeProto()])
    if not node.attribute or rng.random() < 0.2:
        name = rng.choice(
            (
                "axis",
                "pads",
                "kernel_shape",
                "auto_pad",
                "mode",
                "bogus",
                "group",
                "keepdims",
                "value",
                "value_ints",
                "to",
                "",
            )
        )
        found = rng.choice(
            (_int64(rng), [_int64(rng)] * rng.choice((0, 1, 2, 4, 100)), _text(rng), 1.5, noise(2).tolist())
        )
        if name or not isinstance(found, list):
            node.attribute.append(helper.make_attribute(name, found, attr_type=None if found != [] else 7))
        return
    attribute = rng.choice(node.attribute)
    action = rng.randrange(6)
    if action == 0:
        node.attribute.remove(attribute)
    elif action == 1:
        attribute.name = rng.choice(
            ("axis", "pads", "value", "value_string", "sparse_value", _text(rng).replace("\0", ""))
        )
    elif action == 2:
        attribute.type = rng.randrange(15)
    elif action == 3 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = _int64(rng)
    elif action == 4:
        node.attribute.append(attribute)
    else:
        attribute.i = _int64(rng)


def _edit_node(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    nodes = _nodes(model)
    if not nodes:
        return
    node = rng.choice(nodes)
    names = [name for other in nodes for name in (*other.input, *other.output)] + ["", "x", "gone", "y"]
    action = rng.randrange(9)
    if action == 0:
        node.op_type = rng.choice(
            (*(other.op_type for other in nodes), "Constant", "Loop", "Identity", "Sigmoid", "Softmax", "Transpose", "")
        )
    elif action == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif action == 2 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice(names)
    elif action == 3:
        node.input.extend([rng.choice(names)] * rng.choice((1, 3, 200)))
    elif action == 4:
        del node.output[:]
    elif action == 5:
        del node.input[:]
    elif action == 6:
        model.graph.node.append(node)
    elif action == 7:
        node.domain = rng.choice(("ai.onnx", "com.microsoft", "local", "ai.onnx.ml", "zzz"))
    else:
        node.output.append(rng.choice(names))


def _edit_types(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    values = [*model.graph.input, *model.graph.output]
    if not values:
        return
    value = rng.choice(values)
    action = rng.randrange(7)
    dims = value.type.tensor_type.shape.dim
    if action == 0 and dims:
        rng.choice(dims).dim_value = _int64(rng)
    elif action == 1 and dims:
        rng.choice(dims).dim_param = _text(rng)
    elif action == 2:
        value.type.tensor_type.elem_type = rng.choice((*range(25), 2**31 - 1))
    elif action == 3:
        dims.add(dim_value=rng.choice((0, 1, 2, 2**40)))
    elif action == 4:
        value.name = _text(rng)
    elif action == 5:
        value.type.CopyFrom(
            rng.choice(
                (
                    helper.make_sequence_type_proto(value.type),
                    helper.make_optional_type_proto(value.type),
                    onnx.TypeProto(),
                )
            )
        )
    else:
        model.graph.input.append(value)


def _edit_model(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    action = rng.randrange(8)
    if action == 0:
        model.ir_version = _int64(rng)
    elif action == 1 and model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((1, 6, 7, 10, 13, 24, 26, 99, _int64(rng)))
    elif action == 2:
        del model.opset_import[:]
    elif action == 3:
        model.graph.name = _text(rng)
    elif action == 4:
        del model.graph.output[:]
    elif action == 5:
        model.opset_import.add(domain=_text(rng).replace("\0", ""), version=1)
    elif action == 6:
        model.graph.doc_string = "x" * 100_000
    else:
        model.metadata_props.add(key="k", value=_text(rng))


def _edit_functions(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    """Functions that call themselves, each other twice, or other names; deep trees of calls and of subgraphs."""
    node = helper.make_node
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    action = rng.randrange(4)
    if action == 0:
        called = rng.choice(("F0", "F1"))
        bodies = [("F0", called), ("F1", "F0")]
        model.functions.extend(
            helper.make_function("local", name, ["a"], ["b"], [node(to, ["a"], ["b"], domain="local")], imports)
            for name, to in bodies
        )
    elif action == 1:
        depth = rng.choice((5, 12, 30, 200))
        for level in range(depth):
            calls = [
                node(f"F{level + 1}", ["a"], ["c"], domain="local"),
                node(f"F{level + 1}", ["c"], ["b"], domain="local"),
            ]
            last = [node("Relu", ["a"], ["b"])]
            model.functions.append(
                helper.make_function("local", f"F{level}", ["a"], ["b"], last if level == depth - 1 else calls, imports)
            )
    elif action == 2:
        graph = helper.make_graph(
            [node("Relu", ["x"], ["t0"])], "g", [], [helper.make_tensor_value_info("t0", 1, None)]
        )
        for level in range(1, rng.choice((5, 15, 25))):
            inner = node(
                "If", ["q"], [f"t{level}"], then_branch=graph, else_branch=graph if level < 3 else _small(level)
            )
            graph = helper.make_graph([inner], "g", [], [helper.make_tensor_value_info(f"t{level}", 1, None)])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "q"))
        model.graph.node.append(node("If", ["q"], ["deep"], then_branch=graph, else_branch=_small(99)))
        model.graph.output.append(helper.make_tensor_value_info("deep", 1, None))
    elif model.functions:
        model.functions.append(model.functions[0])
    if action < 2:
        model.opset_import.add(domain="local", version=1)
        model.graph.node.append(node("F0", ["x"], ["of_function"], domain="local"))
        model.graph.output.append(helper.make_tensor_value_info("of_function", 1, None))


def _small(level: int) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(f"s{level}", 1, None)
    return helper.make_graph([helper.make_node("Neg", ["x"], [f"s{level}"])], "s", [], [value])


def _edit_sparse(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    sparse = onnx.SparseTensorProto(
        dims=[_int64(rng) if rng.random() < 0.6 else 8 for _ in range(rng.choice((0, 1, 1, 2, 3, 70)))]
    )
    count = rng.choice((0, 1, 3))
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(count, rng.choice((np.float32, np.int8))), "sp"))
    shape = (count,) if rng.random() < 0.6 else (count, rng.choice((0, 1, 2, 3)))
    indices = np.array([_int64(rng) for _ in range(int(np.prod(shape)))], np.int64).reshape(shape)
    sparse.indices.CopyFrom(
        numpy_helper.from_array(indices if rng.random() < 0.8 else indices.astype(np.float32), "spi")
    )
    if rng.random() < 0.5:
        model.graph.sparse_initializer.append(sparse)
        model.graph.node.append(helper.make_node("Identity", ["sp"], ["dense"]))
    else:
        model.graph.node.append(helper.make_node("Constant", [], ["dense"], sparse_value=sparse))
    model.graph.output.append(helper.make_tensor_value_info("dense", 1, None))


def _edit_long(model: onnx.ModelProto, rng: Random, place: Place) -> None:
    """A long run of one operator behind an input, or many equal weights."""
    count = rng.choice((50, 400, 1500))
    if not model.graph.input:
        return
    name = model.graph.input[0].name
    op = rng.choice(("Flatten", "Relu", "Identity", "Neg"))
    names = [name, *(f"long{place}" for place in range(count))]
    if rng.random() < 0.2:
        model.graph.initializer.extend(numpy_helper.from_array(noise(2), f"weight{place}") for place in range(count))
    model.graph.node.extend(helper.make_node(op, [a], [b]) for a, b in itertools.pairwise(names))
    model.graph.output.append(helper.make_tensor_value_info(names[-1], 1, None))


_EDITS: tuple[Edit, ...] = (
    *(_edit_dims, _edit_dims, _edit_data, _edit_data, _edit_external, _edit_external, _edit_external, _edit_attribute),
    *(_edit_attribute, _edit_node, _edit_node, _edit_types, _edit_model, _edit_functions, _edit_sparse),
)  # fmt: skip
_RARE = 0.01
"""Share of the cases with a long run of nodes, which take long."""


def _make_model(rng: Random, place: Place) -> Path:
    model = onnx.ModelProto()
    model.CopyFrom(rng.choice(seeds()))
    path = place.files / "m.onnx"
    (place.files / "data.bin").write_bytes(bytes(80_000))
    (place.files / "link").symlink_to(place.canary())
    (place.files / "folder").symlink_to(place.outside)
    action = rng.random()
    if action < 0.2:
        onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
        model = onnx.load(path, load_external_data=False)
    if 0.05 < action < 0.8:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            rng.choice(_EDITS)(model, rng, place)
    if rng.random() < _RARE:
        _edit_long(model, rng, place)
    data = model.SerializeToString()
    path.write_bytes(damaged(data, rng) if action > 0.7 else data)
    if rng.random() < 0.02 and (place.files / "w.bin").exists():
        weights = place.files / "w.bin"
        weights.unlink()
        weights.symlink_to(place.canary())
    return path


def _read_model(path: Path, place: Place) -> object:
    """What ``plan`` does with a rule's plan, weights included."""
    model = load(str(path), cache=Cache(place.cache))
    plan = layout_plan(model.graph, 2, "rows")
    programs = lower(plan, model.graph)
    arrays = [model.array(value.name) for value in model.graph.constants]
    return [model.graph.digest, len(programs), *arrays]


KINDS_OF_MODEL = (Kind("model", _make_model, _read_model),)
