"""A model as a partitioner sees it: values with static shapes, nodes in topological order, no file format.

A value whose shape is not known before the run, that has no elements, or that is no plain tensor (a sequence, strings)
is *opaque*: it lives on one rank only and never crosses a segment boundary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

ITEM_BYTES = {
    "float32": 4, "float64": 8, "float16": 2, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2,
    "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "bool": 1,
}  # fmt: skip
"""Bytes per element of the types that can be exchanged between ranks."""

WIDER = {"bfloat16": "float32", "float8_e5m2": "float32", "int4": "int8", "uint4": "uint8"}
"""Types that numpy and onnxruntime cannot pass to each other, and the one in which outputs of them come."""

AS_BYTES = ("float8_e4m3fn",)
"""Types that numpy does not have, of which onnxruntime gives the bytes."""

PACKED_BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}
"""Bits per element of types that have several elements to a byte."""

WITHHELD = ("bfloat16", "float8", "float4", "int4", "uint4", "int2", "uint2")
"""Types whose elements onnxruntime does not give to Python, by the first letters of its names for them."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph."""

    name: str
    shape: tuple[int, ...] | None  # static, in math order, (N, C, H, W) for images; None when known only at run time
    dtype: str  # numpy's name of the element type, or another word for what numpy does not know
    is_constant: bool = False  # a weight or other initializer: part of the model, not of a request
    data: tuple[Any, ...] | None = None  # elements in row-major order, of constants small enough to carry along

    @property
    def is_opaque(self) -> bool:
        """Whether this value cannot be cut or exchanged."""
        return self.shape is None or self.dtype not in ITEM_BYTES or 0 in self.shape

    @property
    def size(self) -> int:
        """Number of elements; 0 for a value of unknown shape."""
        return 0 if self.shape is None else prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes per element; 0 for types that cannot be exchanged."""
        return ITEM_BYTES.get(self.dtype, 0)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize


@dataclass(frozen=True, slots=True)
class Node:
    """An operator instance. Absent optional inputs and outputs are empty strings.

    `captures` are values of this graph that a subgraph of the node (If, Loop, Scan) reads without naming them as
    inputs. `attributes` holds numbers and strings only; `has_opaque_attributes` tells that there are others.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: tuple[tuple[str, Attribute], ...] = ()
    captures: tuple[str, ...] = ()
    has_opaque_attributes: bool = False

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of one attribute, or `default` when the node does not have it."""
        return next((value for key, value in self.attributes if key == name), default)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of every value the node reads, captured ones included."""
        return tuple(name for name in (*self.inputs, *self.captures) if name)

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(name for name in self.outputs if name)


@dataclass(frozen=True, slots=True)
class State:
    """What stays on the ranks from one request to the next: `output` becomes what the next request reads as `input`.

    Where `axis` is not negative, the input has room for many positions along it, and a request puts its own behind
    those that earlier ones have left (:class:`Growth`). Elsewhere the output takes the place of the input. Without an
    output no request changes it, as keys and values of an encoder: it holds what was written there.
    """

    output: str
    input: str
    axis: int = -1


@dataclass(frozen=True, slots=True)
class Growth:
    """How states grow: what a request must know of the positions that earlier ones have left.

    Every rank makes two inputs of that: `mask`, 1 for every position that holds something and 0 for all others, the
    request's own last, and `places`, the numbers of the request's own positions; empty where the model takes none.
    """

    most: int  # positions that there is room for
    step: int  # positions of a request
    mask: str
    places: str = ""


RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
)
"""Operators that draw numbers."""


ONNX_DOMAINS = ("", "ai.onnx")
"""The two names of the domain of ONNX's own operators."""


