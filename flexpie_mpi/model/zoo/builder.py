"""Writes an ONNX graph the way an exporter does, from one line per layer; ONNX infers shapes on the way.

Weights come out of a seed and are drawn block by block, so that a model of any size is written in a few megabytes of
memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import pi, prod, sqrt
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, TypeProto, defs, helper, numpy_helper, shape_inference

OPSET = 17
_OPSETS = [helper.make_opsetid("", OPSET)]
IR_VERSION = 8
RECTIFIER_GAIN = 1 / (1 / 2 - 3 / (8 * pi))
"""Gain before a rectifier, which leaves 1/2 of the second moment; 1/(2 pi) is mean squared, cut to 1/4 by half sums."""
_GAINS = {"swish": 2.771, "hardswish": 2.729}
"""The same before others, of which a normal value of this variance leaves 1 (they do not scale as a rectifier does)."""
INLINE_BYTES = 4096
"""Weights up to this size are stored in the .onnx file itself."""
ALIGNMENT = 4096
"""Bytes that the offset of a tensor in the weights file is a multiple of, so that it can be mapped by pages."""

_DRAWN = 1 << 18
"""Elements drawn at a time: 1 MiB, which stays in the cache between drawing, scaling and writing."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A float32 tensor whose elements are drawn uniformly from ``centre - spread`` to ``centre + spread``.

    The seed is the pair (model, name), so a tensor does not depend on what else the model holds.
    With `row`, each run of that many elements is moved halfway to having exactly the mean `centre`.
    `is_parameter` is False for what training does not learn by gradient (running mean and variance), which
    published parameter counts leave out.
    """

    model: str
    name: str
    shape: tuple[int, ...]
    centre: float
    spread: float
    row: int = 0
    is_parameter: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return 4 * self.size

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The elements in row-major order, a block at a time; each block is valid until the next one."""
        seed = hashlib.blake2b(f"{self.model}/{self.name}".encode(), digest_size=16).digest()
        generator = np.random.Generator(np.random.SFC64(int.from_bytes(seed, "little")))
        length = max(1, _DRAWN // self.row) * self.row if self.row else _DRAWN
        buffer = np.empty(min(self.size, length), np.float32)
        for start in range(0, self.size, length):
            block = buffer[: self.size - start]
            generator.random(dtype=np.float32, out=block)
            if self.row:
                # Draws are multiples of 2**-24, so their sums in float64 are exact: the same bytes on every machine.
                rows = block.reshape(-1, self.row)
                rows -= ((rows.mean(axis=1, keepdims=True, dtype=np.float64) + 0.5) / 2).astype(np.float32)
            else:
                block -= np.float32(0.5)
            block *= np.float32(2 * self.spread)
            block += np.float32(self.centre)
            yield block

    def tobytes(self) -> bytes:
        """All elements, little-endian."""
        return b"".join(_little_endian(block).tobytes() for block in self.blocks())


@dataclass(frozen=True, slots=True)
class Tensor:
    """A computed value and its shape, without the batch axis that comes first: (C, H, W), (tokens, features)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model before its large weights exist: the graph names each one's place in the weights file."""

    proto: onnx.ModelProto
    weights: tuple[Weight, ...]
    external: tuple[Weight, ...]

    @property
    def parameters(self) -> int:
        """Number of learnt parameters, as papers count them."""
        return sum(weight.size for weight in self.weights if weight.is_parameter)


_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6}),
}
"""The operator of each activation that is one, and its attributes."""


