"""Writes an ONNX graph the way an exporter does, from one line per layer; ONNX infers shapes on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, prod, sqrt
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, defs, helper, numpy_helper, shape_inference

from ..inputs import SIZE_OF
from .drawn import INLINE_BYTES, Weight, inlined, placed, reference

OPSET = 17
IR_VERSION = 8
RECTIFIER_GAIN = 1 / (1 / 2 - 3 / (8 * pi))
"""Gain before a rectifier, which leaves 1/2 of the second moment; 1/(2 pi) is mean squared, cut to 1/4 by half sums."""
_GAINS = {"swish": 2.771, "hardswish": 2.729}
"""The same before others, of which a normal value of this variance leaves 1 (they do not scale as a rectifier does)."""


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


_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6}),
}
"""The operator of each activation that is one, and its attributes."""


class Builder:
    """Collects the nodes and weights of one model, as TorchScript's exporter or as dynamo's writes them.

    A layer's name is given first; its node and value carry that name, its weights and what follows it in the same
    call carry it as a prefix: ``layer1.0.conv1``, ``layer1.0.conv1.weight``, ``layer1.0.conv1.norm``.

    Weights of variance ``gain / fan_in`` keep the values' size over any depth (He et al. 2015). The sum of each
    filter is halved as well. Rectified values are all positive: with the full sum what they have in common wins, layer
    by layer, and the output hardly depends on the input; with none of it, rounding errors grow with depth.
    """

    def __init__(self, model: str, opset: int = OPSET, *, is_dynamo: bool = False) -> None:
        self.model, self.opset, self.is_dynamo = model, opset, is_dynamo
        self._opsets = [helper.make_opsetid("", opset)]
        self._sizes: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._weights: list[Weight] = []
        self._types: dict[str, TypeProto] = {}

    # The graph

    def symbol(self, name: str, size: int) -> str:
        """A symbolic size, and what it is where nobody says another."""
        self._sizes[name] = size
        return name

    def input(
        self, name: str, shape: tuple[int | str, ...], dtype: int = TensorProto.FLOAT, *, batch_axis: int = 0
    ) -> Tensor:
        """A graph input with a symbolic batch axis beside those of `shape`."""
        dims = (*shape[:batch_axis], "batch", *shape[batch_axis:])
        self._inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        self._types[name] = self._inputs[-1].type
        return self._tensor(name)

    def output(
        self, name: str, x: Tensor, shape: tuple[int | str, ...] | None = None, *, batch_axis: int = 0
    ) -> Tensor:
        """Make a value, under a new name, a graph output; of symbolic sizes its `shape` tells the names."""
        for node in self._nodes:
            node.input[:] = [name if value == x.name else value for value in node.input]
            node.output[:] = [name if value == x.name else value for value in node.output]
        shape = x.shape if shape is None else shape
        dims = (*shape[:batch_axis], "batch", *shape[batch_axis:])
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        self._types[name] = self._outputs[-1].type
        return Tensor(name, x.shape)

    def node(
        self,
        name: str,
        op: str,
        inputs: Sequence[Tensor | str],
        *,
        shape: tuple[int, ...] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Any operator with one output; constants among the inputs are given by name, absent ones by "".

        Its `shape`, as a `Tensor` has it, is told where ONNX cannot infer it: of a domain that is not ONNX's, and where
        a size is computed.
        """
        if shape is None:
            return self.nodes(name, op, inputs, 1, **attributes)[0]
        self._append(name, op, inputs, [name], domain=domain, **attributes)
        self._types[name] = helper.make_tensor_type_proto(
            TensorProto.FLOAT, ("batch", *(size or None for size in shape))
        )
        return Tensor(name, shape)

    def nodes(self, name: str, op: str, inputs: Sequence[Tensor | str], count: int, **attributes: Any) -> list[Tensor]:
        """Any operator of ONNX's with `count` outputs, of which those behind the first have a number in their names."""
        names = [name, *(f"{name}.{place}" for place in range(1, count))]
        node = self._append(name, op, inputs, names, **attributes)
        types = {value: self._types[value] for value in node.input if value}
        schema = defs.get_schema(op, self.opset)
        infer = shape_inference.infer_node_outputs
        self._types |= infer(schema, node, types, self._constants, None, self._opsets, IR_VERSION)
        return [self._tensor(each) for each in names]

    def _append(
        self, name: str, op: str, inputs: Sequence[Tensor | str], outputs: Sequence[str], **attributes: Any
    ) -> onnx.NodeProto:
        names = [value if isinstance(value, str) else value.name for value in inputs]
        node = helper.make_node(op, names, outputs, name=name, **attributes)
        if node.domain and all(known.domain != node.domain for known in self._opsets):
            self._opsets.append(helper.make_opsetid(node.domain, 1))
        self._nodes.append(node)
        return node

    def _tensor(self, name: str) -> Tensor:
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

    def packed(self, name: str, shape: tuple[int, ...]) -> str:
        """Bytes of two numbers of 4 bits each; see `Weight`."""
        return self._draw(Weight(self.model, name, shape, 8.0, 7.0, is_packed=True))

    def _draw(self, weight: Weight) -> str:
        self._weights.append(weight)
        self._types[weight.name] = helper.make_tensor_type_proto(weight.data_type, weight.shape)
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
        initializers = [inlined(weight) for weight in inline]
        initializers += [reference(weight, offset) for weight, offset in placed(external)]
        initializers += self._constants.values()
        graph = helper.make_graph(self._nodes, self.model, self._inputs, self._outputs, initializers)
        proto = helper.make_model(
            graph,
            opset_imports=self._opsets,
            ir_version=max(IR_VERSION, helper.find_min_ir_version_for(self._opsets[:1])),
            producer_name="flexpie_mpi",
        )
        helper.set_model_props(proto, {SIZE_OF + name: str(size) for name, size in self._sizes.items()})
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

    def add(self, name: str, x: Tensor | str, y: Tensor | str) -> Tensor:
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


def _gain_before(act: str) -> float:
    return _GAINS.get(act, RECTIFIER_GAIN) if act else 1.0


def _window(kernel: int, stride: int, pad: int) -> dict[str, Any]:
    return {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (pad,) * 4}
