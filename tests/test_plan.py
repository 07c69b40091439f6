"""Plans survive the trip through JSON; plans that do not fit are refused with the reason."""

import json
from dataclasses import replace

import pytest

from flexpie_mpi.core.choices import PRESETS
from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment, problems
from flexpie_mpi.lower.jobs import check
from flexpie_mpi.planner import layout_plan

from .graphs import GRAPHS, GraphBuilder

GRAPH = GRAPHS["residual"]
SOLO = Layout("single", (0,))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("fusion", ["free", "none", "all-legal", "3"])
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_every_preset_makes_a_legal_plan_that_survives_json(graph, preset, fusion):
    for ranks in (1, 3, 4, 17):
        plan = layout_plan(graph, ranks, preset, fusion=fusion)
        assert Plan.from_json(plan.to_json()) == plan
        check(plan, graph)


def test_weights_and_grid_survive_json():
    plan = layout_plan(GRAPH, 4, "grid", grid=(4, 1), weights=(1, 2, 3, 4, 1))
    again = Plan.from_json(plan.to_json())
    assert again.segments[0].layout == Layout("grid", (0, 1, 2, 3), (1, 2, 3, 4, 1), (4, 1))


def turning(count: int) -> dict:
    """A segment on as many ranks in turn."""
    layouts = [{"kind": "single", "ranks": [rank]} for rank in range(count)]
    return {"layout": layouts[0], "turns": layouts[1:], "nodes": [f"node{count}"]}


