"""A model in the making, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper

NEWEST = 24
OLDEST = 7

_IR = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}

ODD_NAMES = (
    "x_output", "x_constant", "const::0", "node::1", "x[0:1]", "x::0", "/a/b.c/Conv_output_0", "größe", "x y", "0",
    "x_output_0", "node", "input", "rank0", "x_identity", "true", "const::1", "_", "x[0:1][0:2]", "node::0",
)  # fmt: skip


class Draft:
    """Nodes, inputs and constants of a model so far, and the random numbers that decide how it goes on.

    Parameters
    ----------
    seed : str
        Equal seeds give equal models.
    """

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(self.rng.getrandbits(63))
        self.opset = NEWEST
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[tuple[str, np.ndarray]] = []
        self.initializers: list[tuple[str, np.ndarray]] = []
        self.domains: dict[str, int] = {}
        self.functions: list[onnx.FunctionProto] = []
        self.odd = self.chance(0.25)
        self.taken: set[str] = set()

    # ---------------------------------------------------------------- decisions

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def between(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def extent(self, low: int = 1, high: int = 9) -> int:
        """Mostly small, sometimes none, sometimes large."""
        if self.chance(0.012):
            return 0
        return self.between(low, high) if self.chance(0.9) else self.between(low, 17)

    def shape(self, low: int = 1, high: int = 4) -> tuple[int, ...]:
        return tuple(self.extent() for _ in range(self.between(low, high)))

    def image(self, axes: int | None = None, channels: int | None = None, low: int = 3) -> tuple[int, ...]:
        """Shape (N, C, ...) with one to three spatial axes, mostly two."""
        axes = axes or self.pick(1, 2, 2, 2, 2, 3)
        return (self.between(1, 3), channels or self.extent(1, 8), *(self.extent(low, 14) for _ in range(axes)))

    def axis(self, ndim: int) -> int:
        """An axis, counted from the back half of the time; seldom one that is not there."""
        place = self.between(-ndim, ndim - 1) if ndim else 0
        return place + ndim if self.chance(0.01) else place

    def axes(self, ndim: int, low: int = 1) -> list[int]:
        """Some axes in any order, some counted from the back."""
        count = self.between(min(low, ndim), ndim)
        found = self.rng.sample(range(ndim), count)
        return [axis - ndim if self.chance(0.4) else axis for axis in found]

    def dtype(self, *others: str, common: str = "float32") -> str:
        """`common` in two of three cases, else one of `others`."""
        return self.pick(*others) if others and self.chance(0.33) else common

    # ---------------------------------------------------------------- arrays

    def array(self, shape: Sequence[int], dtype: str = "float32", low: int = -20, high: int = 20) -> np.ndarray:
        kind = np.dtype(dtype).kind
        if kind == "f":
            return self.numbers.standard_normal(shape).astype(dtype)
        if kind == "b":
            return self.numbers.integers(0, 2, shape).astype(bool)
        if kind in "UO":
            return self.numbers.choice(np.array(["a", "bc", "", "ü"], object), shape)
        return self.numbers.integers(0 if kind == "u" else low, high, shape).astype(dtype)

    def broadcast_of(self, shape: Sequence[int], upwards: bool = True) -> tuple[int, ...]:
        """A shape that broadcasts with `shape`; with `upwards` perhaps with more axes."""
        found = [1 if self.chance(0.25) else extent for extent in shape]
        cut = self.pick(0, 0, 0, self.between(0, len(found)))
        longer = (self.extent(),) if upwards and not cut and self.chance(0.1) else ()
        return (*longer, *found[cut:])

    # ---------------------------------------------------------------- names and values

    def name(self, hint: str = "v") -> str:
        """A name that is not taken; of the odd ones at times where the model is one with odd names."""
        if self.odd and self.chance(0.5):
            free = [name for name in ODD_NAMES if name not in self.taken]
            if free:
                hint = self.rng.choice(free)
        found, number = hint, 0
        while found in self.taken:
            found, number = f"{hint}{number}", number + 1
        self.taken.add(found)
        return found

    def given(self, array: Any, name: str = "x") -> str:
        """An input of the graph."""
        name = self.name(name)
        self.inputs.append((name, np.asarray(array)))
        return name

    def value(self, shape: Sequence[int], dtype: str = "float32", **bounds: int) -> str:
        """Data: an input of the graph, at times with a node of the same shape in between."""
        name = self.given(self.array(shape, dtype, **bounds))
        if self.chance(0.25):
            plain = dtype.startswith("float") and not bounds and self.chance(0.7)
            name = self.node(self.pick("Neg", "Abs", "Tanh") if plain and dtype == "float32" else "Identity", [name])
        return name

    def fixed(self, array: Any, name: str = "w") -> str:
        """A constant: an initializer or a Constant node."""
        array = np.asarray(array)
        if self.chance(0.2):
            return self.node("Constant", [], value=numpy_helper.from_array(array))
        name = self.name(name)
        self.initializers.append((name, array))
        return name

    def parameter(self, array: Any, constant: float = 0.75) -> str:
        """What says how an operator works: mostly a constant, else an input of the graph, or worked out of one."""
        array = np.asarray(array)
        if self.chance(constant):
            return self.fixed(array, "p")
        name = self.given(array, "p")
        return self.node("Identity", [name]) if self.chance(0.4) else name

    def ints(self, values: Sequence[int], dtype: str = "int64", constant: float = 0.75) -> str:
        return self.parameter(np.array(values, dtype), constant)

    # ---------------------------------------------------------------- nodes

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        return self.nodes_outputs(op, inputs, 1, domain, **attributes)[0]

    def nodes_outputs(
        self, op: str, inputs: Sequence[str], outputs: int | Sequence[bool] = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node; names of its outputs, "" for those of `outputs` that are not there. None attributes are left."""
        there = [True] * outputs if isinstance(outputs, int) else outputs
        names = [self.name("y") if item else "" for item in there]
        kept = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(op, inputs, names, name=self._node_name(names[0]), domain=domain, **kept)
        self.nodes.append(node)
        if domain:
            self.domains[domain] = _VERSIONS.get(domain, 1)
        return names

    def call(self, op: str, inputs: Sequence[str], outputs: int | Sequence[bool] = 1, **settings: Any) -> list[str]:
        """Add a node whose `settings` are attributes or inputs, as its opset has it; what it does not know is left.

        A setting that is an array becomes the input of that name, a constant in most cases.
        """
        schema = schema_of(op, self.opset)
        names = [item.name for item in schema.inputs]
        inputs, attributes = list(inputs), {}
        for key, value in settings.items():
            if value is None:
                continue
            if key in schema.attributes:
                attributes[key] = value.tolist() if isinstance(value, np.ndarray) else value
            elif key in names:
                place = names.index(key)
                inputs += [""] * (place + 1 - len(inputs))
                inputs[place] = self.parameter(np.asarray(value))
        return self.nodes_outputs(op, inputs, outputs, **attributes)

    def _node_name(self, output: str) -> str:
        if not self.odd:
            return f"n{len(self.nodes)}" if len(self.nodes) % 3 else ""
        return self.pick(output, "", "node", "node::0", "x_output", f"n{len(self.nodes)}")

    # ---------------------------------------------------------------- the model

    def model(self, outputs: Sequence[onnx.ValueInfoProto], ir_version: int | None = None) -> onnx.ModelProto:
        least = _IR.get(self.opset, 11)
        ir_version = ir_version or (least if self.chance(0.5) else max(least, 10))
        inputs = [self.input_info(name, array) for name, array in self.inputs]
        listed = [self.input_info(name, array, fixed=True) for name, array in self.initializers]
        inputs += listed if ir_version < 4 else []
        tensors = [numpy_helper.from_array(array, name) for name, array in self.initializers]
        graph = helper.make_graph(self.nodes, "drawn", inputs, outputs, tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=self.functions)

    def input_info(self, name: str, array: np.ndarray, fixed: bool = False) -> onnx.ValueInfoProto:
        """Declaration of an input, with symbolic axes here and there."""
        symbolic = not fixed and self.chance(0.3)
        dims = [f"{name}_{axis}" if symbolic and self.chance(0.6) else n for axis, n in enumerate(array.shape)]
        return helper.make_tensor_value_info(name, element_type(array), dims)


_VERSIONS = {"ai.onnx.ml": 3, "com.microsoft": 1}


def element_type(array: np.ndarray) -> int:
    if array.dtype.kind in "UO":
        return TensorProto.STRING
    return helper.np_dtype_to_tensor_dtype(array.dtype)


@lru_cache(maxsize=4096)
def schema_of(op: str, opset: int) -> Any:
    return defs.get_schema(op, opset)


@lru_cache(maxsize=1)
def first_versions() -> dict[str, int]:
    """The opset at which each operator of the default domain appeared."""
    found: dict[str, int] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            found[schema.name] = min(schema.since_version, found.get(schema.name, 10**6))
    return found
