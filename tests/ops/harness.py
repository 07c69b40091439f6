"""Laws that every operator rule must keep.

Any box of an output, computed by the local form from exactly the regions the rule says it reads, equals that box of the
whole operator's output, and nothing outside those regions matters (:func:`check_rule`). Parts of an output, computed
from any shares of what is summed and combined, equal all of it (:func:`check_parts`).
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from flexpie_mpi.core.program import NodeBlock
from flexpie_mpi.core.region import Region
from flexpie_mpi.model.model import Model
from flexpie_mpi.model.shard import build
from flexpie_mpi.ops import between_borders, part_axes, part_regions, rule_for, whole, widen
from flexpie_mpi.planner.boxes import Boxes, NodeMap


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def random_inputs(proto: onnx.ModelProto, rng: np.random.Generator) -> dict[str, np.ndarray]:
    weights = {item.name for item in proto.graph.initializer}
    feeds = {}
    for item in proto.graph.input:
        if item.name in weights:
            continue
        tensor = item.type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[item.name] = random_array(shape, dtype, rng)
    return feeds


def random_array(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    low, high = (0, 100) if dtype.kind == "u" else (-50, 50)
    return rng.integers(low, high, shape).astype(dtype)


def random_box(shape: tuple[int, ...], cut: frozenset[int], rng: np.random.Generator) -> Region:
    """A non-empty box that is cut only along axes in `cut`, touching a border about half of the time."""
    bounds = []
    for axis, extent in enumerate(shape):
        if axis not in cut or rng.random() < 0.3:
            bounds.append((0, extent))
            continue
        lo, hi = sorted(rng.integers(0, extent + 1, 2).tolist())
        if lo == hi:
            lo, hi = (lo, lo + 1) if lo < extent else (lo - 1, lo)
        border = rng.random()
        bounds.append((0 if border < 0.25 else lo, extent if border > 0.75 else hi))
    return Region(tuple(bounds))


def check_rule(
    proto: onnx.ModelProto,
    *,
    cut: tuple[set[int], ...] | None = None,
    feeds: dict[str, np.ndarray] | None = None,
    expected: dict[str, np.ndarray] | None = None,
    trials: int = 12,
    seed: int = 0,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    outside_rtol: float = 0.0,
) -> None:
    """Check the rule of a model with one node on random boxes.

    `cut`, when given, is what the rule must answer for the axes of each output: a rule that gives up cutting fails.
    `expected` has the outputs of `feeds` for an operator that onnxruntime does not know.
    `outside_rtol` is for operators whose rounding, but no more, depends on elements that they do not read.
    """
    rng = np.random.default_rng(seed)
    feeds = feeds or random_inputs(proto, rng)
    names = [item.name for item in proto.graph.output]
    reference = None if expected else session(proto)
    whole = expected if reference is None else dict(zip(names, reference.run(names, feeds), strict=True))
    proto = with_shapes(proto, whole)
    model = Model.from_skeleton(proto.SerializeToString())
    (bound,) = model.graph.bound
    rule = rule_for(bound)
    axes = rule.cut_axes(bound)
    if cut is not None:
        assert axes == tuple(frozenset(item) for item in cut), f"{bound.op} allows {axes}, expected {cut}"
    weights = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    reader = NodeMap(bound)

    for trial in range(trials):
        boxes = [random_box(bound.out_shape(i), axes[i], rng) if v else None for i, v in enumerate(bound.outputs)]
        if len(names) > 1 and trial % 3 == 0:  # one output alone
            keep = rng.integers(len(boxes))
            boxes = [box if place == keep else None for place, box in enumerate(boxes)]
        if not any(boxes):
            continue
        out = widen(bound, tuple(boxes))
        into = rule.in_regions(bound, out)
        _check_map(reader, bound, boxes, into)
        _check_box(model, bound, out, into, feeds, weights, whole, rtol, atol)
        if reference is not None:
            _check_outside(reference, names, bound, out, into, feeds, whole, rng, outside_rtol)
        assert rule.flops(bound, out) >= 0


def check_parts(
    proto: onnx.ModelProto,
    axes: set[int],
    *,
    feeds: dict[str, np.ndarray] | None = None,
    expected: np.ndarray | None = None,
    trials: int = 6,
    seed: int = 0,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> None:
    """Check the parts of a model with one node on random shares; integers must be equal.

    `axes` is what the rule must answer for the axes of the first input that ranks may share out. `expected` is as of
    :func:`check_rule`. With an `rtol` of 0 the sum must be the result bit by bit.
    """
    rng = np.random.default_rng(seed)
    feeds = feeds or random_inputs(proto, rng)
    (name,) = (item.name for item in proto.graph.output)
    if expected is None:
        (expected,) = session(proto).run([name], feeds)
    model = Model.from_skeleton(with_shapes(proto, {name: expected}).SerializeToString())
    (bound,) = model.graph.bound
    assert part_axes(bound) == axes, f"{bound.op} has parts along {sorted(part_axes(bound))}, expected {sorted(axes)}"
    weights = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    for _ in range(trials if axes else 0):
        drawn, total = random_shares(bound.in_shape(), axes, rng), None
        shares = [share for share in (between_borders(bound, each) for each in drawn) if share is not None]
        for number, share in enumerate(shares):
            into = part_regions(bound, share, is_first=number == 0)
            block = NodeBlock(bound.node.name, tuple(map(whole, bound.outputs)), into, is_part=True)
            part = run_block(model, bound, block, feeds, weights)[name]
            assert part.dtype == expected.dtype and part.shape == expected.shape, f"{share}: {part.shape}"
            total = part if total is None else getattr(np, rule_for(bound).combines(bound))(total, part)
        if not rtol:
            assert total.tobytes() == expected.tobytes(), f"{shares}"
        elif expected.dtype.kind == "f":
            np.testing.assert_allclose(total, expected, rtol=rtol, atol=atol, err_msg=f"{shares}")
        else:
            np.testing.assert_array_equal(total, expected, err_msg=f"{shares}")


def random_shares(shape: tuple[int, ...], axes: set[int], rng: np.random.Generator) -> list[Region]:
    """Shares that tile a value, cut along some of the axes: one share or several, even or not, one thick or all."""
    chosen = {axis for axis in axes if rng.random() < 0.7} or {min(axes)}
    cuts = [
        sorted({0, extent, *rng.integers(0, extent + 1, rng.integers(0, 4)).tolist()})
        if axis in chosen
        else [0, extent]
        for axis, extent in enumerate(shape)
    ]
    return [Region(bounds) for bounds in product(*(tuple(pairwise(ends)) for ends in cuts))]


def with_shapes(proto: onnx.ModelProto, outputs: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with the shapes that its outputs really have, which ONNX's own inference does not always know."""
    measured = onnx.ModelProto()
    measured.CopyFrom(proto)
    for item in measured.graph.output:
        element = onnx.helper.np_dtype_to_tensor_dtype(outputs[item.name].dtype)
        item.CopyFrom(onnx.helper.make_tensor_value_info(item.name, element, outputs[item.name].shape))
    return measured


