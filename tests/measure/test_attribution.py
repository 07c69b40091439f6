"""Every event of a profile finds its kernel, whatever onnxruntime has made of the nodes."""

from __future__ import annotations

import pytest

from flexpie_mpi.cost.groups import fused_groups
from flexpie_mpi.lower import lower
from flexpie_mpi.measure.attribution import CALL, Work, attribute, split
from flexpie_mpi.measure.profiled_run import NodeEvent, Run, SegmentTimes, gap_s, inside_s
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan


def work_of(name: str, preset: str = "single", ranks: int = 1, segment: int = 0) -> Work:
    graph = load(f"builtin:{name}").graph
    plan = layout_plan(graph, ranks, preset)
    program = lower(plan, graph)[-1]
    starts = [first for _, first, _ in plan.spans]
    return Work(graph, fused_groups(graph, starts), program, program.computes[segment])


def event(name: str, op: str, shape: tuple[int, ...] | None = None) -> NodeEvent:
    return NodeEvent(name, op, shape, 0.0, 1e-5)


def mains(work: Work, *events: NodeEvent) -> list[str]:
    """Names of the anchors of the kernels that events belong to; "call" for the call."""
    found = attribute(events, work)
    return ["call" if n == CALL else work.graph.nodes[work.groups[n].main].name for n in found]


def test_names_with_what_fusions_append() -> None:
    work = work_of("tiny_bert")
    node = next(n.name for n in work.graph.nodes if n.op == "MatMul")
    for name in (node, f"{node}/MatMulAddFusion", f"{node}/MatMulScaleFusion/", f"fused {node}_token_7", f"{node}::2"):
        assert mains(work, event(name, "Gemm")) == [node]


def test_a_blocked_node_is_named_after_its_value() -> None:
    work = work_of("tiny_resnet")
    place = next(p for p, node in enumerate(work.graph.nodes) if node.op == "Conv")
    value = work.graph.nodes[place].outputs[0]
    assert mains(work, event(f"{value}_nchwc", "Conv")) == [work.graph.nodes[place].name]


def test_an_absorbed_addition_counts_for_its_convolution() -> None:
    work = work_of("tiny_resnet")
    number = next(n for n in work.numbers if work.groups[n].fused_into >= 0)
    fused_into = work.groups[number].fused_into
    assert number not in work.payer.values()
    assert fused_into in work.summing
    name = work.graph.nodes[work.groups[number].first].name
    assert attribute((event(name, "Add"),), work) == [fused_into]


def test_strange_names_go_to_who_makes_the_same() -> None:
    """A normalisation fused with the addition before it has neither's name; views around a product have nobody's."""
    work = work_of("tiny_bert")
    place = next(p for p, node in enumerate(work.graph.nodes) if node.op == "LayerNormalization" and p > 10)
    norm = work.graph.nodes[place].name
    product = next(n.name for n in reversed(work.graph.nodes[:place]) if n.op == "MatMul")
    shape = work.made_here(work.owner[place])
    known = [n for n in work.numbers if n < work.owner[place] and work.made_here(n) == shape]
    events = [event(work.graph.nodes[work.groups[n].main].name, "Any", shape) for n in known]
    tail = (
        event(f"{product}/MatMulAddFusion", "Gemm", shape),
        event("gemm_output_reshape_token_3", "Reshape", shape),
        event("SkipLayerNormalization_token_9", "SkipLayerNormalization", shape),
    )
    assert mains(work, *events, *tail)[-3:] == [product, product, norm]


def test_relayouts_at_the_borders_are_the_calls() -> None:
    work = work_of("tiny_inception", "rows", 2, segment=1)
    border = next(iter(work.borders))
    conv = work.graph.nodes[work.groups[work.numbers[0]].main].name
    found = mains(
        work,
        event("ReorderInput", "ReorderInput", border),
        event(conv, "Conv"),
        event("ReorderOutput_token_1", "ReorderOutput", (9, 9, 9, 9)),
    )
    assert found == ["call", conv, conv]


def test_crops_belong_to_who_reads_them() -> None:
    work = work_of("tiny_resnet", "rows", 2, segment=1)
    for place, block in work.blocks.items():
        node = work.graph.bound[place]
        value, region = node.inputs[0], block.inputs[0]
        assert value is not None
        owner = attribute((event(f"{value.name}{region}", "Slice"),), work)[0]
        readers = [p for p, b in work.blocks.items() if (work.graph.bound[p].inputs[0], b.inputs[0]) == (value, region)]
        assert owner in {work.payer[work.owner[p]] for p in readers} | {
            work.payer[work.owner[p]] for p in work.blocks if value.name in work.graph.nodes[p].reads
        }


@pytest.mark.parametrize(("total", "call", "share"), [(100e-6, 30e-6, 1.0), (35e-6, 0.2e-6, 34.8 / 70)])
def test_a_call_is_what_kernels_leave_of_a_segment(total: float, call: float, share: float) -> None:
    """Where kernels took longer than all of it, with the profiler, each gets its share."""
    work = work_of("tiny_inception", "rows", 2, segment=1)
    first, second = work.numbers[:2]
    names = [work.graph.nodes[work.groups[number].main].name for number in (first, second)]
    border = next(iter(work.borders))
    run = (
        NodeEvent("ReorderInput", "ReorderInput", border, 0.0, 90e-6),
        NodeEvent(names[0], "Conv", None, 90e-6, 90e-6 + 20e-6 + inside_s(2e-6)),
        NodeEvent(names[1], "Conv", None, 200e-6, 200e-6 + 50e-6 + inside_s(2e-6)),
    )
    found = split(SegmentTimes(work.step, [run] * 3, []), work, 2e-6, total)
    assert found.call_s == pytest.approx(call)
    assert found.kernels[first][0] == pytest.approx(20e-6 * share)
    assert found.kernels[second][0] == pytest.approx(50e-6 * share)


@pytest.mark.parametrize(("gaps", "expected"), [((3e-6, 3e-6, 4e-6, 9e-3), 10e-6 / 3), ((), 3e-6)])
def test_gaps_without_interruptions(gaps: tuple[float, ...], expected: float) -> None:
    now, run = 0.0, [NodeEvent("n", "Relu", None, 0.0, 1e-6)]
    for gap in gaps:
        now = run[-1].end_s + gap
        run.append(NodeEvent("n", "Relu", None, now, now + 1e-6))
    found: list[Run] = [tuple(run)]
    assert gap_s(found) == pytest.approx(expected)
    assert 0 < inside_s(gap_s(found)) < 2 * expected
