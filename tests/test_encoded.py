"""Decoders that attend to what an encoder has left: it is written once, and stays on the ranks that read it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.core.choices import StateChoice
from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.region import Region
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.measure.compare import Remembered
from flexpie_mpi.runtime.state_transfer import read_states, write_states
from flexpie_mpi.runtime.whole_file import WholeFile

from .caching import ENCODED, crossing
from .model.build import noise
from .planners import planned

ROOM = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    onnx.save(crossing(), folder / "crosses.onnx")
    onnx.save(crossing(passes_on=True), folder / "passes.onnx")
    return folder


@pytest.fixture(scope="module")
def cache(folder):
    return Cache(folder / "cache")


def crosses(folder, cache, name="crosses", states=("auto",)):
    """A decoder of one token that attends to seven positions of an encoder."""
    shapes = {ENCODED[0]: (1, 4, 7, 16)}
    return load(str(folder / f"{name}.onnx"), shapes, cache, states=StateChoice(states, ROOM))


def encoded(seed):
    """Keys and values that an encoder leaves."""
    return {name: noise(1, 4, 7, 16, seed=seed + number) for number, name in enumerate(ENCODED)}


def crossed(model, requests, given):
    """What one session makes of requests that are all given what the encoder has left."""
    file, earlier, found = WholeFile(model.source, 1), Remembered(model), []
    for request in requests:
        outputs = file.run({**earlier.feeds(request), **given})
        earlier.keep(outputs)
        found.append(outputs["logits"])
    return found


@pytest.mark.parametrize("name", ["crosses", "passes"])
@pytest.mark.parametrize(
    ("ranks", "kind"), [(1, "single"), (2, "megatron"), (3, "megatron"), (4, "auto"), (6, "megatron"), (3, "rows")]
)
def test_what_an_encoder_has_left_is_written_once(folder, cache, name, ranks, kind):
    model = crosses(folder, cache, name)
    plan, first, second = planned(model.graph, ranks, kind), encoded(1), encoded(5)
    requests = [{"input_ids": np.array([[token]])} for token in range(5)]
    expected = [crossed(model, requests, given) for given in (first, second)]
    assert np.abs(expected[0][0] - expected[1][0]).max() > 0.1, "else nothing shows what is attended to"

    def rank(transport):
        engine, found = Engine(transport, model, plan, cache=cache), []

        def run(some):
            found.extend(np.array(output) for each in some for output in engine.run(each).values())

        write_states(engine, first)
        run(requests)
        engine.states.reset()  # what is written stays
        run(requests[:3])
        kept = read_states(engine)
        write_states(engine, second)
        engine.states.reset()
        run(requests)
        with pytest.raises(DataError, match="is missing"):
            write_states(engine, {**first, "past_key_values.0.decoder.key": noise(1, 4, 3, 16)})
        write_states(engine, kept)
        run(requests[3:])
        return found, kept

    found, kept = run_ranks(ranks, rank)[0]
    wanted = [*expected[0], *expected[0][:3], *expected[1], *expected[0][3:]]
    np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-4, atol=1e-4)
    assert {name: array.shape[2] for name, array in kept.items()} == {
        **dict.fromkeys(("past_key_values.0.decoder.key", "past_key_values.0.decoder.value"), 3),
        **dict.fromkeys(ENCODED, 7),
    }
    for each, array in first.items():
        np.testing.assert_array_equal(kept[each], array)


@pytest.mark.parametrize("name", ["crosses", "passes"])
def test_what_an_encoder_has_left_is_where_it_is_read(folder, cache, name):
    """Each rank has a quarter of it, that of its head; nothing of it travels, or is copied at the end of a request."""
    model = crosses(folder, cache, name)
    assert (model.graph.inputs, model.graph.outputs) == (("input_ids",), ("logits",))
    plan = layout_plan(model.graph, 4, "megatron")
    programs = lower(plan, model.graph)
    assert violations(programs, plan, model.graph) == []
    moved = {piece.value for program in programs for message in program.sends for piece in message.pieces}
    assert moved.isdisjoint(ENCODED)
    for rank, program in enumerate(programs):
        homes = {buffer.value: buffer for buffer in program.buffers if buffer.is_state}
        assert all(homes[each].region == Region(((0, 1), (rank, rank + 1), (0, 7), (0, 16))) for each in ENCODED)
        assert {kept.target for kept in program.kept}.isdisjoint(homes[each].index for each in ENCODED)


def test_inputs_that_no_request_changes_are_named_without_an_output(folder, cache):
    model = crosses(folder, cache, states=("present.*=past_key_values.*", "=past_key_values.*.encoder.value"))
    assert {state.input for state in model.graph.states if not state.output} == {ENCODED[1]}
    assert model.graph.inputs == ("input_ids", ENCODED[0])
