"""Models for tests: those that the onnx wheel ships, with random weights; any beside a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache as once
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model import Model, load
from flexpie_mpi.model.zoo import decoders
from flexpie_mpi.model.zoo.builder import Builder
from flexpie_mpi.model.zoo.drawn import write_weights

VOCABULARY, HIDDEN, HEADS = 23, 48, 6
WIDE = 4096

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


def beside_one_session(
    folder: Path, models: Mapping[str, Callable[[], onnx.ModelProto]]
) -> Callable[[str], tuple[Model, dict[str, np.ndarray], dict[str, np.ndarray], Cache]]:
    """What gives a model by name, inputs, the outputs of one plain session and a cache, each made once."""

    @once
    def get(name: str) -> tuple[Model, dict[str, np.ndarray], dict[str, np.ndarray], Cache]:
        path, cache = folder / f"{name}.onnx", Cache(folder / "cache")
        onnx.save(models[name](), path)
        model = load(str(path), cache=cache)
        inputs = random_inputs(model.graph, seed=1)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return model, inputs, dict(zip(names, session.run(names, inputs), strict=True)), cache

    return get


def write_decoder(folder: Path, name: str, hidden: int = HIDDEN, **sizes: int) -> Path:
    """Write a built-in decoder of one layer, with other sizes."""
    builder = Builder(name, 17)
    getattr(decoders, name)(builder, layers=1, hidden=hidden, heads=HEADS, vocabulary=VOCABULARY, **sizes)
    model = builder.finish()
    with (folder / f"{name}.weights").open("wb") as file:
        write_weights(model.external, file)
    onnx.save(model.proto, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def with_random_weights(source: Path, target: Path, *, hidden: int = WIDE) -> Path:
    """Write the model with seeded random weights where the wheel's file fills them with one number.

    The files carry ConstantOfShape nodes in the place of weights; a network of equal weights gives equal outputs,
    which would hide a wrong slice. So would the Softmax at the end, where one score stands out: its input is the
    output instead. With `hidden`, fully connected layers of 4096 units get that many: they are nine tenths of the
    weights of AlexNet and VGG, and narrow ones are cut in the same way.
    """
    proto = onnx.load(source)
    rng = np.random.default_rng(0)
    shapes = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    consumers = {name: node for node in proto.graph.node for name in node.input}
    kept = []
    for node in proto.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(hidden if extent == WIDE else int(extent) for extent in shapes[node.input[0]])
        reader = consumers[node.output[0]]
        array = _weight(shape, reader, list(reader.input).index(node.output[0]), rng)
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
    if kept[-1].op_type == "Softmax":
        proto.graph.output[0].name = kept.pop().input[0]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    onnx.save(proto, target)
    return target


def _weight(shape: tuple[int, ...], node: onnx.NodeProto, index: int, rng: np.random.Generator) -> np.ndarray:
    if node.op_type == "BatchNormalization":
        # scale, bias, mean, variance: the last must be positive, and none may make activations grow
        centre, spread = [(1.0, 0.1), (0.0, 0.1), (0.0, 0.1), (1.0, 0.1)][index - 1]
        return centre + spread * rng.standard_normal(shape) ** (2 if index == 4 else 1)
    if len(shape) < 2:
        return 0.1 * rng.standard_normal(shape)
    fan_in = np.prod(shape[1:]) if node.op_type == "Conv" else min(shape)
    return rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
