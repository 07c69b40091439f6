"""The session from Python: as onnxruntime's on one rank and on three, and what becomes of it when something fails."""

from __future__ import annotations

import json
import re
import signal
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from flexpie_mpi.model.zoo import materialise
from tests.caching import crossing
from tests.launch import PROGRAMS, run
from tests.models import write_decoder

PROGRAM = str(PROGRAMS / "session_program.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return materialise("tiny_cnn", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def expected(model):
    return json.loads(run([sys.executable, PROGRAM, "onnxruntime", "use", str(model)]).out)


@pytest.fixture
def script(request, tmp_path):
    """``script(ranks, case, *arguments)``: what the program leaves behind; one rank is started without mpirun."""

    def call(ranks, *words, **options):
        words, extra = [PROGRAM, "flexpie_mpi", *map(str, words)], {"FLEXPIE_CACHE": str(tmp_path)}
        if ranks == 1:
            return run([sys.executable, *words], extra=extra)
        return request.getfixturevalue("mpirun").outcome(ranks, *words, extra=extra, **options)

    return call


@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.mpi)])
def test_it_is_used_as_onnxruntimes(script, model, expected, ranks):
    done = script(ranks, "use", model)
    assert done.code == 0, done
    found = json.loads(done.out)
    described = [[name, [1, *shape[1:]], kind] for name, shape, kind in expected["described"]]  # its batch is open
    assert (found["described"], found["providers"]) == (described, expected["providers"])
    np.testing.assert_allclose(found["outputs"], expected["outputs"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["named"], expected["named"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.mpi)])
def test_values_that_are_no_arrays_of_numbers(script, model, ranks):
    done = script(ranks, "types", model)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found == json.loads(run([sys.executable, PROGRAM, "onnxruntime", "types", str(model)]).out)
    assert ["parts", "seq(tensor(float))"] in found["described"] and ["half", "tensor(float16)"] in found["described"]


@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.mpi)])
def test_streams_end_in_order_however_they_end(script, model, expected, ranks):
    done = script(ranks, "stream", model)
    assert done.code == 0, done
    found, wanted = json.loads(done.out), expected["outputs"]
    np.testing.assert_allclose(found["all"], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["first"], wanted[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["single"], wanted[1], rtol=1e-4, atol=1e-5)
    assert found["wrong"][0] == 2 and "DataError: input 'input' is int" in found["wrong"][1]
    assert found["raising"] == [3, "KeyError: 'the camera is gone'"]
    assert "a stream is under way" in found["busy"] and found["none"] == []


@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.mpi)])
def test_several_sessions_and_what_is_refused(script, model, ranks):
    done = script(ranks, "several", model)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["same"] and found["goes_on"] == [1, 10]
    for sentence, said in zip(found["said"], REFUSED, strict=True):
        assert said in sentence


REFUSED = (
    "nowhere.onnx",
    "unknown planner 'diagonal'",
    "input 'input' is missing: the model needs input",
    "the model has no input 'x': it takes input",
    "the model has no output 'nothing': it gives scores",
    "of shape (1, 3, 32, 32) and type float64: the model takes (1, 3, 32, 32) float32",
    "the session is closed",
)


@pytest.mark.mpi
def test_what_an_encoder_has_left_is_given_once(script, tmp_path):
    onnx.save(crossing(), tmp_path / "decoder.onnx")
    done = script(3, "encoded", tmp_path / "decoder.onnx")
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["takes"] == ["input_ids"]
    file, past = onnxruntime.InferenceSession(tmp_path / "decoder.onnx"), [np.zeros((1, 4, 0, 16), np.float32)] * 2
    for number, (left, is_new) in enumerate(((0.5, True), (0.5, False), (1.0, True))):
        past = [past[0][:, :, :0]] * 2 if is_new else past
        feed = {"input_ids": np.array([[3]]), "attention_mask": np.ones((1, past[0].shape[2] + 1), np.int64)}
        for name, array in zip(("key", "value"), past, strict=True):
            feed |= {f"past_key_values.0.decoder.{name}": array}
            feed |= {f"past_key_values.0.encoder.{name}": np.full((1, 4, 7, 16), left, np.float32)}
        logits, *past = file.run(None, feed)
        np.testing.assert_allclose(found["steps"][number], logits.ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.mpi
def test_sessions_share_the_state_of_a_sequence(script, tmp_path):
    done = script(3, "sequence", write_decoder(tmp_path, "gpt2", positions=8))
    assert done.code == 0, done
    found = json.loads(done.out)
    assert (found["takes"], found["gives"], found["length"]) == (["input_ids"], ["logits"], [3, 3])
    for name, tokens in (
        ("chunk", slice(None)),
        ("back", slice(3, 4)),
        ("written", slice(3, 5)),
        ("goes_on", slice(1)),
    ):
        np.testing.assert_allclose(found[name], found["each"][tokens], rtol=1e-4, atol=1e-4)
    assert "there is room for 6" in found["said"][0] and "is missing" in found["said"][1]


@pytest.mark.mpi
def test_a_root_that_fails_ends_the_others(script, model):
    done = script(3, "failing", model)
    assert done.code not in (0, None) and "the root has had enough" in done.err
    assert not done.out or "BAD TERMINATION" in done.out, "the launcher may say what it saw; the script says nothing"


@pytest.mark.mpi
def test_a_rank_that_does_not_answer_is_an_error_on_the_root(script, model):
    done = script(2, "lost", model, int(signal.SIGSTOP))
    assert re.search(r"^rank 0 waited 2 s .* for rank 1", done.err, re.MULTILINE), done
    assert "again: the ranks have been of no use since an earlier call failed: rank 0 waited 2 s" in done.err
    assert done.code not in (0, None)


@pytest.mark.mpi
def test_a_rank_that_is_killed_ends_the_job(script, model):
    done = script(3, "lost", model, int(signal.SIGKILL))
    assert done.code not in (0, None), done
