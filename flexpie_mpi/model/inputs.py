"""What the caller asks of a model: static shapes for its inputs, the batch, and which outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx

from ..core.errors import DataError, ModelError
from .walks import nearest, subgraphs

SIZE_OF = "size of "
"""Begins a key of a model's metadata: ``size of frames`` says what symbol ``frames`` is where nobody says another."""

Shape = tuple[int, ...]
Dim = int | str | None
"""A known size, a symbol, or nothing known."""


Dims = tuple[Dim, ...]
OfferedShapes = Callable[[Mapping[str, Dims | None]], Iterable[tuple[str, Shape, str, bool]]]
"""What given files say: from the declared axes of all inputs by name to (input, shape, file, whether that is firm); a
picture's shape is not firm: it can be made any other."""


def offer_nothing(declared: Mapping[str, Dims | None]) -> Iterable[tuple[str, Shape, str, bool]]:
    """Of no files."""
    return ()


@dataclass(frozen=True)
class Asked:
    """What is asked of a model besides its batch."""

    shapes: Mapping[str, Shape] = field(default_factory=dict)  # of inputs by name; one size of an axis by its symbol
    offer: OfferedShapes = offer_nothing  # where shapes of other inputs may be seen
    outputs: Sequence[str] | None = None  # wanted ones, as of :func:`.outputs.select_outputs`; all where that is None


Shapes = Mapping[str, Shape] | Asked


def bind_axes(graph: onnx.GraphProto, asked: Asked) -> Asked:
    """Give axes whose symbols are asked for their sizes, wherever they stand; what else is asked for.

    Raises ModelError when a symbol is given something else than one size, or a name is none of an input or a symbol.
    """
    inputs = [value.name for value in graph.input]
    dims = [dim for value in graph.input for dim in dims_of(value) or () if isinstance(dim, str)]
    terms = [*dims, *(term for dim in dims for term in _terms(dim) if not term.isdecimal())]
    named = [term for term in dict.fromkeys(terms) if term not in inputs]
    for name in asked.shapes.keys() - {*inputs, *named}:
        near = nearest(name, [*inputs, *named], "inputs and axes" if named else "inputs")
        raise ModelError(f"--shape {name}: the model has no such input or axis{near}.")
    sizes = {name: _one_size(name, shape) for name, shape in asked.shapes.items() if name in named}
    for value in graph.input:
        if any(isinstance(dim, str) for dim in dims_of(value) or ()):
            set_dims(value, tuple(_with_sizes(dim, sizes) for dim in dims_of(value) or ()))
    return replace(asked, shapes={name: shape for name, shape in asked.shapes.items() if name not in sizes})


def bind_inputs(proto: onnx.ModelProto, asked: Asked, batch: int = 1) -> None:
    """Make the shape of every input static.

    The asked-for shapes come first, then those of given files, then what the model's metadata says of symbols. A symbol
    gets the same size wherever it stands, and one like ``past + new`` the sum of those it names. Then a first axis that
    is still unknown is taken for the batch. Types of values other than inputs lose their shapes, which may speak of
    symbols. Raises ModelError when a shape does not fit its input, axes remain unknown, or a batch is asked for that no
    input can have. Raises DataError when a file's shape does not fit its input, or what else is asked for.
    """
    graph = proto.graph
    inputs = {value.name: value for value in graph.input}
    symbols: dict[str, int] = {}
    for name, shape in asked.shapes.items():
        _apply(inputs[name], tuple(shape), symbols)
    if any(map(_is_open, graph.input)):
        _take(asked.offer, inputs, symbols)
    for value in graph.input:
        dims = dims_of(value)
        if dims and isinstance(dims[0], str | None):
            size = symbols.setdefault(dims[0], batch) if dims[0] else batch
            set_dims(value, (size, *dims[1:]))
    _complete(graph.input, {**_said_sizes(proto), **symbols})
    _check_batch(graph, batch)
    _forget_other_shapes(graph)


def _take(offer: OfferedShapes, inputs: Mapping[str, onnx.ValueInfoProto], symbols: dict[str, int]) -> None:
    """Give open axes the sizes that files have.

    Each array has its own shape: onnxruntime does not mind when two have different sizes of one symbol.
    """
    declared = {name: dims_of(value) for name, value in inputs.items()}
    offered, asked = list(offer(declared)), dict(symbols)
    for name, shape, where, _ in (item for item in offered if item[3]):
        _accept(inputs[name], shape, asked, where)
        for dim, size in zip(declared[name] or (), shape, strict=False):
            if isinstance(dim, str):
                symbols.setdefault(dim, size)
    for name, shape, _, _ in (item for item in offered if not item[3]):
        _accept(inputs[name], shape, symbols, "")


def _is_open(value: onnx.ValueInfoProto) -> bool:
    """Whether a tensor has an axis without a size."""
    dims = dims_of(value)
    return value.type.HasField("tensor_type") and (dims is None or not all(isinstance(dim, int) for dim in dims))


def _apply(value: onnx.ValueInfoProto, shape: Shape, symbols: dict[str, int]) -> None:
    """Give one input the shape asked for."""
    asked, name = _text(shape), value.name
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"--shape {name}={asked}: input '{name}' is no tensor and has no shape.")
    if any(size < 0 for size in shape):
        raise ModelError(f"--shape {name}={asked}: sizes cannot be negative.")
    dims = dims_of(value)
    if dims is not None and len(dims) != len(shape):
        raise ModelError(
            f"--shape {name}={asked} has {len(shape)} axes, but input '{name}' has {len(dims)}: {_text(dims)}."
        )
    for axis, (dim, size) in enumerate(zip(dims or (None,) * len(shape), shape, strict=True)):
        if isinstance(dim, int) and dim > 0 and dim != size:
            raise ModelError(f"--shape {name}={asked}: axis {axis} of input '{name}' is fixed at {dim}: {_text(dims)}.")
        if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
            raise ModelError(
                f"--shape {name}={asked}: axis {axis} is '{dim}', which another --shape makes {symbols[dim]}."
            )
    set_dims(value, shape)


