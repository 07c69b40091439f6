"""The blocked layout: forms of buffers, copies between forms, and jobs whose ranks pass values in blocks or not."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flexpie_mpi.core.blocks import nbytes_of, nominal_shape, shape_of
from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.core.graph import Graph, Node, Value
from flexpie_mpi.core.program import Piece
from flexpie_mpi.core.region import Region
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.forms import Forms, blocked_values
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.model import load
from flexpie_mpi.model.blocked import UnmarkableError
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import cpu
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.runtime.moving import Held, copies, mover, packing
from flexpie_mpi.runtime.provider import agreed_blocks

BLOCK = cpu.block_size()
needs_blocks = pytest.mark.skipif(not BLOCK, reason="onnxruntime has no blocked layout on this processor")


# Copies


def boxes(chance: random.Random, channels: int, block: int) -> tuple[Region, Region]:
    """A buffer's region of a value [2, channels, 5, 6] that begins with a whole block, and a part of it."""
    step = block or 1
    low = chance.randrange(0, channels, step)
    held = ((0, 2), (low, chance.randint(low + 1, channels)), (chance.randint(0, 2), 5), (0, chance.randint(3, 6)))
    part = []
    for lo, hi in held:
        begin = chance.randint(lo, hi - 1)
        part.append((begin, chance.randint(begin + 1, hi)))
    return Region(held), Region(tuple(part))


