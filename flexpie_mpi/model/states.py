"""Models whose outputs are what the next request reads: which these are, and caches that grow in memory of one size.

A cache grows by the positions of each request, so every request would have shapes of its own. Instead its input gets
room for as many positions as there will ever be, and the model makes only the new ones, which the runtime puts behind
those that are there. What is not there yet is masked. That is right where a model tells positions by its mask and by
numbers that it is given, or can be (:mod:`.counted`): :func:`.growth.check_growth` runs the file both ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

import onnx
from onnx import helper

from ..core.choices import AUTO
from ..core.errors import ModelError
from ..core.graph import Graph, Growth, State, Value
from .inputs import Dim, Shape, dims_of, set_dims
from .outputs import slice_node
from .walks import fresh, reads, taken_names
from .walks import replace as put

USUAL = (
    "present.*=past_key_values.*", "present_key_values.*=past_key_values.*", "present*=past*", "new_*=*", "*_new=*",
    "next_*=*", "*_next=*", "*_out=*_in", "out_*=in_*", "output_*=input_*", "*_out=*", "*n=*0", "*_n=*_0", "*n=*",
    "*N=*", "=past*.encoder.*", "=past*_cross_*",
)  # fmt: skip
"""Names that exporters give the two ends of a state: of caches of keys and values, of recurrent networks; and the one
end of what an encoder has left."""

_KEY = "flexpie_mpi.states"
"""Under this key a skeleton says what its states are."""


def find(graph: onnx.GraphProto, patterns: Sequence[str]) -> tuple[State, ...]:
    """The states that patterns name (as of :class:`..core.choices.StateChoice`), every output and input once.

    One that is passed on as it is has no output, and the graph no longer that output. Raises ModelError when a pattern
    names none.
    """
    inputs = [value.name for value in graph.input]
    outputs = [value.name for value in graph.output]
    found: dict[str, str] = {}  # outputs by inputs
    for pattern in dict.fromkeys(patterns or (AUTO,)):
        pairs: dict[str, str] = {}
        for each in USUAL if pattern == AUTO else (pattern,):
            for output, name in _named(each, outputs, inputs):
                taken = {**found, **pairs}
                if name in inputs and name not in taken and not (output and output in taken.values()):
                    pairs[name] = output
        if not pairs:
            usual = "the usual names (such as present.0.key and past_key_values.0.key)"
            said = usual if pattern == AUTO else f"'{pattern}'"
            raise ModelError(
                f"--state {pattern}: no output and input of the model have {said}: "
                f"its outputs are {', '.join(outputs)}, its inputs {', '.join(inputs)}; export it with what it keeps "
                "from request to request (a decoder with its cache), or name both ends with --state OUTPUT=INPUT"
            )
        found |= pairs
    passed_on = _passed_on(graph, found)
    put(graph.output, [value for value in graph.output if value.name not in passed_on])
    return tuple(State("" if output in passed_on else output, name) for name, output in found.items())


def _named(pattern: str, outputs: Iterable[str], inputs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(output, input) that a pattern stands for, of some outputs, or inputs where it has no output."""
    output, _, name = pattern.partition("=")
    wanted = re.compile(re.escape(output or name).replace(r"\*", "(.*)"), re.DOTALL)
    for each in outputs if output else inputs:
        if (match := wanted.fullmatch(each)) is None:
            continue
        if output:
            yield each, name.replace("*", match[1]) if match.groups() else name
        else:
            yield "", each


def _passed_on(graph: onnx.GraphProto, found: Mapping[str, str]) -> set[str]:
    """Outputs that are the input of the same state, as it is."""
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    passed_on = set()
    for name, output in found.items():
        source = output
        while source in same:
            source = same[source]
        if source == name:
            passed_on.add(output)
    return passed_on


