"""Runs of a model before a request: on made-up inputs, and of the untouched file to compare with.

The first show what onnxruntime really computes: the shape of every value, and outputs. A ``Shape`` node behind every
value tells its size, so that no value has to be kept longer than in any other run. Inputs that are made up are not
always valid (a table of one row, lengths that contradict each other). An operator that refuses them is left out
together with the others of its type: what it writes enters the model as zeros, of the shape that is known without a
run.

The second decide whether a rewriting is used. Folding, inlining and canonical form are meant to keep the meaning of a
model. That is not believed: a model whose results differ from the file's is not used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..core.budget import Budget
from ..core.errors import ModelError
from .equality import TOLERANCE, compare
from .outputs import picked
from .rewrite import Shape
from .session import LateError, Level, RunError, Session, accept, can_feed, create, options_of, with_weights, zeros
from .settled import Types, is_random
from .walks import fresh, nodes_inside, reads, replace, taken_names
from .weights import Source

RUN_S = 60.0
"""Longest run on made-up inputs."""
LOOP_S = 3.0
"""The same of a model with loops, which may never end on inputs that mean nothing."""

_ROUNDS = 8
"""Types of operators that are left out, at most."""
_FAILED_NODE = re.compile(r"while running \w+ node\. Name:'(.*?)' Status Message", re.DOTALL)
_LOOPS = frozenset(("Loop", "Scan", "SequenceMap"))

_UNITS = 8
"""A model with types that are coarser than the tolerance may differ by so many units in the last place instead."""


@dataclass(frozen=True)
class Measured:
    """What a run showed."""

    feeds: Mapping[str, Any] = field(default_factory=dict)  # the inputs that were made up
    shapes: dict[str, Shape] = field(default_factory=dict)  # of every computed tensor that was reached
    outputs: dict[str, Any] | None = None  # of the model itself; None when a part of it was left out


def measure(source: Source, types: Types, static: Mapping[str, Shape], feeds: Mapping[str, Any]) -> Measured:
    """Run a model, in topological order, once.

    `types` are those of every value, `static` the shapes that are known without a run, and `feeds` every input. Raises
    LateError when the run does not end in time.
    """
    left_out: set[tuple[str, str]] = set()
    limit_s = time_limit(source.proto.graph)
    for _ in range(_ROUNDS):
        part, made, probes = _part(source, types, static, left_out)
        try:
            outputs = accept(part).run({**feeds, **made}, limit_s)
        except ModelError:
            return Measured()
        except LateError:
            raise
        except RunError as error:
            failed = _failed(source.proto.graph, str(error))
            if failed is None or failed in left_out:
                return Measured()
            left_out.add(failed)
            continue
        shapes = {name: tuple(outputs[probe].tolist()) for name, probe in probes.items()}
        names = (value.name for value in source.proto.graph.output)
        complete = None if left_out else {name: outputs[name] for name in names if name in outputs}
        return Measured(feeds, shapes, complete)
    return Measured()


def time_limit(graph: onnx.GraphProto) -> float:
    """Seconds that a run on made-up inputs may take."""
    return LOOP_S if any(node.op_type in _LOOPS for node in nodes_inside(graph.node)) else RUN_S


def made_up(graph: onnx.GraphProto) -> Iterator[dict[str, Any]]:
    """Inputs to try, one set after the other: seeded random numbers, then zeros; none when a type cannot be made up."""
    tensors = {value.name: value.type.tensor_type for value in graph.input}
    if not all(value.type.HasField("tensor_type") for value in graph.input):
        return
    if not all(can_feed(tensor.elem_type) for tensor in tensors.values()):
        return
    plain = {
        name: zeros(tensor.elem_type, [dim.dim_value for dim in tensor.shape.dim]) for name, tensor in tensors.items()
    }
    generator = np.random.default_rng(0)
    if plain:
        yield {name: _random(array, generator) for name, array in plain.items()}
    yield plain


def _random(like: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Standard normal numbers; integers are 0 or 1, so that they are valid in tables of two rows and more."""
    if like.dtype.kind == "f":
        return generator.standard_normal(like.shape).astype(like.dtype)
    return generator.integers(0, 2, like.shape).astype(like.dtype)


