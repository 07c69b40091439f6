"""Elementwise operators."""

from __future__ import annotations

from ..draft import Draft
from .drawing import draws

_REAL = ("float64", "float16")
_NUMBERS = ("float64", "float16", "int32", "int64", "int8", "uint8", "uint32", "int16")


@draws(
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log",
    "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan",
    "Tanh", "HardSwish", "Mish", "Identity", "IsNaN",
)  # fmt: skip
def unary(d: Draft, op: str) -> list[str]:
    dtype = d.dtype(*_NUMBERS) if op in ("Abs", "Neg", "Relu", "Sign", "Identity") else d.dtype(*_REAL)
    return d.call(op, [d.value(d.shape(0, 5), dtype)])


@draws("Elu", "LeakyRelu", "Selu", "HardSigmoid", "Celu", "ThresholdedRelu", "Shrink", "Gelu", "Swish", weight=1.5)
def activation(d: Draft, op: str) -> list[str]:
    settings = {} if d.chance(0.3) else dict(
        alpha=d.pick(0.1, 0.5, 1.0, 1.5), beta=d.pick(0.2, 0.5), gamma=1.1, bias=d.pick(0.0, 0.2),
        lambd=d.pick(0.1, 0.5), approximate=d.pick("none", "tanh"),
    )  # fmt: skip
    return d.call(op, [d.value(d.shape(0, 5), d.dtype(*_REAL))], **settings)


@draws("Clip", weight=1.5)
def clip(d: Draft, op: str) -> list[str]:
    dtype = d.dtype(*_NUMBERS) if d.opset > 11 else "float32"
    low, high = (d.array((), dtype, 0, 5), d.array((), dtype, 5, 20))
    old = d.opset < 11
    settings = dict(min=float(low) if old else low, max=float(high) if old else high)
    for key in ("min", "max"):
        if d.chance(0.25):
            del settings[key]
    return d.call(op, [d.value(d.shape(0, 5), dtype)], **settings)


@draws("Cast", "CastLike")
def cast(d: Draft, op: str) -> list[str]:
    from_type, to_type = (d.pick("float32", *_NUMBERS, "bool") for _ in range(2))
    data = d.value(d.shape(0, 5), from_type, low=0, high=9)
    if op == "CastLike":
        return d.call(op, [data, d.parameter(d.array(d.pick((), (1,), (2, 3)), to_type, 0, 9))])
    number = {
        "float32": 1,
        "uint8": 2,
        "int8": 3,
        "int16": 5,
        "int32": 6,
        "int64": 7,
        "bool": 9,
        "float16": 10,
        "float64": 11,
        "uint32": 12,
    }
    return d.call(op, [data], to=number[to_type])


@draws("Dropout", weight=0.6)
def dropout(d: Draft, op: str) -> list[str]:
    settings = dict(ratio=0.5) if d.opset < 12 else {}
    return d.call(op, [d.value(d.shape(1, 5))], d.pick(1, 2), **settings)


@draws("IsInf", "Not", "BitwiseNot", weight=0.6)
def bits(d: Draft, op: str) -> list[str]:
    if op == "IsInf":
        value = d.array(d.shape(1, 4)) * d.numbers.choice([1.0, float("inf")])
        return d.call(
            op, [d.given(value.astype("float32"))], detect_negative=d.pick(0, 1), detect_positive=d.pick(0, 1)
        )
    return d.call(op, [d.value(d.shape(0, 4), "bool" if op == "Not" else d.pick("int8", "uint16", "int32", "uint64"))])


def _operands(d: Draft, dtype: str, **bounds: int) -> list[str]:
    """Two that broadcast: each an input or a constant, at times the same value twice."""
    shape = d.shape(0, 5)
    left, right = shape, d.broadcast_of(shape)
    if d.chance(0.5):
        left, right = right, left
    first = d.value(left, dtype, **bounds)
    if d.chance(0.08):
        return [first, first]
    second = d.fixed(d.array(right, dtype, **bounds)) if d.chance(0.35) else d.value(right, dtype, **bounds)
    return [first, second] if d.chance(0.7) else [second, first]


@draws("Add", "Sub", "Mul", "Div", weight=2)
def arithmetic(d: Draft, op: str) -> list[str]:
    return d.call(op, _operands(d, d.dtype("float64", "int32", "int64", "float16"), low=1))


@draws("Pow", "PRelu", "Mod", "BitShift")
def pairs(d: Draft, op: str) -> list[str]:
    if op == "PRelu":
        shape = d.shape(1, 4)
        return d.call(op, [d.value(shape), d.parameter(d.array(d.broadcast_of(shape, upwards=False)))])
    if op == "BitShift":
        return d.call(op, _operands(d, d.pick("uint8", "uint32", "uint64"), high=7), direction=d.pick("LEFT", "RIGHT"))
    if op == "Mod":
        dtype = d.dtype("int64", "int8", "uint8", common="int32")
        is_real = d.chance(0.3)
        return d.call(op, _operands(d, "float32" if is_real else dtype, low=1), fmod=1 if is_real else d.pick(0, 1))
    exponent = d.fixed(d.array((), d.dtype("int64", "int32"), 0, 4))
    return d.call(op, [d.value(d.shape(1, 4)), exponent])


@draws("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", weight=1.5)
def compare(d: Draft, op: str) -> list[str]:
    return d.call(op, _operands(d, d.dtype("int32", "int64", "float64"), low=0, high=4))


@draws("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
def logic(d: Draft, op: str) -> list[str]:
    return d.call(op, _operands(d, d.pick("int8", "int32", "uint16") if op.startswith("Bitwise") else "bool"))


@draws("Max", "Min", "Mean", "Sum", weight=1.5)
def several(d: Draft, op: str) -> list[str]:
    shape = d.shape(0, 4)
    dtype = d.dtype("int32", "float64", "float16") if op in ("Max", "Min") else "float32"
    shapes = [shape, *(d.broadcast_of(shape) for _ in range(d.between(0, 3)))]
    return d.call(op, [d.value(item, dtype) if d.chance(0.8) else d.fixed(d.array(item, dtype)) for item in shapes])


@draws("Where", weight=1.5)
def where(d: Draft, op: str) -> list[str]:
    shape, dtype = d.shape(0, 4), d.dtype("int64", "bool", "uint8", "float64")
    shapes = [d.broadcast_of(shape) for _ in range(3)]
    names = [d.value(shapes[0], "bool"), d.value(shapes[1], dtype), d.value(shapes[2], dtype)]
    return d.call(op, names)