def make_room(
    graph: onnx.GraphProto, states: Sequence[State], most: int, asked: Mapping[str, Shape]
) -> tuple[tuple[State, ...], Growth]:
    """Give the inputs of states that grow room for `most` positions, and those that speak of positions their sizes.

    The sizes of other inputs are those `asked` for; an open axis of theirs that is not the batch is one position, but
    for inputs that speak of an encoder. Raises ModelError when it is not clear which axis grows, or the model does not
    tell positions by a mask.
    """
    inputs = {value.name: value for value in graph.input}
    others = [value for value in graph.input if value.name not in {state.input for state in states}]
    batch: set[Dim] = {dims[0] for value in others if (dims := dims_of(value)) and isinstance(dims[0], str)}
    grown = tuple(
        replace(state, axis=_open_axis(inputs[state.input], batch)) if state.output else state for state in states
    )
    if all(state.axis < 0 for state in grown):
        raise ModelError("--max-length: no state of the model has an axis without a size, so none can grow")
    past = {(dims_of(inputs[state.input]) or ())[state.axis] for state in grown if state.axis >= 0}
    mask, places = (_named_like(others, word) for word in ("mask", "position"))
    if mask is None:
        raise ModelError(
            "--max-length: the model has no input with 'mask' in its name, so it would take positions that hold "
            "nothing yet for others; export it with an attention mask, or run it without --state"
        )
    step = _step([value for value in others if value is not mask], asked)
    total = most if _writes_in_place(graph) else most + step
    for value in graph.input:
        sizes = [most if isinstance(dim, str) and dim in past else dim for dim in dims_of(value) or ()]
        if value in others and value.name not in asked and "encoder" not in value.name.lower():
            last = total if value is mask else step
            sizes = [last if axis and not isinstance(dim, int) else dim for axis, dim in enumerate(sizes)]
        for state in grown:
            if state.input == value.name and state.axis >= 0:
                sizes[state.axis] = most
        set_dims(value, tuple(sizes))
    return grown, Growth(most, step, mask.name, places.name if places is not None else "")


def _named_like(values: Iterable[onnx.ValueInfoProto], word: str) -> onnx.ValueInfoProto | None:
    """The first input with a word in its name, those that speak of an encoder's positions set aside."""
    names = ((value, value.name.lower()) for value in values)
    return next((value for value, name in names if word in name and "encoder" not in name), None)


def _open_axis(value: onnx.ValueInfoProto, batch: set[Dim]) -> int:
    """The one axis of a state without a size, the batch set aside; -1 where there is none."""
    dims = dims_of(value) or ()
    axes = [axis for axis, dim in enumerate(dims) if axis and not isinstance(dim, int) and dim not in batch]
    if len(axes) > 1:
        raise ModelError(
            f"--max-length: input '{value.name}' has {len(axes)} axes without a size, of which one may grow: "
            f"give the model sizes for the others (shape {', '.join(map(str, dims))})"
        )
    return axes[0] if axes else -1


def _step(values: Sequence[onnx.ValueInfoProto], asked: Mapping[str, Shape]) -> int:
    """Positions of a request: as asked for, or as the model has it; one where neither says."""
    named = [value for value in values if re.search("ids|position", value.name.lower())] or values[:1]
    sizes = [(asked.get(value.name), dims_of(value) or ()) for value in named]
    known = [shape[1] for shape, _ in sizes if shape is not None and len(shape) > 1]
    fixed = [dims[1] for _, dims in sizes if len(dims) > 1 and isinstance(dims[1], int)]
    return int((*known, *fixed, 1)[0])


def _writes_in_place(graph: onnx.GraphProto) -> bool:
    """Whether the model itself puts new positions at their places in a cache of one size."""
    return any(node.op_type in ("GroupQueryAttention", "TensorScatter") for node in graph.node)


def declare(proto: onnx.ModelProto, graph: Graph, states: Sequence[State], growth: Growth | None) -> None:
    """Write into a skeleton what its states are; of those that grow, it then makes the new positions by themselves.

    What it makes of states alone it makes where that is first read, so that a rank needs no more of it than there.
    `graph` is the skeleton's. Raises ModelError when the two ends of a state do not fit together.
    """
    taken, written = taken_names(proto), []
    for state in states:
        if not state.output:
            written.append(["", state.input, -1, ""])
            continue
        output, given = graph.value(state.output), graph.value(state.input)
        _check_ends(graph, output, given, state, growth)
        is_part = state.axis >= 0 and output.shape != given.shape
        kept = _sliced(proto, output, state, growth, taken) if is_part and growth else state.output
        written.append([kept, state.input, state.axis, state.output])
    if growth is not None:
        _check_told(graph, growth)
    _make_late(proto.graph, {state.input for state in states})
    said = {"states": written, "growth": growth and astuple(growth)}
    proto.metadata_props.add(key=_KEY, value=json.dumps(said))