@dataclass(frozen=True, slots=True)
class BoundNode:
    """A node with the values around it: all that an operator's rule may look at."""

    node: Node
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    opset: int
    # The rule of its operator, kept here by `ops.rule_for`, which is asked about each node very often
    rule: Any = field(default=None, init=False, repr=False, compare=False)

    @property
    def op(self) -> str:
        return self.node.op

    @property
    def operator(self) -> str:
        """The operator's type, with its domain where that is not the default one: ``com.microsoft.Attention``."""
        return self.op if self.node.domain in ONNX_DOMAINS else f"{self.node.domain}.{self.op}"

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attribute(name, default)

    @property
    def is_random(self) -> bool:
        """Whether two runs of the node can differ, so that only one rank may run it."""
        return self.op in RANDOM or (self.op == "Dropout" and self.has_input(2))

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def in_shape(self, index: int = 0) -> tuple[int, ...]:
        value = self.inputs[index]
        assert value is not None and value.shape is not None, "rules see static shapes only"
        return value.shape

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        value = self.outputs[index]
        assert value is not None and value.shape is not None, "rules see static shapes only"
        return value.shape

    def constant(self, index: int) -> tuple[Any, ...] | None:
        """Elements of an input that is a small constant; None when it is absent, computed, or large."""
        value = self.inputs[index] if self.has_input(index) else None
        return value.data if value is not None and value.is_constant else None

    def constant_or_attribute(self, name: str, index: int) -> Any:
        """A parameter that newer opsets take as input `index` and older ones as attribute `name`."""
        data = self.constant(index)
        return self.attribute(name) if data is None else data


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order with the values they read and write.

    `inputs` are what a request brings, and `outputs` what it asks for. `states` are neither. Raises nothing by itself:
    whoever builds it answers for names being unique and the order being topological.
    """

    name: str
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int = 17
    states: tuple[State, ...] = ()
    growth: Growth | None = None  # of the states that have an axis

    def value(self, name: str) -> Value:
        return self.values[name]

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Place of each node in the topological order, by name."""
        return {node.name: index for index, node in enumerate(self.nodes)}

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Place of the node that writes each computed value."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.writes}

    @cached_property
    def changing(self) -> tuple[State, ...]:
        """The states that a request leaves something of."""
        return tuple(state for state in self.states if state.output)

    @cached_property
    def told(self) -> tuple[str, ...]:
        """What every rank makes of the growth of states when a request begins."""
        return tuple(filter(None, (self.growth.mask, self.growth.places))) if self.growth else ()

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Values that the root holds when a request begins: its inputs, and what is made of the growth of states."""
        return (*self.inputs, *self.told)

    @cached_property
    def last_read(self) -> Mapping[str, int]:
        """Place of the last node that reads each value; ``len(nodes)`` for graph outputs."""
        uses = {name: index for index, node in enumerate(self.nodes) for name in node.reads}
        return uses | {name: len(self.nodes) for name in self.outputs}

    @cached_property
    def last_use(self) -> Mapping[str, int]:
        """The same; ``len(nodes)`` for the outputs of states as well, which have to be there when a request ends."""
        return {**self.last_read, **{state.output: len(self.nodes) for state in self.changing}}

    @cached_property
    def bound(self) -> tuple[BoundNode, ...]:
        """Every node with the values around it, in order."""

        def values(names: tuple[str, ...]) -> tuple[Value | None, ...]:
            return tuple(self.values[name] if name else None for name in names)

        return tuple(BoundNode(node, values(node.inputs), values(node.outputs), self.opset) for node in self.nodes)

    @cached_property
    def derived(self) -> frozenset[str]:
        """Values computed from constants alone (a weight dequantised or cast): every rank makes its own."""
        derived: set[str] = set()
        for node in self.bound:
            reads = node.node.reads
            settled = reads and all(name in derived or self.values[name].is_constant for name in reads)
            if settled and not node.is_random and not self.is_dynamic(node.node):
                derived.update(node.node.writes)
        return frozenset(derived)

    @cached_property
    def preparing(self) -> Collection[int]:
        """Places of the nodes that write nothing but derived values, in order."""
        return dict.fromkeys(index for index, node in enumerate(self.nodes) if self.derived.issuperset(node.writes))

    @cached_property
    def constants(self) -> tuple[Value, ...]:
        return tuple(value for value in self.values.values() if value.is_constant)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(value.nbytes for value in self.constants)

    @cached_property
    def digest(self) -> str:
        """Hex digest of the structure: nodes, shapes, types and attributes, but no weights."""
        state = hashlib.blake2b(digest_size=16)
        memory = (*self.states, self.growth) if self.states else ()  # a graph without has the digest that it always had
        for item in (self.inputs, self.outputs, self.opset, *self.nodes, *self.values.values(), *memory):
            state.update(repr(item).encode())
        return state.hexdigest()

    def is_dynamic(self, node: Node) -> bool:
        """Whether a node reads or writes a computed value that cannot be exchanged."""
        values = (self.values[name] for name in (*node.reads, *node.writes))
        return any(value.is_opaque and not value.is_constant for value in values)
