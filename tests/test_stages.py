"""Plans as pipelines: replicas take turns, and values go from stage to stage with whoever takes them along."""

from dataclasses import replace

import pytest

from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment, Stage
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations

from .graphs import GRAPHS, GraphBuilder


def skipping():
    """x -> a -> b -> c, with a also added to c's output at the very end."""
    builder = GraphBuilder()
    a = builder.conv("x", 8)
    b = builder.conv(a)
    c = builder.conv(b)
    return builder.graph(builder.add(c, a)), a


def pipeline(graph, layouts, forwards=None, replicas=None):
    """One segment per node, in these layouts."""
    forwards, replicas = forwards or {}, replicas or {}
    segments = tuple(
        Segment((node.name,), layout, replicas.get(place, ()), forwards.get(place, ()))
        for place, (node, layout) in enumerate(zip(graph.nodes, layouts, strict=True))
    )
    return Plan(segments, 1 + max(rank for item in segments for rank in item.ranks), graph.digest)


def solo(rank):
    return Layout("single", (rank,))


def routes(programs, name):
    """(source, target) of every message that holds a value."""
    return {(m.source, m.target) for p in programs for m in p.sends if any(piece.value == name for piece in m.pieces)}


def test_a_value_skips_stages_that_do_not_read_it_unless_they_carry_it():
    graph, a = skipping()
    straight = pipeline(graph, [solo(0), solo(1), solo(2), solo(3)])
    assert routes(lower(straight, graph), a) == {(0, 1), (1, 3)}
    carried = pipeline(graph, [solo(0), solo(1), solo(2), solo(3)], forwards={1: (a,), 2: (a,)})
    programs = lower(carried, graph)
    assert routes(programs, a) == {(0, 1), (1, 2), (2, 3)}
    assert violations(programs, carried, graph) == []


@pytest.mark.parametrize("kind", ["rows", "channels", "replicated"])
def test_a_team_takes_its_shards_along(kind):
    graph, a = skipping()
    team = Layout(kind, (1, 2))
    plan = pipeline(graph, [solo(0), team, solo(3), solo(3)], forwards={1: (a,)})
    programs = lower(plan, graph)
    assert violations(programs, plan, graph) == []
    givers = {source for source, target in routes(programs, a) if target == 3}
    assert givers == {"rows": {1, 2}, "channels": {2}, "replicated": {2}}[kind], "whoever has read all of it gives all"


def test_what_is_carried_must_be_there_to_be_carried():
    graph, a = skipping()
    with pytest.raises(PlanError, match=f"segment 0 carries '{a}', which nothing before it makes"):
        lower(pipeline(graph, [solo(0)] * 4, forwards={0: (a,)}), graph)
    with pytest.raises(PlanError, match="carries 'nonsense'"):
        lower(pipeline(graph, [solo(0)] * 4, forwards={1: ("nonsense",)}), graph)


def test_replicas_take_turns_and_every_request_has_a_sound_plan():
    graph, a = skipping()
    replicas = {1: (solo(2),), 2: (solo(4), solo(5))}
    plan = pipeline(graph, [solo(0), solo(1), solo(3), solo(0)], forwards={1: (a,), 2: (a,)}, replicas=replicas)
    assert plan.period == 6
    assert [plan.variant(request).segments[1].layout.ranks for request in range(3)] == [(1,), (2,), (1,)]
    assert [plan.variant(request).segments[2].layout.ranks for request in range(4)] == [(3,), (4,), (5,), (3,)]
    for request in range(plan.period):
        variant = plan.variant(request)
        assert variant.period == 1
        assert violations(lower(variant, graph), variant, graph) == []
    assert plan.variant(plan.period) == plan.variant(0)
    with pytest.raises(PlanError, match="take turns over 6 requests"):
        lower(plan, graph)


def test_segments_that_share_ranks_are_one_stage():
    graph, _ = skipping()
    plan = pipeline(
        graph, [solo(0), Layout("rows", (1, 2)), Layout("channels", (2, 1)), solo(0)], replicas={3: (solo(3),)}
    )
    assert plan.stages == (Stage((0, 3), (0, 3), 2), Stage((1, 2), (1, 2), 1))


def test_pipelines_survive_json():
    graph, a = skipping()
    plan = pipeline(graph, [solo(0), solo(1), solo(3), solo(0)], forwards={1: (a,), 2: (a,)}, replicas={1: (solo(2),)})
    assert Plan.from_json(plan.to_json()) == plan


def test_plans_of_the_first_format_are_still_read():
    graph = GRAPHS["residual"]
    plan = Plan((Segment(tuple(node.name for node in graph.nodes), solo(0)),), 1, graph.digest)
    assert Plan.from_json(plan.to_json().replace('"format": 2', '"format": 1')) == plan


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda s: replace(s, forwards=(1,)), "'carries' must be a list of names"),
        (lambda s: replace(s, nodes=(1,)), "'nodes' must be a list of names"),
    ],
)
def test_names_that_are_no_names_are_refused(change, reason):
    graph, _ = skipping()
    plan = pipeline(graph, [solo(0)] * 4)
    broken = replace(plan, segments=(change(plan.segments[0]), *plan.segments[1:]))
    with pytest.raises(PlanError, match=reason):
        Plan.from_json(broken.to_json())


def test_turns_that_are_no_layouts_are_refused():
    graph, _ = skipping()
    text = pipeline(graph, [solo(0)] * 4, replicas={0: (solo(1),)}).to_json()
    with pytest.raises(PlanError, match=r"segment 0 of the plan, turn 1: .*'rings'"):
        Plan.from_json(text.replace('"turns": [{"kind": "single"', '"turns": [{"kind": "rings"'))


def test_a_rank_beyond_the_plan_is_refused_in_any_turn():
    graph, _ = skipping()
    plan = pipeline(graph, [solo(0)] * 4, replicas={2: (solo(7),)})
    with pytest.raises(PlanError, match="segment 2 uses rank 7, but the plan has only 3"):
        lower(replace(plan, ranks=3).variant(1), graph)