def _accept(value: onnx.ValueInfoProto, shape: Shape, known: Mapping[str, int], where: str) -> None:
    """Give the open axes of one input the sizes that its file has; `where` is empty when the file has to give way."""
    dims = dims_of(value)
    wanted = shape if dims is None else tuple(_size(dim, known) for dim in dims)
    fits = len(wanted) == len(shape)
    sizes = tuple(b if a is None else a for a, b in zip(wanted, shape, strict=True)) if fits else wanted
    if where and sizes != shape:
        said = _text(sizes) if fits else _text(dims)
        raise DataError(f"'{where}' has shape {_text(shape)} and input '{value.name}' wants {said}")
    if fits and value.type.HasField("tensor_type"):
        set_dims(value, sizes)


def _size(dim: Dim, symbols: Mapping[str, int]) -> int | None:
    """The size of an axis; of one like ``past + new`` the sum, where both are known."""
    if not isinstance(dim, str) or dim in symbols:
        return symbols[dim] if isinstance(dim, str) else dim
    terms = [int(term) if term.isdecimal() else symbols.get(term) for term in _terms(dim)]
    return None if None in terms else sum(filter(None, terms))


def _terms(dim: str) -> list[str]:
    """The symbols, and numbers, that one like ``past + 1`` is the sum of."""
    return [term.strip() for term in dim.split("+")]


def _with_sizes(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    """An axis with some symbols' sizes: a sum may be left of it."""
    if not isinstance(dim, str) or (size := _size(dim, sizes)) is not None:
        return size if isinstance(dim, str) else dim
    return " + ".join(str(sizes.get(term, term)) for term in _terms(dim))


def _one_size(name: str, shape: Shape) -> int:
    if len(shape) != 1 or shape[0] < 0:
        raise ModelError(f"--shape {name}={_text(shape)}: '{name}' is an axis and takes one size, 0 or more.")
    return shape[0]


def _said_sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Sizes of symbols by the model's metadata."""
    said = {
        entry.key.removeprefix(SIZE_OF): entry.value for entry in proto.metadata_props if entry.key.startswith(SIZE_OF)
    }
    return {name: int(size) for name, size in said.items() if len(size) < 10 and size.isdecimal()}


def _complete(inputs: Iterable[onnx.ValueInfoProto], symbols: Mapping[str, int]) -> None:
    """Fill in symbols whose size is known by now; nothing may remain unknown."""
    missing = {}
    for value in inputs:
        dims = dims_of(value)
        if dims is not None:
            set_dims(value, tuple(dim if (size := _size(dim, symbols)) is None else size for dim in dims))
        if _is_open(value):
            missing[value.name] = dims_of(value)
    if missing:
        said, words = zip(*_open_inputs(missing, symbols), strict=True)
        raise ModelError(f"Input {', input '.join(said)} in the model: give every size with {' '.join(words)}")


def _open_inputs(missing: Mapping[str, Dims | None], symbols: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What is said of inputs with open axes, and how to give their sizes; of those that no earlier one decides."""
    decided = set(symbols)
    for name, dims in missing.items():
        if dims is None:
            yield f"'{name}' has no shape", f"--shape {name}=..."
            continue
        terms = [term for dim in dims if isinstance(dim, str) for term in _terms(dim) if not term.isdecimal()]
        new = [term for term in dict.fromkeys(terms) if term not in decided]
        if len(new) == 1 and None not in dims and new[0] not in missing:
            yield f"'{name}' has shape [{_text(dims)}]", f"--shape {new[0]}=?"
        elif new or None in dims:
            yield f"'{name}' has shape [{_text(dims)}]", f"--shape {name}={_text(dims, '?')}"
        decided.update(new)


def _check_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Refuse a batch that no input has: the axis may be fixed, or have got another size."""
    shapes = [(value.name, dims) for value in graph.input if (dims := dims_of(value))]
    if batch != 1 and not any(dims[0] == batch for _, dims in shapes):
        listed = ", ".join(f"'{name}': {_text(dims)}" for name, dims in shapes) or "none"
        raise ModelError(f"A batch of {batch} needs an input whose first axis is symbolic; the inputs are {listed}.")


def dims_of(value: onnx.ValueInfoProto) -> Dims | None:
    """Axes of a tensor as the model gives them; None when it gives no shape."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(_dim(item) for item in value.type.tensor_type.shape.dim)


def _dim(item: onnx.TensorShapeProto.Dimension) -> Dim:
    if item.HasField("dim_value") and item.dim_value >= 0:
        return item.dim_value
    return item.dim_param or None


def set_dims(value: onnx.ValueInfoProto, dims: Dims) -> None:
    """Give a tensor other axes."""
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    tensor.shape.SetInParent()
    for dim in dims:
        item = tensor.shape.dim.add()
        if isinstance(dim, int):
            item.dim_value = dim
        elif dim is not None:
            item.dim_param = dim


def _forget_other_shapes(graph: onnx.GraphProto) -> None:
    """Drop what the model declares of values other than inputs, in subgraphs as well: it is no proof."""
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for inner in subgraphs(node):
            _forget_other_shapes(inner)


def _text(dims: Dims | None, unknown: str = "") -> str:
    return ",".join(str(dim) if isinstance(dim, int) else unknown or dim or "?" for dim in dims or ())
