"""Matrix products and sums over named axes."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws


def _matrices(d: Draft) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that multiply: stacked, broadcast, or vectors."""
    rows, summed, columns = d.extent(1, 8), d.extent(1, 8), d.extent(1, 8)
    batch = d.shape(0, 2) if d.chance(0.5) else ()
    left, right = (*d.broadcast_of(batch), rows, summed), (*d.broadcast_of(batch), summed, columns)
    if d.chance(0.08):
        left = (summed,)
    if d.chance(0.08):
        right = (summed,)
    return left, right


@draws("MatMul", weight=3)
def matmul(d: Draft, op: str) -> list[str]:
    left, right = _matrices(d)
    dtype = d.dtype("float64", "int32", "int64")
    first, second = d.value(left, dtype), d.fixed(d.array(right, dtype)) if d.chance(0.5) else d.value(right, dtype)
    return d.call(op, [first, second])


@draws("Gemm", weight=2)
def gemm(d: Draft, op: str) -> list[str]:
    rows, summed, columns = d.extent(1, 8), d.extent(1, 8), d.extent(1, 8)
    left, right = d.pick(0, 1), d.pick(0, 1)
    inputs = [
        d.value((summed, rows) if left else (rows, summed)),
        d.parameter(d.array((columns, summed) if right else (summed, columns)), 0.7),
    ]
    if d.opset < 11 or d.chance(0.6):
        inputs.append(d.parameter(d.array(d.pick((rows, columns), (columns,), (1, columns), (rows, 1), (), (1,))), 0.8))
    return d.call(
        op, inputs, alpha=d.pick(None, 0.5), beta=d.pick(None, 0.25, 0.0), transA=left or None, transB=right or None
    )


@draws("MatMulInteger", "QLinearMatMul", weight=1.5)
def integers(d: Draft, op: str) -> list[str]:
    rows, summed, columns = d.between(1, 8), d.between(1, 8), d.between(1, 8)
    batch = d.pick((), (), (2,), (2, 3))
    left_type, right_type = d.pick(("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8"))
    left = d.value((*batch, rows, summed), left_type)
    right = d.parameter(d.array((*d.pick((), batch), summed, columns), right_type), 0.7)
    by_column = d.chance(0.4)
    zero_right = d.fixed(d.array((columns,) if by_column else (), right_type, 0, 3))
    zero_left = d.fixed(d.array((), left_type, 0, 3))
    if op == "MatMulInteger":
        return d.call(op, [left, right, zero_left, zero_right][: d.pick(2, 3, 4)])
    scale_right = d.fixed(abs(d.array((columns,) if by_column else ())) + 0.1)
    one, result = d.fixed(np.float32(0.1)), d.fixed(np.float32(d.pick(0.5, 3.0)))
    return d.call(op, [left, one, zero_left, right, scale_right, zero_right, result, zero_left])


_EQUATIONS = (
    "ij,jk->ik", "bij,bjk->bik", "ij->ji", "ij->i", "ii->i", "ij,kj->ik", "i,j->ij", "bhqd,bhkd->bhqk", "ij,ij->",
    "ij,jk", "bij,jk->bik", "...ij,...jk->...ik", "i,i->", " a b , b c -> c a", "ijk->kj", "Ab,bC->AC", "ii",
    "bij,bkj", "abc,cd,de->abe",
)  # fmt: skip


@draws("Einsum", weight=2)
def einsum(d: Draft, op: str) -> list[str]:
    equation = d.pick(*_EQUATIONS)
    extents: dict[str, int] = {}
    batch, names = d.shape(1, 2), []
    for term in equation.partition("->")[0].replace(" ", "").split(","):
        letters = term.replace("...", "")
        shape = tuple(extents.setdefault(letter, d.extent(1, 6)) for letter in letters)
        shape = tuple(1 if d.chance(0.05) else extent for extent in shape)
        shape = (*batch, *shape) if term.startswith("...") else shape
        names.append(d.value(shape) if d.chance(0.7) else d.fixed(d.array(shape)))
    return d.call(op, names, equation=equation)
