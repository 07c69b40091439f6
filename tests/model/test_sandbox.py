"""Models that crash, flood or stall the libraries that read them become a sentence, and the next model loads."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from onnx import helper

from flexpie_mpi.core.budget import Budget
from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model import prepare, sandbox, trial
from flexpie_mpi.model.sandbox import Job

from .build import classifier, make, noise

LOAD = import_module("flexpie_mpi.model.loading")  # as an attribute of the room, the name is the function


@pytest.fixture
def job(tmp_path):
    return Job("message", {}, "path", str(tmp_path), 1 << 30, 1 << 30, 30.0)


def reply_to(job, monkeypatch, prepare):
    """What the server answers when `prepare` stands for the preparation."""
    monkeypatch.setattr(sandbox, "prepare", prepare)
    monkeypatch.setattr(sandbox, "_source", lambda job: None)
    return sandbox._apart(job, os.getppid())


def test_what_goes_wrong_is_told(job, monkeypatch):
    def refuse(*_, **__):
        raise ModelError("it is no good.")

    def stumble(*_, **__):
        raise RuntimeError("deep in a library")

    def fill(*_, **__):
        raise OSError(28, "No space left on device", "somewhere")

    assert reply_to(job, monkeypatch, refuse)["error"] == "it is no good."
    assert "RuntimeError: deep in a library" in reply_to(job, monkeypatch, stumble)["error"]
    assert reply_to(job, monkeypatch, fill)["os_error"] == [28, "No space left on device", "somewhere"]
    assert "error" not in reply_to(job, monkeypatch, lambda *_, **__: None)


def test_a_crash_a_stall_and_a_flood_of_memory_are_told(job, monkeypatch):
    def flood(*_, **__):
        np.ones(4 << 30, np.uint8)

    def crash(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    assert "SIGKILL" in reply_to(job, monkeypatch, crash)["error"]
    assert "--memory" in reply_to(job, monkeypatch, flood)["error"]
    short = replace(job, limit_s=0.2)
    assert "longer than" in reply_to(short, monkeypatch, lambda *_, **__: time.sleep(60))["error"]


def test_long_texts_in_any_letters_are_told(job, monkeypatch):
    def complain(*_, **__):
        for _ in range(20):
            logging.getLogger("model").warning("\U0001f967" * 2000)
        raise ModelError("\U0001f967" * 1500)

    reply = reply_to(job, monkeypatch, complain)
    assert reply["error"] == "\U0001f967" * 1500
    assert reply["warnings"] == ["\U0001f967" * 1000] * 8


def test_an_answer_that_was_not_waited_for_is_nobody_elses(loaded, monkeypatch):
    asked = sandbox._asked

    def interrupted(server, job):
        server.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        server.stdin.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox, "_asked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loaded(classifier())
    monkeypatch.setattr(sandbox, "_asked", asked)
    assert loaded(classifier(16)).graph.nodes


def test_a_model_that_dies_of_made_up_inputs_is_prepared_without_a_run(job, monkeypatch):
    def die(*_, runs):
        if runs:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(sandbox, "prepare", die)
    monkeypatch.setattr(sandbox, "_source", lambda job: None)
    reply = sandbox._answer(job, os.getppid())
    assert "error" not in reply and "SIGKILL" in reply["warnings"][0]


def test_without_a_run_sizes_are_those_of_inference(loaded, monkeypatch):
    monkeypatch.setattr(LOAD, "prepare_apart", partial(prepare.prepare, runs=False))
    graph = loaded(classifier()).graph
    assert all(value.shape is not None for value in graph.values.values())


def test_a_function_that_calls_itself_is_refused_and_the_next_model_loads(loaded):
    call = helper.make_node("F", ["a"], ["b"], domain="loc")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("loc", 1)]
    proto = make([helper.make_node("F", ["x"], ["y"], domain="loc")], {"x": (2,)}, ["y"], domains=["loc"])
    proto.functions.append(helper.make_function("loc", "F", ["a"], ["b"], [call], imports))
    with pytest.raises(ModelError, match="function 'F' calls itself"):
        loaded(proto)
    assert loaded(classifier()).graph.nodes


def test_a_value_that_is_too_large_is_refused_before_it_is_made(loaded):
    pads = np.array([0, 0, 0, 0, 0, 0, 1 << 20, 0])
    proto = make([helper.make_node("Pad", ["x", "pads"], ["y"])], {"x": (1, 1, 4, 4)}, ["y"], {"pads": pads})
    with pytest.raises(ModelError, match=r"value 'y' of shape 1,1,1048580,4 would take 0\.0168 GB.*--memory"):
        loaded(proto, budget=Budget(1 << 20))
    assert loaded(proto).graph.value("y").shape == (1, 1, 1048580, 4)


def test_a_loop_that_never_ends_on_made_up_inputs_does_not_hold_up_loading(loaded, monkeypatch):
    monkeypatch.setattr(LOAD, "prepare_apart", prepare.prepare)
    monkeypatch.setattr(trial, "LOOP_S", 0.1)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "one"], ["v2"])],
        "body",
        [helper.make_tensor_value_info(*item) for item in (("i", 7, ()), ("c", 9, ()), ("v", 1, (1,)))],
        [helper.make_tensor_value_info(*item) for item in (("c2", 9, ()), ("v2", 1, (1,)))],
    )
    nodes = [helper.make_node("Loop", ["", "yes", "x"], ["l"], body=body), ("Relu", ["l"], ["y"])]
    proto = make(nodes, {"x": (1,)}, ["y"], {"yes": np.array(True), "one": noise(1)})
    assert [node.op for node in loaded(proto).graph.nodes] == ["Loop", "Relu"]


def test_no_room_for_what_is_prepared_is_a_sentence(loaded, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(import_module("flexpie_mpi.model.loading"), "prepare_apart", full)
    with pytest.raises(ModelError, match=r"cannot be prepared: No space left on device; make room in /"):
        loaded(classifier())


def test_a_server_that_was_ended_is_started_again(loaded):
    assert loaded(classifier()).graph.nodes
    sandbox._server().kill()
    sandbox._server().wait()
    assert loaded(classifier(32)).graph.nodes