def edited(change) -> str:
    record = json.loads(layout_plan(GRAPH, 2, "rows", fusion="none").to_json())
    change(record)
    return json.dumps(record)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda r: r.update(format=99), "format 99"),
        (lambda r: r.update(rank=2), "unknown field 'rank'"),
        (lambda r: r.pop("segments"), "'segments' must be list"),
        (lambda r: r.update(ranks="two"), "'ranks' must be int"),
        (lambda r: r.update(ranks=True), "'ranks' must be int"),
        (lambda r: r["segments"][1].update(nodes=[]), "segment 1 of the plan: 'nodes'"),
        (lambda r: r["segments"][1]["layout"].update(kind="rings"), "segment 1 .* unknown kind 'rings'"),
        (lambda r: r["segments"][1]["layout"].update(weight=[1]), "unknown field 'weight'"),
        (lambda r: r["segments"][1]["layout"].update(ranks=["a"]), "list of numbers"),
        (lambda r: r["segments"].__setitem__(0, 7), "segment 0 of the plan is not an object"),
        (lambda r: r.update(ranks=10**9), "is for 1000000000 ranks .* at most 1024"),
        (lambda r: r.update(format=True), "has format True"),
        (lambda r: r["segments"][0]["layout"].update(ranks=[2**40]), "'ranks' must be a list of numbers"),
        (lambda r: r["segments"][0]["layout"].update(ranks=[0] * 10**5), "'ranks' must be a list of numbers"),
        (lambda r: r["segments"][0]["layout"].update(weights=[1e300, 1]), "'weights' must be a list of numbers"),
        (lambda r: r["segments"][0]["layout"].update(weights=[10**400, 1]), "more than 301 digits"),
        (lambda r: r["segments"][0]["layout"].update(weights=[float("nan"), 1]), "numbers must be finite"),
        (lambda r: r["segments"][0]["layout"].update(kind="\x1b[31m\n"), r"unknown kind '\\x1b\[31m\\n'"),
        (lambda r: r["segments"][0]["layout"].update(kind="grid", ranks=[0, 1], grid=[2**28, 1]), "'grid' must be"),
        (lambda r: r["provenance"].update(model=["x"]), "'model' of 'provenance' must be str"),
        (lambda r: r.update({"\n": 1}), r"unknown field '\\n'"),
        (lambda r: r.update(segments=[turning(count) for count in (2, 3, 5, 7, 11)]), "has 2310 turns"),
    ],
)
def test_text_that_is_no_plan_is_refused(change, reason):
    with pytest.raises(PlanError, match=reason) as caught:
        Plan.from_json(edited(change))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00\x01", '{"format": 1}', "[" * 10**5, '{"format": 2, "format": 2}', b"\xff"]
)
def test_rubbish_is_refused(text):
    with pytest.raises(PlanError):
        Plan.from_json(text)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda r: r.update(model="0" * 32), "made for another model"),
        (lambda r: r["segments"].pop(), "leaves out node '"),
        (lambda r: r["segments"].append(r["segments"][0]), "lists node 'conv0' more than once"),
        (lambda r: r["segments"][0]["nodes"].append("nonsense"), "names node 'nonsense', which"),
        (lambda r: r["segments"].reverse(), "where the model's order has"),
        (lambda r: r["segments"][0]["layout"].update(ranks=[0, 2]), "uses rank 2, but the plan has only 2"),
        (lambda r: r.update(root=5), "root = 5"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_reason(change, reason):
    plan = Plan.from_json(edited(change))
    with pytest.raises(PlanError, match=reason):
        check(plan, GRAPH)
    assert problems(plan, GRAPH)


def test_a_layout_the_operator_does_not_allow_is_refused_with_what_it_allows():
    graph = GRAPHS["branches"]
    plan = layout_plan(graph, 2, "single", fusion="none")
    pool = next(i for i, node in enumerate(graph.nodes) if node.op == "GlobalAveragePool")
    segments = list(plan.segments)
    segments[pool] = Segment(segments[pool].nodes, Layout("rows", (0, 1)))
    with pytest.raises(
        PlanError, match=r"GlobalAveragePool\) cannot be cut by 'rows'.*allows channels, batch, replicated"
    ):
        check(replace(plan, segments=tuple(segments)), graph)


@pytest.mark.parametrize("arguments, reason", [(("zigzag",), "unknown layout 'zigzag'"), (("rows", "0"), "fusion '0'")])
def test_unknown_names_are_refused(arguments, reason):
    preset, *fusion = arguments
    with pytest.raises(PlanError, match=reason):
        layout_plan(GRAPH, 2, preset, fusion=fusion[0] if fusion else "free")


def test_parts_survive_json():
    layout = Layout("rows", (0, 1), (2, 1), in_parts=True)
    plan = Plan((Segment(tuple(node.name for node in GRAPH.nodes), layout),), 2, GRAPH.digest)
    assert json.loads(plan.to_json())["format"] == 3
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("number", [1, 2])
def test_plans_of_older_formats_are_read(number):
    text = edited(lambda r: r.update(format=number))
    assert "in_parts" not in text
    assert Plan.from_json(text) == layout_plan(GRAPH, 2, "rows", fusion="none")


def parted(kind: str, node: int = 0, **fields: object) -> str:
    """A plan of a segment for every node, one of which is to leave its value in parts."""
    return edited(lambda r: r["segments"][node]["layout"].update({"kind": kind, "in_parts": True, **fields}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (parted("replicated"), "segment 0 .*'replicated' cuts nothing, so it leaves nothing in parts"),
        (parted("single", ranks=[0]), "segment 0 .*'single' cuts nothing"),
        (parted("rows", in_parts=1), "segment 0 .*'in_parts' must be true or false, not 1"),
        (parted("rows", in_parts="yes"), "'in_parts' must be true or false, not 'yes'"),
        (parted("rows", in_parts=None), "'in_parts' must be true or false"),
    ],
)
def test_parts_of_a_layout_that_has_none_are_refused(text, reason):
    with pytest.raises(PlanError, match=reason):
        Plan.from_json(text)


def test_parts_of_what_is_no_sum_over_the_cut_axes_are_refused():
    for kind in ("rows", "columns"):
        with pytest.raises(PlanError, match=f"segment 1: nothing .* of '.*' is a sum over what '{kind}' cuts"):
            check(Plan.from_json(parted(kind, node=1)), GRAPH)  # of Relu, and of Conv over rows
    check(Plan.from_json(parted("channels")), GRAPH)  # the first convolution, over its input channels


def test_parts_of_what_the_segment_itself_reads_are_refused():
    names = [node.name for node in GRAPH.nodes]
    segments = Segment(tuple(names[:2]), Layout("channels", (0, 1), in_parts=True)), Segment(tuple(names[2:]), SOLO)
    with pytest.raises(PlanError, match="nothing that leaves the segment of 'conv0' is a sum"):
        check(Plan(segments, 2, GRAPH.digest), GRAPH)
    b = GraphBuilder()
    mean = b.pool("x")
    graph = b.graph(mean, b.relu(mean))
    plan = Plan((Segment(tuple(node.name for node in graph.nodes), Layout("rows", (0, 1), in_parts=True)),), 2, "")
    with pytest.raises(PlanError, match=f"'{mean}' is to leave the segment in parts, but node 'relu1' reads all of it"):
        check(replace(plan, model=graph.digest), graph)