class Builder:
    """Collects the nodes and weights of one model.

    A layer's name is given first; its node and value carry that name, its weights and what follows it in the same
    call carry it as a prefix: ``layer1.0.conv1``, ``layer1.0.conv1.weight``, ``layer1.0.conv1.norm``.

    Weights of variance ``gain / fan_in`` keep the values' size over any depth (He et al. 2015). The sum of each
    filter is halved as well. Rectified values are all positive: with the full sum what they have in common wins, layer
    by layer, and the output hardly depends on the input; with none of it, rounding errors grow with depth.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._weights: list[Weight] = []
        self._types: dict[str, TypeProto] = {}

    # The graph

    def input(self, name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> Tensor:
        """A graph input with a symbolic batch axis."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, ("batch", *shape)))
        self._types[name] = self._inputs[-1].type
        return Tensor(name, shape)

    def output(self, name: str, x: Tensor) -> Tensor:
        """Make a value, under a new name, a graph output."""
        for node in self._nodes:
            node.input[:] = [name if value == x.name else value for value in node.input]
            node.output[:] = [name if value == x.name else value for value in node.output]
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", *x.shape)))
        self._types[name] = self._outputs[-1].type
        return Tensor(name, x.shape)

    def node(self, name: str, op: str, inputs: Sequence[Tensor | str], **attributes: Any) -> Tensor:
        """Any operator with one output; constants among the inputs are given by name."""
        names = [value if isinstance(value, str) else value.name for value in inputs]
        node = helper.make_node(op, names, [name], name=name, **attributes)
        self._nodes.append(node)
        types = {value: self._types[value] for value in names}
        infer = shape_inference.infer_node_outputs
        self._types |= infer(defs.get_schema(op, OPSET), node, types, self._constants, None, _OPSETS, IR_VERSION)
        return Tensor(name, tuple(dim.dim_value for dim in self._types[name].tensor_type.shape.dim[1:]))

    def weight(
        self, name: str, shape: tuple[int, ...], spread: float, centre: float = 0.0, is_parameter: bool = True
    ) -> str:
        """A tensor of ``centre +- spread``; see `Weight`."""
        return self._draw(Weight(self.model, name, shape, centre, spread, is_parameter=is_parameter))

    def filters(self, name: str, shape: tuple[int, ...], gain: float) -> str:
        """``shape[0]`` filters of variance `gain` over their size, their sums halved."""
        size = prod(shape[1:])
        return self._draw(Weight(self.model, name, shape, 0.0, sqrt(3 * gain / size), row=size))

    def _draw(self, weight: Weight) -> str:
        self._weights.append(weight)
        self._types[weight.name] = helper.make_tensor_type_proto(TensorProto.FLOAT, weight.shape)
        return weight.name

    def constant(self, name: str, value: object, dtype: str) -> str:
        """A small constant that is no weight: a shape, an index, a factor; the same name is stored once."""
        tensor = self._constants[name] = numpy_helper.from_array(np.array(value, dtype), name)
        self._types[name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        return name

    def finish(self) -> Blueprint:
        """The model: small weights inside, large ones as references into ``<model>.weights``."""
        external = tuple(weight for weight in self._weights if weight.nbytes > INLINE_BYTES)
        inline = [weight for weight in self._weights if weight.nbytes <= INLINE_BYTES]
        initializers = [_inline(weight) for weight in inline]
        initializers += [_reference(weight, offset) for weight, offset in placed(external)]
        initializers += self._constants.values()
        graph = helper.make_graph(self._nodes, self.model, self._inputs, self._outputs, initializers)
        proto = helper.make_model(graph, opset_imports=_OPSETS, ir_version=IR_VERSION, producer_name="flexpie_mpi")
        return Blueprint(proto, tuple(self._weights), external)

    # Layers of convolutional networks

    def conv(
        self,
        name: str,
        x: Tensor,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        group: int = 1,
        norm: bool = False,
        act: str = "",
        gain: float | None = None,
    ) -> Tensor:
        """Square convolution that keeps the extent at stride 1; then batch normalisation (or else a bias); then `act`.

        The gain is what the activation asks for; less at the end of a residual branch, so that the sum does not grow
        with depth.
        """
        weight_shape = (channels, x.shape[0] // group, kernel, kernel)
        gain = gain or _gain_before(act)
        inputs: list[Tensor | str] = [x, self.filters(f"{name}.weight", weight_shape, gain)]
        if not norm:
            inputs.append(self.weight(f"{name}.bias", (channels,), 0.05))
        window = _window(kernel, stride, kernel // 2) | {"dilations": (1, 1), "group": group}
        y = self.node(name, "Conv", inputs, **window)
        y = self.norm(f"{name}.norm", y) if norm else y
        return self.act(f"{name}.{act}", y, act) if act else y

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation with running statistics near those of its input."""
        channels = (x.shape[0],)
        parameters = [
            self.weight(f"{name}.weight", channels, 0.2, centre=1.0),
            self.weight(f"{name}.bias", channels, 0.1),
            self.weight(f"{name}.running_mean", channels, 0.1, is_parameter=False),
            self.weight(f"{name}.running_var", channels, 0.2, centre=1.0, is_parameter=False),
        ]
        return self.node(name, "BatchNormalization", [x, *parameters], epsilon=1e-5)

    def act(self, name: str, x: Tensor, kind: str) -> Tensor:
        """A key of `_ACTIVATIONS`, "relu6" (a rectifier that stops at 6), or "swish" (x times its sigmoid)."""
        if kind == "swish":
            return self.node(name, "Mul", [x, self.act(f"{name}.sigmoid", x, "sigmoid")])
        if kind == "relu6":
            bounds = [self.constant("relu6.min", 0.0, "float32"), self.constant("relu6.max", 6.0, "float32")]
            return self.node(name, "Clip", [x, *bounds])
        op, attributes = _ACTIVATIONS[kind]
        return self.node(name, op, [x], **attributes)

    def gate(self, name: str, x: Tensor, channels: int, *, act: str = "relu", scale: str = "sigmoid") -> Tensor:
        """Squeeze and excitation (Hu et al. 2017): each channel times a number of 0 to 1 that depends on all of them.

        Parameters
        ----------
        channels
            What the means of all channels are squeezed to, before `act`.
        scale
            The activation that makes the numbers: "sigmoid" or "hardsigmoid".
        """
        y = self.conv(f"{name}.squeeze", self.global_average_pool(f"{name}.avgpool", x), channels, act=act)
        y = self.conv(f"{name}.excite", y, x.shape[0])
        return self.node(name, "Mul", [x, self.act(f"{name}.{scale}", y, scale)])

    def max_pool(
        self, name: str, x: Tensor, kernel: int, stride: int, *, pad: int = 0, ceil_mode: bool = False
    ) -> Tensor:
        """Square max pooling; `ceil_mode` keeps a last window that reaches past the border."""
        return self.node(name, "MaxPool", [x], **_window(kernel, stride, pad), ceil_mode=int(ceil_mode))

    def average_pool(self, name: str, x: Tensor, kernel: int) -> Tensor:
        """Square average pooling at stride 1."""
        return self.node(name, "AveragePool", [x], **_window(kernel, 1, 0))

    def global_average_pool(self, name: str, x: Tensor) -> Tensor:
        return self.node(name, "GlobalAveragePool", [x])

    def local_response_norm(self, name: str, x: Tensor) -> Tensor:
        """Normalisation over five neighbouring channels (Krizhevsky et al. 2012)."""
        return self.node(name, "LRN", [x], size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        return self.node(name, "Add", [x, y])

    def concat(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        """Parts side by side along the channels."""
        return self.node(name, "Concat", parts, axis=1)

    def flatten(self, name: str, x: Tensor) -> Tensor:
        return self.node(name, "Flatten", [x], axis=1)

    def linear(self, name: str, x: Tensor, features: int, *, act: str = "") -> Tensor:
        """Fully connected layer on one vector per request, then `act`."""
        (size,) = x.shape
        weight = self.filters(f"{name}.weight", (features, size), _gain_before(act))
        bias = self.weight(f"{name}.bias", (features,), 0.05)
        y = self.node(name, "Gemm", [x, weight, bias], transB=1)
        return self.act(f"{name}.{act}", y, act) if act else y

    # Layers of transformers

    def dense(self, name: str, x: Tensor, features: int, *, gain: float = 1.0, bias_first: bool = False) -> Tensor:
        """Matrix product over the last axis of (tokens, features), then a bias."""
        size = x.shape[1]
        weight = self.weight(f"{name}.weight", (size, features), sqrt(3 * gain / size))
        y = self.node(f"{name}.matmul", "MatMul", [x, weight])
        terms: list[Tensor | str] = [y, self.weight(f"{name}.bias", (features,), 0.1)]
        return self.node(name, "Add", terms[::-1] if bias_first else terms)

    def layer_norm(self, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
        """Normalisation over the last axis."""
        features = x.shape[-1:]
        scale = self.weight(f"{name}.weight", features, 0.2, centre=1.0)
        parameters = [scale, self.weight(f"{name}.bias", features, 0.1)]
        return self.node(name, "LayerNormalization", [x, *parameters], axis=-1, epsilon=epsilon)

    def reshape(self, name: str, x: Tensor, target: list[int]) -> Tensor:
        """Reshape to `target`, batch included, where 0 keeps the axis as it is."""
        return self.node(name, "Reshape", [x, self.constant(f"{name}.shape", target, "int64")])

    def attention(self, name: str, x: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
        """softmax(Q K^T / sqrt(d) + mask) V of x, (tokens, hidden).

        With a mask, in the form of BERT's exporters: they divide, and the biases of layers come first.
        """
        hidden = x.shape[1]
        size = hidden // heads

        def split(word: str, order: tuple[int, ...]) -> Tensor:
            """Heads of (tokens, hidden), the axes (batch, token, head, item) then in another order."""
            y = self.dense(f"{name}.{word}", x, hidden, bias_first=mask is not None)
            y = self.reshape(f"{name}.{word}.split", y, [0, 0, heads, size])
            return self.node(f"{name}.{word}.transpose", "Transpose", [y], perm=order)

        query, key, value = split("query", (0, 2, 1, 3)), split("key", (0, 2, 3, 1)), split("value", (0, 2, 1, 3))
        y = self.node(f"{name}.scores", "MatMul", [query, key])
        if mask is None:
            y = self.node(f"{name}.scale", "Mul", [y, self.constant(f"{name}.factor", 1 / sqrt(size), "float32")])
        else:
            y = self.node(f"{name}.scale", "Div", [y, self.constant(f"{name}.sqrt", sqrt(size), "float32")])
            y = self.node(f"{name}.mask", "Add", [y, mask])
        y = self.node(f"{name}.softmax", "Softmax", [y], axis=-1)
        y = self.node(f"{name}.context", "MatMul", [y, value])
        y = self.node(f"{name}.context.transpose", "Transpose", [y], perm=(0, 2, 1, 3))
        return self.reshape(f"{name}.context.merge", y, [0, 0, hidden])


def _gain_before(act: str) -> float:
    return _GAINS.get(act, RECTIFIER_GAIN) if act else 1.0


def _window(kernel: int, stride: int, pad: int) -> dict[str, Any]:
    return {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (pad,) * 4}


def _inline(weight: Weight) -> TensorProto:
    return helper.make_tensor(weight.name, TensorProto.FLOAT, weight.shape, weight.tobytes(), raw=True)


def _reference(weight: Weight, offset: int) -> TensorProto:
    tensor = TensorProto(
        name=weight.name, data_type=TensorProto.FLOAT, dims=weight.shape, data_location=TensorProto.EXTERNAL
    )
    entries = {"location": f"{weight.model}.weights", "offset": offset, "length": weight.nbytes}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def placed(weights: Iterable[Weight]) -> Iterator[tuple[Weight, int]]:
    """Each weight with its byte offset in the weights file."""
    offset = 0
    for weight in weights:
        yield weight, offset
        offset += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT


def write_weights(weights: Iterable[Weight], file: BinaryIO) -> None:
    """Stream weights into a binary file, each at its offset of :func:`placed`."""
    for weight, offset in placed(weights):
        file.seek(offset)
        for block in weight.blocks():
            file.write(_little_endian(block).data)


def _little_endian(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return block.astype("<f4", copy=False)
