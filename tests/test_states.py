"""States that stay on the ranks: many requests of a sequence as one session computes them, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.core.choices import StateChoice
from flexpie_mpi.core.errors import DataError, ModelError, PlanError
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.facts import facts_of
from flexpie_mpi.lower.memory import memory_of
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.measure.compare import Remembered
from flexpie_mpi.planner.rules import with_more_tokens
from flexpie_mpi.runtime.engine import settle_pace
from flexpie_mpi.runtime.state_transfer import read_states, write_states
from flexpie_mpi.runtime.whole_file import WholeFile

from .caching import grouped, scattered
from .model.build import Node, make, noise
from .models import HIDDEN, VOCABULARY, write_decoder
from .planners import planned

ROOM = 9


COUNTS = {
    "one": [("Gather", ["past shape", "third"], ["position_ids"])],
    "range": [
        ("Gather", ["past shape", "two"], ["held"]),
        ("Shape", ["input_ids"], ["sizes"]),
        ("Gather", ["sizes", "last"], ["new"]),
        ("Add", ["held", "new"], ["end"]),
        ("Range", ["held", "end", "by"], ["range"]),
        ("Unsqueeze", ["range", "front"], ["position_ids"]),
    ],
    "sum": [("Gather", ["past shape", "third"], ["held"]), ("Mul", ["held", "by"], ["position_ids"])],
}
"""How a decoder may count where its tokens are."""


def counting(proto: onnx.ModelProto, nodes: list[Node]) -> onnx.ModelProto:
    """A decoder that takes the places of its tokens from the length of its past."""
    graph = proto.graph
    places = next(value for value in graph.input if value.name == "position_ids")
    graph.input.remove(places)
    constants = {"third": [[2]], "two": 2, "last": 1, "by": 1, "front": [0]}
    graph.initializer.extend(numpy_helper.from_array(np.array(data), name) for name, data in constants.items())
    for op, inputs, outputs in reversed([("Shape", ["past_key_values.0.key"], ["past shape"]), *nodes]):
        graph.node.insert(0, helper.make_node(op, inputs, outputs))
    return proto


def streaming(frames: int = 10) -> onnx.ModelProto:
    """Some frames of sound at a time through a convolution that remembers two frames, and an LSTM."""
    nodes: list[Node] = [
        helper.make_node("Concat", ["conv_cache", "x"], ["long"], axis=2),
        ("Slice", ["long", "ten", "end", "two"], ["new_conv_cache"]),
        ("Conv", ["long", "w"], ["c"]),
        ("Relu", ["c"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "lw", "lr", "lb", "", "h", "c0"], ["l", "hn", "cn"], hidden_size=8),
        ("Squeeze", ["l", "direction"], ["s"]),
        ("MatMul", ["s", "head"], ["y"]),
    ]
    weights = {
        "w": 0.4 * noise(12, 6, 3), "lw": 0.4 * noise(1, 32, 12), "lr": 0.4 * noise(1, 32, 8),
        "lb": 0.1 * noise(1, 64), "head": noise(8, 5), "ten": np.array([frames]), "end": np.array([frames + 2]),
        "two": np.array([2]), "direction": np.array([1]),
    }  # fmt: skip
    inputs = {"x": [1, 6, frames], "conv_cache": [1, 6, 2], "h": [1, 1, 8], "c0": [1, 1, 8]}
    return make(nodes, inputs, ["y", "new_conv_cache", "hn", "cn"], weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    write_decoder(folder, "gpt2", positions=16)
    write_decoder(folder, "llama", key_heads=2, intermediate=64)
    for way, nodes in COUNTS.items():
        proto = onnx.load(folder / "gpt2.onnx", load_external_data=False)
        onnx.save(counting(proto, nodes), folder / f"counts_{way}.onnx")
    onnx.save(streaming(), folder / "streaming.onnx")
    onnx.save(streaming(1), folder / "steps.onnx")
    onnx.save(grouped(), folder / "grouped.onnx")
    onnx.save(scattered(), folder / "scattered.onnx")
    return folder


@pytest.fixture(scope="module")
def cache(folder):
    return Cache(folder / "cache")


@pytest.fixture(scope="module")
def grows(folder, cache):
    """A decoder, one token at a time."""
    return load(str(folder / "gpt2.onnx"), cache=cache, states=StateChoice(("auto",), ROOM))


@pytest.fixture(scope="module")
def counts_one(folder, cache):
    """One token at a time, whose place the decoder counts."""
    return load(str(folder / "counts_one.onnx"), cache=cache, states=StateChoice(("auto",), ROOM))


@pytest.fixture(scope="module")
def counts_range(folder, cache):
    return load(str(folder / "counts_range.onnx"), cache=cache, states=StateChoice(("auto",), ROOM))


@pytest.fixture(scope="module")
def groups(folder, cache):
    """One with fewer heads of keys than of queries, and rotated."""
    return load(str(folder / "llama.onnx"), cache=cache, states=StateChoice(("present.*=past_key_values.*",), ROOM))


@pytest.fixture(scope="module")
def chunks(folder, cache):
    """The same, four tokens at a time."""
    return load(str(folder / "gpt2.onnx"), {"input_ids": (1, 4)}, cache, states=StateChoice(("auto",), ROOM))


@pytest.fixture(scope="module")
def stays(folder, cache):
    return load(str(folder / "streaming.onnx"), cache=cache, states=StateChoice(("new_*=*", "hn=h", "cn=c0")))


@pytest.fixture(scope="module")
def steps(folder, cache):
    return load(str(folder / "steps.onnx"), cache=cache, states=StateChoice(("new_*=*", "hn=h", "cn=c0")))


@pytest.fixture(scope="module")
def grouped_queries(folder, cache):
    """One whose operator has the cache in it."""
    return load(str(folder / "grouped.onnx"), cache=cache, states=StateChoice(("auto",), ROOM))


@pytest.fixture(scope="module")
def scatters(folder, cache):
    """One that writes into a cache of one size."""
    return load(str(folder / "scattered.onnx"), cache=cache, states=StateChoice(("auto",), ROOM))


def sequence(model):
    """Requests of a sequence, what one session makes of them, and of the states in the end."""
    value, chance = model.graph.value(model.graph.inputs[0]), np.random.default_rng(0)
    file, earlier = WholeFile(model.source, 1), Remembered(model)
    requests, expected = [], []
    for _ in range(ROOM if model.graph.growth else 5):
        numbers = chance.integers(0, VOCABULARY, value.shape) if model.graph.growth else chance.normal(size=value.shape)
        requests.append({value.name: numbers.astype(value.dtype)})
        outputs = file.run(earlier.feeds(requests[-1]))
        earlier.keep(outputs)
        expected.append(outputs[model.graph.outputs[0]])
    held = earlier.feeds({})  # of which one that writes into a cache has room for the next request
    return (
        requests,
        expected,
        {
            state.input: held[state.input][:, :, :ROOM] if state.axis == 2 else held[state.input]
            for state in model.graph.states
        },
    )


def check(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def plan_of(graph, ranks, kind):
    return planned(graph, ranks, kind) if kind == "auto" else layout_plan(graph, ranks, kind)


@pytest.mark.parametrize(
    ("name", "ranks", "kind"),
    [
        ("grows", 1, "single"),
        ("grows", 2, "channels"),
        ("grows", 4, "auto"),
        ("grows", 8, "channels"),
        ("counts_one", 3, "channels"),
        ("counts_range", 4, "auto"),
        ("groups", 3, "channels"),
        ("groups", 6, "grid"),
        ("stays", 3, "auto"),
        ("stays", 4, "rows"),
        ("steps", 3, "channels"),
        ("grouped_queries", 3, "megatron"),
        ("scatters", 4, "megatron"),
    ],
)
def test_many_requests_are_one_sequence(request, cache, name, ranks, kind):
    model = request.getfixturevalue(name)
    requests, expected, states = sequence(model)
    plan = plan_of(model.graph, ranks, kind)

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, slowdown=1.01)
        found = [np.array(output) for each in requests for output in engine.run(each).values()]
        kept = read_states(engine)
        settle_pace([engine])  # for which buffers are filled
        settled = read_states(engine)
        engine.states.reset()
        return found, kept, settled, [np.array(output) for output in engine.run(requests[0]).values()]

    found, kept, settled, again = run_ranks(ranks, rank)[0]
    check(found, expected)
    check(again, expected[:1])
    assert kept.keys() == settled.keys() == {state.input for state in model.graph.states}
    for state, array in kept.items():
        np.testing.assert_allclose(array, states[state], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(array, settled[state])


@pytest.mark.parametrize("name", ["grows", "groups", "stays"])
@pytest.mark.parametrize(("ranks", "kind"), [(2, "rows"), (3, "grid"), (8, "channels")])
def test_programs_with_states_are_sound(request, name, ranks, kind):
    graph = request.getfixturevalue(name).graph
    plan = plan_of(graph, ranks, kind)
    assert violations(lower(plan, graph), plan, graph) == []


def test_hidden_units_of_single_steps_are_shared_out(steps):
    plan = layout_plan(steps.graph, 4, "channels")
    found = facts_of(plan, steps.graph, lower(plan, steps.graph))
    assert "flexpie_mpi.LSTM" in {node.operator for node in steps.graph.bound}
    assert max(rank.weight_bytes for rank in found.ranks) < 0.5 * steps.graph.weight_bytes  # the LSTM has 0.72


def test_what_is_not_kept_is_found(grows):
    graph, plan = grows.graph, layout_plan(grows.graph, 3, "channels")
    programs = lower(plan, graph)
    kept = programs[1].kept
    elsewhere = replace(kept[0], target=kept[1].target)
    for broken in (kept[1:], (elsewhere, *kept[1:]), (replace(kept[0], axis=1), *kept[1:])):
        damaged = (programs[0], replace(programs[1], kept=broken), programs[2])
        assert {each.kind for each in violations(damaged, plan, graph)} == {"state"}


def test_heads_stay_where_they_are(grows):
    """What passes the root of a token: what the plan moves for itself, as much whatever is held; nothing of a cache."""
    plan = layout_plan(grows.graph, 3, "channels")
    programs = lower(plan, grows.graph)
    moved = {piece.value for program in programs for message in program.sends for piece in message.pieces}
    assert not moved & {name for state in grows.graph.states for name in (state.input, state.output)}
    whole = 4 * 2 * HIDDEN * ROOM
    assert sum(program.state_bytes for program in programs) == whole
    needed = memory_of([programs], grows.graph)[1]
    assert needed.single_bytes >= programs[1].arena.nbytes + programs[1].state_bytes


OTHERS = {"rows": lambda plan, graph: layout_plan(graph, 3, "rows"), "the same weights": with_more_tokens}


@pytest.mark.parametrize("other", OTHERS)
def test_a_prompt_in_chunks_goes_before_its_tokens(grows, chunks, cache, other):
    """Two engines with plans of their own work on one state; the last chunk has more tokens than the prompt."""
    requests, expected, _ = sequence(grows)
    tokens = [int(each["input_ids"].item()) for each in requests]
    plan = layout_plan(grows.graph, 3, "megatron")
    plans = plan, OTHERS[other](plan, chunks.graph)

    def rank(transport):
        engine = Engine(transport, grows, plans[0], cache=cache)
        prompt = Engine(transport, chunks, plans[1], cache=cache, states=engine.states)
        found = []
        for begin, keep in ((0, 4), (4, 3)):
            padded = [*tokens[begin : begin + keep], 0, 0, 0][:4]
            for logits in prompt.run({"input_ids": np.array([padded])}, keep).values():
                found += list(np.array(logits[:, :keep]).reshape(keep, 1, 1, VOCABULARY))
        for each in requests[7:]:
            found += [np.array(output) for output in engine.run(each).values()]
        return found, engine.states.length

    found, length = run_ranks(3, rank)[0]
    assert length == ROOM
    check(found, expected)


def test_chunks_read_the_weights_that_single_tokens_read(grows, chunks, tmp_path):
    """As files, and what is laid out of them for products as well."""
    plan, made = layout_plan(grows.graph, 3, "megatron"), []
    for job in ((grows, plan), (chunks, with_more_tokens(plan, chunks.graph))):
        run_ranks(3, lambda transport, job=job: Engine(transport, *job, cache=Cache(tmp_path)).close())
        made.append({path.parent.name for path in tmp_path.glob("weights/*/model.onnx")})
    assert made[0] and made[0] == made[1]


def test_what_every_rank_makes_of_one_token_is_in_the_pairs_and_of_many_by_tokens(grows, chunks):
    plan = layout_plan(grows.graph, 3, "megatron")
    assert {segment.layout.kind for segment in plan.segments} == {"rows", "channels"}, "a table of words goes by rows"
    with_more = with_more_tokens(plan, chunks.graph)
    single, many = (
        facts_of(each, model.graph, lower(each, model.graph)) for each, model in ((plan, grows), (with_more, chunks))
    )
    assert single.redundant > 0.02 > 0.002 > many.redundant


def test_weights_of_few_bits_are_laid_out_in_files(tmp_path):
    path = write_decoder(tmp_path, "llama", 96, key_heads=1, intermediate=64, is_packed=True)
    model = load(str(path), cache=Cache(tmp_path), states=StateChoice(("auto",), ROOM))
    plan = layout_plan(model.graph, 1, "single")
    run_ranks(1, lambda transport: Engine(transport, model, plan, cache=Cache(tmp_path)).close())
    made = [onnx.load(each, load_external_data=False).graph for each in tmp_path.glob("weights/*/model.onnx")]
    assert made  # of those whose scales are no constants of a few bytes
    for graph in made:
        (entries,) = (
            {entry.key for entry in each.external_data} for each in graph.initializer if each.name == "weight0"
        )
        assert "prepacked_0" in entries


def test_a_state_is_taken_along(grows, cache):
    """One that is read is written into an engine with another plan, and taken back by some positions."""
    requests, expected, _ = sequence(grows)

    def reads(transport):
        engine = Engine(transport, grows, layout_plan(grows.graph, 2, "channels"), cache=cache)
        for each in requests[:6]:
            engine.run(each)
        return read_states(engine)

    kept = run_ranks(2, reads)[0]
    wrong = {name: array[:, :, :3] if name.endswith("0.key") else array for name, array in kept.items()}

    def goes_on(transport):
        engine = Engine(transport, grows, layout_plan(grows.graph, 3, "grid", grid=(3, 1)), cache=cache)
        is_root = transport.rank == 0
        for given, words in (({}, "is missing"), (wrong, "3 and 6 positions")):
            with pytest.raises(DataError, match=words):
                write_states(engine, given)
        write_states(engine, kept if is_root else {})
        engine.states.reset(4)
        return [np.array(output) for each in requests[4:] for output in engine.run(each).values()]

    check(run_ranks(3, goes_on)[0], expected[4:])


def test_no_more_positions_than_there_is_room_for(grows, cache):
    def rank(transport):
        engine = Engine(transport, grows, layout_plan(grows.graph, 1, "single"), cache=cache)
        token = {"input_ids": np.zeros((1, 1), np.int64)}
        for _ in range(ROOM):
            engine.run(token)
        with pytest.raises(DataError, match="1 of 1 positions are to be kept behind 9 others"):
            engine.run(token)
        with pytest.raises(DataError, match="it cannot be taken back to 10"):
            engine.states.reset(10)
        engine.states.reset(ROOM - 1)
        return engine.run(token)

    run_ranks(1, rank)


@pytest.mark.parametrize(
    ("name", "choice", "words"),
    [
        ("counts_sum", StateChoice(("auto",), ROOM), "it counts positions instead of taking them from attention_mask"),
        ("streaming", StateChoice(("auto",), ROOM), "no state of the model has an axis without a size"),
        ("streaming", StateChoice(("hn=x",)), "cannot be what the next request reads as 'x'"),
        ("streaming", StateChoice(("present.*=past.*",)), "no output and input of the model have"),
    ],
)
def test_what_cannot_be_a_state(folder, cache, name, choice, words):
    with pytest.raises(ModelError, match=words):
        load(str(folder / f"{name}.onnx"), cache=cache, states=choice)


def test_requests_of_a_sequence_follow_each_other(stays, cache):
    def rank(transport):
        with pytest.raises(PlanError, match="one at a time"):
            Engine(transport, stays, layout_plan(stays.graph, 1, "single"), cache=cache, in_flight=2)

    run_ranks(1, rank)


def test_a_model_has_another_digest_with_states(folder, cache, stays):
    """So that no plan of one is taken for the other."""
    plain = load(str(folder / "streaming.onnx"), cache=cache)
    assert plain.graph.digest != stays.graph.digest
    assert set(plain.graph.inputs) == {"x", "conv_cache", "h", "c0"} and stays.graph.inputs == ("x",)