def _part(
    source: Source, types: Types, static: Mapping[str, Shape], left_out: Collection[tuple[str, str]]
) -> tuple[Source, dict[str, np.ndarray], dict[str, str]]:
    """The part of a model that does not need what is left out, with a probe behind every tensor.

    With it go zeros, inputs of the part in place of what the operators that are left out would write, and the name of
    each value's probe: the output that tells its shape.
    """
    made: dict[str, np.ndarray] = {}
    probes: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    gone: set[str] = set()
    taken = taken_names(source.proto)
    for node in source.proto.graph.node:
        written = {name: types[name] for name in node.output if name}
        if (node.domain, node.op_type) in left_out or not gone.isdisjoint(reads(node)):
            for name, kind in written.items():
                if name in static and can_feed(kind.tensor_type.elem_type):
                    made[name] = zeros(kind.tensor_type.elem_type, static[name])
                else:
                    gone.add(name)
            continue
        nodes.append(node)
        tensors = (name for name, kind in written.items() if kind.HasField("tensor_type"))
        probes |= {name: fresh(f"{name}_shape", taken) for name in tensors}
    proto = deepcopy(source.proto)
    graph = proto.graph
    if made or gone:
        replace(graph.node, nodes)
    graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in made.items()
    )
    replace(graph.output, [value for value in graph.output if value.name not in gone | made.keys()])
    del graph.value_info[:]
    for name, probe in probes.items():
        graph.node.add(op_type="Shape", input=[name], output=[probe])
        graph.output.append(helper.make_tensor_value_info(probe, onnx.TensorProto.INT64, None))
    return Source(proto, source.stored), made, probes


def _failed(graph: onnx.GraphProto, text: str) -> tuple[str, str] | None:
    """Domain and type of the operator that onnxruntime says has failed."""
    match = _FAILED_NODE.search(text)
    by_name = {node.name: (node.domain, node.op_type) for node in graph.node}
    return by_name.get(match[1]) if match else None


class Original:
    """The untouched file of a model, run in sessions of its own: without optimisations, and with the default ones.

    The second counts where the first differs: what an optimiser of onnxruntime does to every user's session is no
    fault of ours. A model with more weights than the budget is not loaded a second time; `runs` tells whether models
    may be run at all, and `source` is the file as it was read. It stands for the file where that has no `path`.
    """

    def __init__(self, path: Path | None, source: Source, budget: Budget, *, runs: bool = True) -> None:
        self.runs = runs
        self._path, self._source = path, source
        self._wanted = [value.name for value in source.proto.graph.output]
        self._limit_s = time_limit(source.proto.graph)
        self._tolerance = max(TOLERANCE, _UNITS * _coarsest(source.proto))
        self._is_random = any(is_random(node) for node in nodes_inside(source.proto.graph.node))
        self._nbytes = sum(stored.length for stored in source.stored.values())
        self._is_large = self._nbytes > budget.nbytes
        self._opened: list[Session | ModelError] = []

    @cached_property
    def reason_to_skip(self) -> str:
        """Why nothing can be compared, for the end of a sentence; empty where it can."""
        if self._is_random:
            return "it draws random numbers"
        if self._is_large:
            return f"its {self._nbytes / 1e9:.3g} GB of weights would be in memory a second time"
        return ""

    def agrees(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any]) -> bool:
        """Whether a run of the file gives these outputs; also when it does not run with these inputs.

        Raises ModelError when onnxruntime does not accept the file.
        """
        could_run = False
        for session in self._sessions():
            try:
                expected = picked(self._wanted, session.run(feeds, self._limit_s))
            except RunError:
                continue
            could_run = True
            checks = (compare(name, outputs.get(name), expected[name], tolerance=self._tolerance) for name in expected)
            if not any(check.problem for check in checks):
                return True
        return not could_run

    def check_accepted(self) -> None:
        """Check that onnxruntime accepts the file, where that takes no more memory than it may.

        Raises ModelError when it does not.
        """
        if not self._is_large:
            next(self._sessions())

    def _open(self, level: Any) -> Session:
        model, arrays = (self._path, {}) if self._path else with_weights(self._source, ())
        return create(model, options_of(level), arrays)

    def _sessions(self) -> Iterator[Session]:
        """Sessions of the file, each made when it is first asked for.

        Raises ModelError when there is none; the reason is that of the session without optimisations.
        """
        for number, level in enumerate((Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL)):
            if number == len(self._opened):
                try:
                    self._opened.append(self._open(level))
                except ModelError as error:
                    self._opened.append(error)
            session = self._opened[number]
            if isinstance(session, Session):
                yield session
        if isinstance(self._opened[0], ModelError) and isinstance(self._opened[1], ModelError):
            raise self._opened[0]


def _coarsest(proto: onnx.ModelProto) -> float:
    """Unit in the last place, relative to 1, of the coarsest type of floats that a model speaks of."""
    types = onnx.TensorProto
    units: dict[int, float] = {types.FLOAT16: 2.0**-10, types.BFLOAT16: 2.0**-7}
    return max((units.get(kind, 0.0) for kind in _element_types(proto)), default=0.0)


def _element_types(proto: onnx.ModelProto) -> Iterable[int]:
    """Element types of inputs, outputs, initializers and casts."""
    graph = proto.graph
    yield from (value.type.tensor_type.elem_type for value in (*graph.input, *graph.output))
    yield from (tensor.data_type for tensor in graph.initializer)
    for node in nodes_inside(graph.node):
        yield from (item.i for item in node.attribute if item.name == "to")
