"""Sequences by the command line: what stays on the boards, compared with the file, and what does not go with it."""

from __future__ import annotations

import pytest

from tests.models import write_decoder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_decoder(tmp_path_factory.mktemp("models"), "gpt2", positions=16)


def test_requests_of_a_sequence_are_compared_with_the_file(one, model):
    words = [
        "infer",
        "--model",
        model,
        "--state",
        "present.*=past_key_values.*",
        "--max-length",
        5,
        "--layout",
        "single",
    ]
    code, out, err = one(*words, "--requests", 5, "--verify")
    assert code == 0 and "5 of 5 requests equal" in out, err
    assert "inputs   input_ids (1x1 int64)\noutputs  logits (1x1x23 float32)\nstates   2 inputs" in out
    code, _, err = one(*words, "--requests", 6)
    assert code == 2 and "and there is room for 5" in err
    code, out, err = one(*words, "--repeat", 9, "--verify", "--report", "--trace-budget", 0)
    assert code == 0 and "verify   equal" in out, err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("infer", "--state", "auto", "--max-length", 5, "--in-flight", 2, "--requests", 3), "one at a time"),
        (("infer", "--state", "auto", "--max-length", 5, "--resume", "out.h5"), "neither --elastic nor --resume"),
        (("infer", "--state", "present.*=past"), "is neither OUTPUT=INPUT"),
        (("infer", "--state", "auto"), "a state keeps its shape, or grows"),
        (
            ("plan", "--state", "auto", "--objective", "throughput", "--ranks", 2),
            "--state does not go with --objective",
        ),
    ],
)
def test_what_does_not_go_with_states(one, model, words, said):
    code, _, err = one(words[0], "--model", model, *words[1:])
    assert code == 2 and said in " ".join(err.split())


def test_a_plan_is_for_a_model_with_its_states(one, model, tmp_path):
    words = ["--model", model, "--max-length", 8]
    code, _, err = one("plan", *words, "--ranks", 1, "--output", tmp_path / "plan.json")
    assert code == 0, err
    code, _, err = one("infer", *words, "--plan", tmp_path / "plan.json", "--repeat", 1)
    assert code == 0, err
    code, _, err = one("infer", *words[:2], "--plan", tmp_path / "plan.json")
    assert code == 2 and "the same model, --shape and --state as then" in err