def filled(region: Region, block: int, value: np.ndarray | None) -> Held:
    """Memory of a region of a value; of noise where there is no value."""
    memory = np.full(nbytes_of(region, block, 4) // 4, np.nan, np.float32).reshape(shape_of(region, block))
    held = Held(memory, region, block)
    if value is not None:
        memory[:] = 0
        for index in np.ndindex(region.shape):
            at = tuple(lo + i for (lo, _), i in zip(region.bounds, index, strict=True))
            element(held, at)[...] = value[at]
    return held


def element(held: Held, at: tuple[int, ...]) -> np.ndarray:
    """One element of what is held, by its place in the whole value."""
    n, c, h, w = (i - lo for i, (lo, _) in zip(at, held.region.bounds, strict=True))
    if not held.block:
        return held.memory[n, c, h, w : w + 1]
    return held.memory[n, c // held.block, h, w, c % held.block : c % held.block + 1]


@pytest.mark.parametrize("way", ["copied", "sent in blocks", "sent in rows"])
@pytest.mark.parametrize("blocks", [(0, 0), (8, 8), (16, 16), (8, 0), (0, 16), (8, 16), (16, 8)])
def test_what_is_copied_arrives_whatever_the_forms(blocks, way):
    chance, value = random.Random(str(blocks)), np.random.default_rng(0).random((2, 50, 5, 6), np.float32)
    for _ in range(60):
        (ours, first), (theirs, second) = (boxes(chance, 50, block) for block in blocks)
        part = first.intersect(theirs).intersect(second)
        if part.is_empty or not ours.contains(part):
            continue
        source, target = filled(ours, blocks[0], value), filled(theirs, blocks[1], None)
        common = blocks[0] if blocks[0] == blocks[1] and way == "sent in blocks" else 0
        if way == "copied":
            mover(copies(part, target, source), "test")()
        else:
            message = np.zeros(part.size * 4, np.uint8)
            for held, pack in ((source, True), (target, False)):
                mover(packing([Piece("v", part, 0, common)], [held], message, pack=pack), "test")()
        for index in np.ndindex(part.shape):
            at = tuple(lo + i for (lo, _), i in zip(part.bounds, index, strict=True))
            assert element(target, at)[0] == value[at]
        assert np.isfinite(target.memory).sum() == part.size + padded_lanes(part, target)


def padded_lanes(part: Region, target: Held) -> int:
    """Lanes behind the last channel that filling a part sets to zero."""
    _, (_, last), *pixels = target.region.bounds
    if not target.block or part.bounds[1][1] != last:
        return 0
    return -last % target.block * part.size // (part.bounds[1][1] - part.bounds[1][0]) if pixels else 0


def test_a_blocked_shape_counts_whole_blocks():
    region = Region(((0, 1), (32, 56), (0, 3), (0, 4)))
    assert shape_of(region, 16) == (1, 2, 3, 4, 16)
    assert nominal_shape(region, 16) == (1, 32, 3, 4)
    assert nbytes_of(region, 16, 4) == 4 * 32 * 12 and nbytes_of(region, 0, 4) == 4 * 24 * 12


# Forms


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(cache):
    return load("builtin:tiny_mobilenet", cache=cache)


def test_inputs_and_outputs_of_a_graph_are_never_blocked(model):
    values = blocked_values(model.graph, 8)
    assert values and not values & {*model.graph.inputs, *model.graph.outputs}


def test_values_whose_shape_is_known_only_at_run_time_are_not_blocked():
    unknown, image = Value("u", None, "float32"), Value("x", (1, 16, 8, 8), "float32")
    weight = Value("w", (16, 16, 1, 1), "float32", is_constant=True)
    nodes = (
        Node("c1", "Conv", ("u", "w"), ("v",)),
        Node("c2", "Conv", ("x", "w"), ("y",)),
        Node("c3", "Conv", ("y", "w"), ("z",)),
        Node("a", "Add", ("z", "v"), ("out",)),
    )
    values = (unknown, image, weight, replace(unknown, name="v"), replace(unknown, name="out"))
    values += tuple(replace(image, name=name) for name in ("y", "z"))
    graph = Graph("opaque", nodes, {value.name: value for value in values}, ("u", "x"), ("out",))
    assert blocked_values(graph, 16) == {"y"}


def test_a_value_is_blocked_where_its_region_begins_with_a_block(model):
    graph = model.graph
    name = max(blocked_values(graph, 8), key=lambda name: graph.value(name).shape[1])
    whole = Region.full(graph.value(name).shape)
    forms = Forms(graph, [8, 0])
    assert forms.block(0, name, whole) == 8
    assert forms.block(1, name, whole) == forms.block(2, name, whole) == 0
    assert forms.block(0, name, whole.with_axis(1, (4, 12))) == 0
    assert forms.block(0, name, whole.with_axis(1, (0, 7))) == 0
    assert forms.block(0, graph.inputs[0], whole) == forms.block(0, name, None) == 0


def test_many_boxes_are_judged_as_one(model):
    graph, chance = model.graph, random.Random(0)
    forms = Forms(graph, [8, 16, 0])
    for name in (*blocked_values(graph, 8), graph.inputs[0]):
        shape = graph.value(name).shape
        regions = [Region.full(shape).with_axis(1, sorted(chance.sample(range(shape[1] + 1), 2))) for _ in range(40)]
        ranks = np.array([chance.randrange(3) for _ in regions])
        lo, hi = (np.array([[bounds[side] for bounds in region.bounds] for region in regions]) for side in (0, 1))
        alone = [bool(forms.block(rank, name, region)) for rank, region in zip(ranks, regions, strict=True)]
        assert forms.are_blocked(ranks, name, lo, hi).tolist() == alone


@pytest.mark.parametrize("kind", ["rows", "grid", "channels"])
def test_programs_of_mixed_boards_are_sound_and_a_wrong_form_is_found(model, kind):
    graph, plan = model.graph, layout_plan(model.graph, 3, kind)
    programs = list(lower(plan, graph, (8, 16, 0)))
    assert not violations(programs, plan, graph)
    number, buffer = next((n, b) for n, b in enumerate(programs[0].buffers) if b.block)
    channels = buffer.region.bounds[1]
    buffers = list(programs[0].buffers)
    for wrong in (
        replace(buffer, nbytes=buffer.nbytes + 4),
        replace(buffer, region=buffer.region.with_axis(1, (channels[0] + 1, channels[1]))),
    ):
        buffers[number] = wrong
        broken = violations([replace(programs[0], buffers=tuple(buffers)), *programs[1:]], plan, graph)
        assert "form" in {violation.kind for violation in broken}


def test_a_piece_in_blocks_that_its_buffer_lacks_is_found(model):
    graph, plan = model.graph, layout_plan(model.graph, 2, "rows")
    programs = list(lower(plan, graph, (8, 8)))
    assert any(piece.block == 8 for message in programs[0].sends for piece in message.pieces)
    buffers = tuple(replace(b, block=0, nbytes=b.region.size * 4) for b in programs[0].buffers)
    broken = violations([replace(programs[0], buffers=buffers), programs[1]], plan, graph)
    assert {violation.kind for violation in broken} == {"form"}


# Jobs


def outputs(model, cache, plan, boundaries):
    """Outputs of a job whose ranks have these boundaries in turn, and how many buffers of each rank are blocked."""
    inputs = random_inputs(model.graph)

    def rank(transport):
        wanted = boundaries[transport.rank % len(boundaries)]
        engine = Engine(transport, model, plan, cache=cache, boundaries=wanted)
        for _ in range(2):  # buffers hold other things the second time
            out = {name: np.array(array) for name, array in engine.run(inputs).items()}
        return out, sum(buffer.block > 0 for buffer in engine.program.buffers)

    ranks = run_ranks(plan.ranks, rank)
    return ranks[0][0], [count for _, count in ranks]


@needs_blocks
@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_mobilenet", "tiny_inception", "tiny_vgg"])
@pytest.mark.parametrize("kind", ["rows", "columns", "grid", "channels"])
def test_a_job_computes_the_same_in_blocks_in_rows_and_in_both(name, kind, cache):
    model = load(f"builtin:{name}", cache=cache)
    plan = layout_plan(model.graph, 3, kind, fusion="none")
    expected, none = outputs(model, cache, plan, ["nchw"])
    assert not any(none)
    for boundaries in (["auto"], ["blocked", "nchw"]):
        computed, blocked = outputs(model, cache, plan, boundaries)
        assert [count > 0 for count in blocked] == [wish != "nchw" for wish in boundaries * 3][:3]
        for output, array in expected.items():
            np.testing.assert_allclose(computed[output], array, rtol=1e-5, atol=1e-5 * np.abs(array).max())


def body(path):
    """A residual network without a classifier, of 3 to 40 channels, not all of them whole blocks."""
    draw, nodes, weights = np.random.default_rng(0), [], []

    def conv(source, name, channels, kernel=3, stride=1, group=1):
        shape = (channels[1], channels[0] // group, kernel, kernel)
        weights.append(numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32) / 8, f"w_{name}"))
        pads, attributes = [kernel // 2] * 4, {"group": group, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", [source, f"w_{name}"], [name], name, pads=pads, **attributes))
        return name

    def then(op, sources, name, **attributes):
        nodes.append(helper.make_node(op, sources, [name], name, **attributes))
        return name

    x = then("Relu", [conv("x", "stem", (3, 32), stride=2)], "r0")
    y = conv(then("Relu", [conv(x, "c1", (32, 32))], "r1"), "c2", (32, 32))
    x = then("Relu", [then("Add", [y, x], "a1")], "r2")
    x = then("MaxPool", [x], "p1", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = conv(then("Clip", [conv(x, "c3", (32, 32), group=32), "lo", "hi"], "r3"), "c4", (32, 40), 1)
    x = then("Add", [conv(then("Relu", [conv(x, "c5", (40, 40))], "r4"), "c6", (40, 40)), x], "a2")
    conv(x, "y", (40, 24), 1)
    ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, [1, 3, 32, 32]), ("y", 1, [1, 24, 8, 8]))]
    weights += [numpy_helper.from_array(np.array(bound, np.float32), name) for name, bound in (("lo", 0), ("hi", 6))]
    graph = helper.make_graph(nodes, "body", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@needs_blocks
@pytest.mark.parametrize("fusion", ["free", "3"])  # an addition by itself sums otherwise than a fused one
@pytest.mark.parametrize("kind", ["rows", "columns", "grid"])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_convolutions_in_blocks_are_bitwise_those_of_one_session(ranks, kind, fusion, cache, tmp_path):
    model = load(body(tmp_path / "body.onnx"), cache=cache)
    expected, _ = outputs(model, cache, layout_plan(model.graph, 1, "single"), ["auto"])
    computed, blocked = outputs(model, cache, layout_plan(model.graph, ranks, kind, fusion=fusion), ["auto"])
    assert all(blocked) and np.array_equal(computed["y"], expected["y"])


@needs_blocks
def test_a_segment_that_cannot_be_marked_runs_between_reorders(model, cache, monkeypatch, tmp_path):
    plan = layout_plan(model.graph, 2, "rows", fusion="none")
    expected, _ = outputs(model, cache, plan, ["nchw"])

    def refuse(*args):
        raise UnmarkableError

    monkeypatch.setattr(cpu, "unmarked", refuse)
    computed, blocked = outputs(model, Cache(tmp_path), plan, ["auto"])
    assert all(blocked)
    for output, array in expected.items():
        np.testing.assert_allclose(computed[output], array, rtol=1e-5, atol=1e-5 * np.abs(array).max())


@needs_blocks
def test_what_was_laid_out_once_is_kept(model, tmp_path, monkeypatch):
    plan = layout_plan(model.graph, 2, "rows", fusion="none")
    first, _ = outputs(model, Cache(tmp_path), plan, ["auto"])
    monkeypatch.setattr(cpu, "marked", lambda *args: pytest.fail("a segment is laid out again"))
    again, _ = outputs(model, Cache(tmp_path), plan, ["auto"])
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("sizes", "wishes", "agreed"),
    [
        ((16, 16, 16), ("auto", "auto", "auto"), (16, 16, 16)),
        ((16, 8, 16), ("auto", "auto", "auto"), (0, 0, 0)),
        ((16, 0, 16), ("auto", "auto", "auto"), (0, 0, 0)),
        ((16, 16, 16), ("auto", "nchw", "auto"), (0, 0, 0)),
        ((16, 8, 0), ("blocked", "blocked", "blocked"), (16, 8, 0)),
        ((16, 16, 16), ("blocked", "nchw", "auto"), (16, 0, 0)),
    ],
)
def test_ranks_agree_on_forms(sizes, wishes, agreed):
    said = run_ranks(3, lambda transport: agreed_blocks(transport, sizes[transport.rank], wishes[transport.rank]))
    assert said == [agreed] * 3


def test_a_form_that_does_not_exist_is_refused_on_all_ranks():
    def rank(transport):
        with pytest.raises(ModelError, match="there are no 'nhwc' boundaries"):
            agreed_blocks(transport, 16, "nhwc" if transport.rank else "auto")
        return True

    assert all(run_ranks(2, rank))