def _check_map(reader, bound, boxes, into):
    """The planner's table look-up, axis by axis, says the same as the rule, which sees all axes together."""
    arrays = [None if value is None else as_boxes(box, value) for box, value in zip(boxes, bound.outputs, strict=True)]
    found = reader.read(reader.widen(arrays))
    for value, region, box in zip(bound.inputs, into, found, strict=True):
        if box is None or value.shape is None:
            assert region is None or value.is_opaque
        elif region is None:
            assert not box.present.any()
        else:
            bounds = region.bounds or ((0, 1),)
            assert (box.lo[0].tolist(), box.hi[0].tolist()) == ([lo for lo, _ in bounds], [hi for _, hi in bounds])


def as_boxes(region: Region | None, value) -> Boxes:
    if region is None:
        return Boxes.absent(1, len(value.shape))
    bounds = np.array(region.bounds or ((0, 1),), np.int32)
    return Boxes(bounds[None, :, 0], bounds[None, :, 1])


def _check_box(model, bound, out, into, feeds, weights, whole, rtol, atol):
    results = run_block(model, bound, NodeBlock(bound.node.name, out, into), feeds, weights)
    for name, region in zip(bound.node.outputs, out, strict=True):
        if region is None:
            continue
        result, expected = results[name], _cut(whole[name], region)
        assert result.dtype == expected.dtype and result.shape == expected.shape, f"{name} {region}: {result.shape}"
        np.testing.assert_allclose(
            result.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, err_msg=f"{name} {region}"
        )


def run_block(model, bound, block, feeds, weights):
    """The outputs of a block, computed by its local form from the regions that it reads and nothing else."""
    held = {}
    for name, value, region in zip(bound.node.inputs, bound.inputs, block.inputs, strict=True):
        if value is None or value.is_constant or region is None:
            continue
        assert not region.is_empty and Region.full(value.shape).contains(region), f"{name}: {region} of {value.shape}"
        held[name] = held[name].hull(region) if name in held else region
    pairs = zip(bound.node.outputs, block.outputs, strict=True)
    outputs = [(name, region) for name, region in pairs if region is not None]
    segment = build(model, "case", [block], tuple(held.items()), tuple(outputs))
    proto = onnx.ModelProto()
    proto.CopyFrom(segment.proto)
    for item in proto.graph.initializer:
        if item.name in segment.weights:
            constant, region = segment.weights[item.name]
            item.CopyFrom(numpy_helper.from_array(_cut(weights[constant], region), item.name))
    local = {name: _cut(feeds[name], region) for name, region in held.items()}
    names = [name for name, _ in outputs]
    return dict(zip(names, session(proto).run(names, local), strict=True))


def _check_outside(reference, names, bound, out, into, feeds, whole, rng, rtol):
    """Changing what the rule does not read must not change the box."""
    changed = {}
    for name, array in feeds.items():
        read = np.zeros(array.shape, bool)
        for other, region in zip(bound.node.inputs, into, strict=True):
            if other == name and region is not None:
                read[region.slices(Region.full(array.shape))] = True
        changed[name] = np.where(read, array, _others(array, rng))
    again = dict(zip(names, reference.run(names, changed), strict=True))
    for name, region in zip(bound.node.outputs, out, strict=True):
        if region is not None:
            same = _cut(again[name], region), _cut(whole[name], region)
            np.testing.assert_allclose(*same, rtol=rtol, err_msg=f"{name} {region}")


def _others(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other values: any for floats, but integers may be positions or divisors, and are drawn from the same ones."""
    if array.dtype.kind in "iu":
        return rng.choice(array.ravel(), array.shape)
    return random_array(array.shape, array.dtype, rng)


def _cut(array: np.ndarray, region: Region | None) -> np.ndarray:
    return array if region is None else np.array(array[region.slices(Region.full(array.shape))], order="C")
