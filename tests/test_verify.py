"""Lowered programs are sound, and every kind of damage to one is found and named."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi import load, run_ranks
from flexpie_mpi.core.choices import PRESETS
from flexpie_mpi.core.errors import ProgramError
from flexpie_mpi.core.layout import KINDS, Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.core.program import Compute, Finish, Start
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.lower import verify as verifier
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import engine

from .graphs import GRAPHS, GraphBuilder

GRAPH = GRAPHS["residual"]
PLAN = layout_plan(GRAPH, 3, "rows", fusion="none")
PROGRAMS = lower(PLAN, GRAPH)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("fusion", ["free", "none", "all-legal", "2"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 14])
def test_lowered_programs_are_sound(graph, preset, fusion, ranks):
    plan = layout_plan(graph, ranks, preset, fusion=fusion)
    assert violations(lower(plan, graph), plan, graph) == []


@st.composite
def random_plans(draw):
    graph = GRAPHS[draw(st.sampled_from(sorted(GRAPHS)))]
    ranks = draw(st.integers(1, 5))
    ends = sorted(draw(st.sets(st.integers(1, len(graph.nodes) - 1), max_size=5)) | {len(graph.nodes)})
    segments, first = [], 0
    for end in ends:
        kind = draw(st.sampled_from(["rows", "columns", "channels", "grid", "replicated", "single"]))
        group = tuple(draw(st.permutations(range(ranks)))[: 1 if kind == "single" else draw(st.integers(1, ranks))])
        grid = (1, len(group)) if kind == "grid" else ()
        weights = () if kind in ("grid", "single", "replicated") else tuple(range(1, len(group) + 1))
        layout = Layout(kind, group, weights, grid, KINDS[kind].cuts and draw(st.booleans()))
        names = tuple(node.name for node in graph.nodes[first:end])
        segments.append(Segment(names, layout))
        first = end
    return Plan(tuple(segments), ranks, graph.digest, root=draw(st.integers(0, ranks - 1))), graph


@given(random_plans())
@settings(max_examples=150, deadline=None)
def test_any_legal_plan_lowers_to_sound_programs(case):
    plan, graph = case
    try:
        programs = lower(plan, graph)
    except Exception as error:
        assert any(words in str(error) for words in ("cannot be cut by", "is a sum over what", "in parts, but node"))
        return
    assert violations(programs, plan, graph) == []
    assert digest(programs) == digest(lower(plan, graph))


def damaged(rank: int, change) -> set[str]:
    """Kinds of violation found when one rank's program is changed."""
    programs = list(PROGRAMS)
    programs[rank] = change(programs[rank])
    return {violation.kind for violation in violations(programs, PLAN, GRAPH)}


def change_step(program, kind, change, number=1):
    places = [place for place, step in enumerate(program.steps) if isinstance(step, kind) and change(step) is not None]
    place = places[number]
    return replace(program, steps=(*program.steps[:place], change(program.steps[place]), *program.steps[place + 1 :]))


def drop(side):
    def change(step):
        messages = getattr(step.exchange, side)
        return replace(step, exchange=replace(step.exchange, **{side: messages[1:]})) if messages else None

    return change


def duplicate(step):
    sends = step.exchange.sends
    return replace(step, exchange=replace(step.exchange, sends=(sends[0], *sends))) if sends else None


def retag(step):
    sends = step.exchange.sends
    return (
        replace(step, exchange=replace(step.exchange, sends=(replace(sends[0], tag=9999), *sends[1:])))
        if sends
        else None
    )


def shrink_receive(step):
    receives = step.exchange.receives
    if not receives:
        return None
    piece = receives[0].pieces[0]
    lo, hi = piece.region.bounds[3]
    smaller = replace(piece, region=piece.region.with_axis(3, (lo, hi - 1)))
    message = replace(receives[0], pieces=(smaller,))
    return replace(step, exchange=replace(step.exchange, receives=(message, *receives[1:])))


def shrink_copy(step):
    copies = step.exchange.copies
    if not copies:
        return None
    lo, hi = copies[0].region.bounds[2]
    smaller = replace(copies[0], region=copies[0].region.with_axis(2, (lo + 1, hi)))
    return replace(step, exchange=replace(step.exchange, copies=(smaller, *copies[1:])))


def shrink_block(step):
    block = step.blocks[0]
    if block.outputs[0] is None:
        return None
    lo, hi = block.outputs[0].bounds[2]
    smaller = replace(block, outputs=(block.outputs[0].with_axis(2, (lo, hi - 1)),))
    return replace(step, blocks=(smaller, *step.blocks[1:]))