def _make_late(graph: onnx.GraphProto, states: set[str]) -> None:
    """Move nodes that read nothing but states, or what is made of them, to the first node that reads what they make."""
    settled, made = {"", *(tensor.name for tensor in graph.initializer)}, set(states)
    read = [set(reads(node)) for node in graph.node]
    places, moved = list(range(len(read))), []
    for place, (node, names) in enumerate(zip(graph.node, read, strict=True)):
        if names <= settled:
            settled.update(node.output)
        elif names <= settled | made:
            made.update(node.output)
            moved.append(place)
    for place in reversed(moved):
        written = set(graph.node[place].output)
        readers = (places[each] for each in range(place + 1, len(places)) if written & read[each])
        places[place] = min(readers, default=place)
    order = sorted(range(len(places)), key=lambda place: (places[place], place))
    put(graph.node, [graph.node[place] for place in order])


def _check_ends(graph: Graph, output: Value, given: Value, state: State, growth: Growth | None) -> None:
    wanted = given.shape
    if growth is not None and state.axis >= 0 and given.shape is not None and output.shape != given.shape:
        wanted = (*given.shape[: state.axis], growth.most + growth.step, *given.shape[state.axis + 1 :])
    if given.is_opaque or output.shape != wanted or output.dtype != given.dtype:
        raise ModelError(
            f"'{output.name}' ({output.shape} {output.dtype}) cannot be what the next request reads as '{given.name}' "
            f"({given.shape} {given.dtype}): a state keeps its shape, or grows by the positions of a request up to "
            "--max-length"
        )
    if output.name not in graph.producer:
        raise ModelError(f"no node of the model makes '{output.name}', so it is no state")


def _check_told(graph: Graph, growth: Growth) -> None:
    """Whether the inputs that speak of positions have the sizes of what is made for them."""
    for name, sizes in ((growth.mask, (growth.most, growth.most + growth.step)), (growth.places, (growth.step,))):
        shape = graph.value(name).shape if name else sizes
        if not shape or shape[-1] not in sizes:
            raise ModelError(
                f"with room for {growth.most} positions and {growth.step} in a request, input '{name}' has shape "
                f"{shape}: leave its size out, or ask for {' or '.join(map(str, sizes))}"
            )


def _sliced(proto: onnx.ModelProto, output: Value, state: State, growth: Growth, taken: set[str]) -> str:
    """The name of the new positions of a state, which a node behind the one that writes the state takes out of it."""
    assert output.shape is not None, "checked before"
    graph, name = proto.graph, fresh(f"{state.output}::new", taken)
    new = slice(growth.most, growth.most + growth.step)
    node = slice_node(proto, state.output, name, [(state.axis, new)], taken)
    shape = (*output.shape[: state.axis], growth.step, *output.shape[state.axis + 1 :])
    kind = next(value.type.tensor_type.elem_type for value in graph.output if value.name == state.output)
    graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))
    behind = 1 + next(place for place, each in enumerate(graph.node) if state.output in each.output)
    put(graph.node, [*graph.node[:behind], node, *graph.node[behind:]])
    return name


def declared(proto: onnx.ModelProto) -> tuple[tuple[State, ...], Growth | None, dict[str, str]]:
    """What a skeleton says of its states, and the model's own output of those with one, by the input of the state."""
    text = next((item.value for item in proto.metadata_props if item.key == _KEY), "")
    if not text:
        return (), None, {}
    said: dict[str, Any] = json.loads(text)
    states = tuple(State(output, name, axis) for output, name, axis, _ in said["states"])
    growth = Growth(*said["growth"]) if said["growth"] else None
    return states, growth, {name: own for _, name, _, own in said["states"] if own}
