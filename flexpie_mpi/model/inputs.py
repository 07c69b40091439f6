"""Static shapes for the inputs of a model: what the caller asks for, and the batch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import onnx

from ..errors import ModelError

Shape = tuple[int, ...]
Dim = int | str | None
"""A known size, a symbol, or nothing known."""


def bind_inputs(graph: onnx.GraphProto, shapes: Mapping[str, Shape], batch: int = 1) -> None:
    """Make the shape of every input static.

    The asked-for `shapes` come first; a symbol gets the same size wherever it stands. Then a first axis that is still
    unknown is taken for the batch. Types of values other than inputs lose their shapes, which may speak of symbols.

    Raises
    ------
    ModelError
        A shape does not fit its input, an axis remains unknown, or a batch is asked for that no input can have.
    """
    inputs = {value.name: value for value in graph.input}
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            raise ModelError(f"--shape {name}: the model has no such input{_nearest(name, list(inputs))}.")
        _apply(inputs[name], tuple(shape), symbols)
    for value in graph.input:
        dims = _dims(value)
        if dims and isinstance(dims[0], str | None):
            size = symbols.setdefault(dims[0], batch) if dims[0] else batch
            _set_dims(value, (size, *dims[1:]))
    for value in graph.input:
        _complete(value, symbols)
    _check_batch(graph, batch)
    _forget_other_shapes(graph)


def _apply(value: onnx.ValueInfoProto, shape: Shape, symbols: dict[str, int]) -> None:
    """Give one input the shape asked for."""
    asked, name = _text(shape), value.name
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"--shape {name}={asked}: input '{name}' is no tensor and has no shape.")
    if any(size < 0 for size in shape):
        raise ModelError(f"--shape {name}={asked}: sizes cannot be negative.")
    dims = _dims(value)
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
    _set_dims(value, shape)


def _complete(value: onnx.ValueInfoProto, symbols: Mapping[str, int]) -> None:
    """Fill in symbols whose size is known by now; nothing may remain unknown."""
    if not value.type.HasField("tensor_type"):
        return
    dims = _dims(value)
    if dims is None:
        raise ModelError(f"Input '{value.name}' has no shape in the model: give it with --shape {value.name}=...")
    sizes = tuple(symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in dims)
    if not all(isinstance(size, int) for size in sizes):
        raise ModelError(
            f"Input '{value.name}' has shape [{_text(sizes)}], which is not fixed: "
            f"give every size with --shape {value.name}={_text(sizes, '?')}."
        )
    _set_dims(value, sizes)


def _check_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Refuse a batch that no input has: the axis may be fixed, or have got another size."""
    shapes = [(value.name, dims) for value in graph.input if (dims := _dims(value))]
    if batch != 1 and not any(dims[0] == batch for _, dims in shapes):
        listed = ", ".join(f"'{name}': {_text(dims)}" for name, dims in shapes) or "none"
        raise ModelError(f"A batch of {batch} needs an input whose first axis is symbolic; the inputs are {listed}.")


def _dims(value: onnx.ValueInfoProto) -> tuple[Dim, ...] | None:
    """Axes of a tensor as the model gives them; None when it gives no shape."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(_dim(item) for item in value.type.tensor_type.shape.dim)


def _dim(item: onnx.TensorShapeProto.Dimension) -> Dim:
    if item.HasField("dim_value") and item.dim_value >= 0:
        return item.dim_value
    return item.dim_param or None


def _set_dims(value: onnx.ValueInfoProto, dims: tuple[Dim, ...]) -> None:
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
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _text(dims: tuple[Dim, ...] | None, unknown: str = "") -> str:
    return ",".join(str(dim) if isinstance(dim, int) else unknown or dim or "?" for dim in dims or ())


def _nearest(name: str, names: list[str]) -> str:
    """Ending of a sentence: what there is instead."""
    close = difflib.get_close_matches(name, names, 1)
    listed = ", ".join(f"'{item}'" for item in names) or "none"
    return f"; did you mean '{close[0]}'" if close else f"; its inputs are {listed}"