@pytest.mark.parametrize(
    "kind, change, expected",
    [
        (Start, drop("sends"), {"unmatched"}),
        (Finish, drop("receives"), {"unmatched", "coverage"}),
        (Start, duplicate, {"duplicate"}),
        (Start, retag, {"unmatched"}),
        (Finish, shrink_receive, {"unmatched", "coverage"}),
        (Finish, shrink_copy, {"coverage"}),
        (Compute, shrink_block, {"regions"}),
    ],
    ids=["dropped send", "dropped receive", "duplicate", "tag", "shrunk receive", "shrunk copy", "shrunk block"],
)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_damaged_steps_are_found(rank, kind, change, expected):
    assert damaged(rank, lambda program: change_step(program, kind, change)) >= expected


def swap(first, second):
    def change(program):
        for place in range(len(program.steps) - 1):
            if isinstance(program.steps[place], first) and isinstance(program.steps[place + 1], second):
                steps = list(program.steps)
                steps[place], steps[place + 1] = steps[place + 1], steps[place]
                return replace(program, steps=tuple(steps))
        raise AssertionError("no such pair of steps")

    return change


@pytest.mark.parametrize(
    "first, second, expected",
    [(Finish, Compute, "coverage"), (Start, Finish, "order"), (Compute, Start, "coverage")],
)
def test_swapped_steps_are_found(first, second, expected):
    assert expected in damaged(1, swap(first, second))


def test_a_lost_step_is_found():
    def lose(program):
        return replace(program, steps=tuple(step for step in program.steps if not isinstance(step, Compute)))

    assert damaged(1, lose) >= {"regions", "coverage"}


def test_overlapping_buffers_are_found():
    def squeeze(program):
        offsets = (0,) * len(program.arena.offsets)
        return replace(program, arena=replace(program.arena, offsets=offsets))

    assert "memory" in damaged(1, squeeze)


def test_ranks_that_wait_for_each_other_are_found():
    plan = layout_plan(GRAPH, 3, "channels", fusion="none")
    programs = list(lower(plan, GRAPH))
    collectives = [p for p, s in enumerate(programs[1].steps) if isinstance(s, Start) and s.exchange.is_collective]
    steps = list(programs[1].steps)
    a, b = collectives[:2]
    steps[a], steps[b] = steps[b], steps[a]
    programs[1] = replace(programs[1], steps=tuple(steps))
    assert "order" in {violation.kind for violation in violations(programs, plan, GRAPH)}


def test_collectives_under_way_together_in_one_lane_are_found():
    b = GraphBuilder()
    left, right = b.conv("x", 6, 1), b.conv("x", 6, 1)
    graph = b.graph(b.add(b.conv(left), b.conv(right)))  # right's all-gather starts before left's has ended
    plan = layout_plan(graph, 3, "channels", fusion="none")
    programs = list(lower(plan, graph))
    assert violations(programs, plan, graph) == []

    def merged(step):
        if isinstance(step, Compute) or not step.exchange.is_collective:
            return step
        return replace(step, exchange=replace(step.exchange, staging_slot=0))

    programs[1] = replace(programs[1], steps=tuple(merged(step) for step in programs[1].steps))
    assert {violation.kind for violation in violations(programs, plan, graph)} == {"memory"}


def unsound(plan, graph, blocks=(), homes=None):
    """Programs of a plan of which one never sends its first message."""
    programs = list(lower(plan, graph))
    sender = next(program for program in programs if program.sends)
    place = next(place for place, step in enumerate(sender.steps) if isinstance(step, Start) and step.exchange.sends)
    exchange = replace(sender.steps[place].exchange, sends=sender.steps[place].exchange.sends[1:])
    steps = (*sender.steps[:place], Start(exchange), *sender.steps[place + 1 :])
    programs[sender.rank] = replace(sender, steps=steps)
    return (tuple(programs),)


def test_an_engine_verifies_a_plan_from_outside_on_every_rank_before_anything_starts(monkeypatch, tmp_path):
    model = load("builtin:tiny_cnn", cache=Cache(tmp_path))
    plan = layout_plan(model.graph, 3, "rows", fusion="none")
    monkeypatch.setattr(engine, "turns_of", unsound)
    monkeypatch.setattr(engine, "distribute", lambda *args: pytest.fail("weights are distributed before"))
    errors = run_ranks(3, lambda transport: _raised(lambda: engine.Engine(transport, model, plan)))
    assert all("never sent" in str(error) and "(unmatched)" in str(error) for error in errors)


def _raised(make):
    with pytest.raises(ProgramError) as raised:
        make()
    return raised.value


def test_a_job_of_very_many_messages_is_not_verified_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(verifier, "MOST_MESSAGES", 1)
    with caplog.at_level("INFO"):
        verifier.verify(unsound(PLAN, GRAPH), PLAN, GRAPH)
    assert "are not verified: more than 1 take too long" in caplog.text
