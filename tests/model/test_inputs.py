"""Static shapes of inputs, and what is said when they cannot be."""

from __future__ import annotations

import pytest
from onnx import helper

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model.inputs import Asked, bind_axes, bind_inputs

from .build import make


def bound(inputs, shapes=None, batch=1, said=None):
    proto = make([("Identity", [next(iter(inputs))], ["out"])], inputs, ["out"])
    helper.set_model_props(proto, said or {})
    bind_inputs(proto, bind_axes(proto.graph, Asked(shapes or {})), batch)
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in proto.graph.input}


@pytest.mark.parametrize("batch", ["N", None, -1])
def test_an_unknown_batch_is_one(batch):
    assert bound({"x": (batch, 3, 8, 8)}) == {"x": (1, 3, 8, 8)}


def test_a_fixed_shape_stays():
    assert bound({"x": (4, 3), "scalar": ()}) == {"x": (4, 3), "scalar": ()}


def test_a_symbol_has_one_size_everywhere():
    inputs = {"a": ("N", "T", 8), "b": ("N", "T"), "c": ("T",)}
    assert bound(inputs, {"a": (2, 5, 8)}) == {"a": (2, 5, 8), "b": (2, 5), "c": (5,)}


PAST = {"new": ("N", "new"), "mask": ("N", "past + new"), "past": ("N", 4, "past", 8)}


def test_a_sum_of_symbols_is_the_sum_of_their_sizes():
    asked = {"new": (1, 3), "past": (1, 4, 0, 8)}
    assert bound(PAST, asked) == {"new": (1, 3), "mask": (1, 3), "past": (1, 4, 0, 8)}


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({"past": (1, 4, 5, 8), "fresh": (3,)}, (3, 8, 5)),  # an input is meant before an axis of its name
        ({"fresh": (2,), "past": (1, 4, 0, 8)}, (2, 2, 0)),
        ({"past + fresh": (9,), "fresh": (2,), "past": (1, 4, 0, 8)}, (2, 9, 0)),
    ],
)
def test_an_axis_may_be_given_its_size_by_its_symbol(asked, sizes):
    inputs = {"new": ("N", "fresh"), "mask": ("N", "past + fresh"), "past": ("N", 4, "past", 8)}
    new, mask, past = sizes
    assert bound(inputs, asked) == {"new": (1, new), "mask": (1, mask), "past": (1, 4, past, 8)}


def test_a_sum_may_have_a_number():
    inputs = {"past": ("N", "held"), "mask": ("N", "held + 1")}
    assert bound(inputs, {"held": (6,)}) == {"past": (1, 6), "mask": (1, 7)}


def test_a_model_may_say_what_its_symbols_are_where_nobody_else_does():
    said = {"size of past": "5", "size of new": "2", "size of N": "x"}
    assert bound(PAST, {"new": (1, 3)}, said=said) == {"new": (1, 3), "mask": (1, 8), "past": (1, 4, 5, 8)}


def test_a_batch_of_one_holds_where_the_symbol_stands_later():
    assert bound({"x": ("N", 3), "y": (3, "N")}) == {"x": (1, 3), "y": (3, 1)}


def test_an_input_without_shape_takes_the_one_given():
    assert bound({"x": None}, {"x": (2, 3)}) == {"x": (2, 3)}


@pytest.mark.parametrize(
    ("inputs", "shapes", "message"),
    [
        ({"x": ("N", 3, "h", "w")}, {}, r"'x' has shape \[1,3,h,w\].*--shape x=1,3,\?,\?"),
        ({"x": ("N", 3, "h", "h")}, {}, r"'x' has shape \[1,3,h,h\].*--shape h=\?$"),
        ({"x": (2, "T"), "y": (2, "T", 3)}, {}, r"^Input 'x' has shape \[2,T\] in the model.*--shape T=\?$"),
        ({"T": (2, "T")}, {}, r"--shape T=2,\?$"),
        ({"x": (None, None)}, {}, r"'x' has shape \[1,\?\]"),
        ({"x": None}, {}, r"'x' has no shape.*--shape x="),
        ({"image": (1, 3)}, {"imag": (1, 3)}, r"no such input or axis; did you mean 'image'"),
        ({"x": ("N", "tokens")}, {"token": (1,)}, r"no such input or axis; did you mean 'tokens'"),
        ({"x": ("N", "T")}, {"zzz": (1,)}, r"its inputs and axes are 'x', 'N', 'T'"),
        ({"a": (1,), "b": (1,)}, {"zzz": (1,)}, r"its inputs are 'a', 'b'"),
        ({"x": ("N", "T")}, {"T": (1, 4)}, r"'T' is an axis and takes one size"),
        ({"x": ("N", "T")}, {"T": (-1,)}, r"'T' is an axis and takes one size"),
        ({"x": ("N", "T")}, {"T": (4,), "x": (1, 5)}, r"axis 1 of input 'x' is fixed at 4"),
        ({"x": ("N", 3)}, {"x": (1, 3, 4)}, r"has 3 axes, but input 'x' has 2"),
        ({"x": ("N", 3)}, {"x": (1, 4)}, r"axis 1 of input 'x' is fixed at 3"),
        ({"x": ("N", 3)}, {"x": (-1, 3)}, r"sizes cannot be negative"),
        ({"x": ("N", "T"), "y": ("T",)}, {"x": (1, 4), "y": (5,)}, r"axis 0 is 'T', which another --shape makes 4"),
    ],
)
def test_what_cannot_be_static_is_refused(inputs, shapes, message):
    with pytest.raises(ModelError, match=message):
        bound(inputs, shapes)


@pytest.mark.parametrize("first", ["N", None])
def test_a_batch_is_the_size_of_an_open_first_axis(first):
    assert bound({"x": (first, 3), "y": (3,)}, batch=4) == {"x": (4, 3), "y": (3,)}


def test_a_batch_that_no_input_can_have_is_refused():
    with pytest.raises(ModelError, match=r"batch of 4 needs an input whose first axis is symbolic.*'x': 1,3"):
        bound({"x": (1, 3)}, batch=4)
    assert bound({"x": (4, 3)}, batch=4) == {"x": (4, 3)}
