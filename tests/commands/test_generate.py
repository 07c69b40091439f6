"""flexpie-mpi generate: the tokens of one session whose past grows, and what is said when none can be made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.model.zoo import materialise
from flexpie_mpi.session.sampling import Sampling
from tests.test_sequences import built

PROMPT = [5, 60, 7, 8, 90, 10, 11]
WORDS = ("generate", "--layout", "channels", "--trace-budget", 0, "--tokens", ",".join(map(str, PROMPT)))


def alone(path: Path, count: int) -> list[int]:
    """The likeliest tokens by one session, which gets its keys and values back as it gave them."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pasts = [each for each in session.get_inputs() if "past" in each.name]
    past = {each.name: np.zeros((1, each.shape[1], 0, each.shape[3]), np.float32) for each in pasts}
    tokens, given, held = [], PROMPT, 0
    for _ in range(count):
        end = held + len(given)
        fed = {"input_ids": [given], "position_ids": [range(held, end)], "attention_mask": [[1] * end]}
        logits, *present = session.run(None, {**{name: np.array(value) for name, value in fed.items()}, **past})
        past, held = dict(zip(past, present, strict=True)), end
        given = [int(logits[0, -1].argmax())]
        tokens += given
    return tokens


@pytest.mark.mpi
def test_tokens_are_those_of_one_session(job, tmp_path):
    path = tmp_path / "llama.onnx"
    onnx.save(built("llama in 4 bits", "dynamo 18"), path)
    outcome = job(3, *WORDS, "--model", path, "--max-tokens", 20, "--max-length", 26, "--piece", 4, "--json", "-")
    assert outcome.code == 0, outcome
    found = json.loads(outcome.out)
    assert found["tokens"] == alone(path, 20)
    assert found["prompt"]["tokens"] == len(PROMPT) and found["first_token_s"] > found["prompt"]["seconds"] > 0


def test_tokens_come_out_with_their_pace(one, tmp_path):
    path = materialise("tiny_gpt2", tmp_path)
    code, out, err = one(*WORDS, "--model", path, "--max-tokens", 20, "--piece", 4)
    assert code == 0 and [int(word) for word in out.split()] == alone(path, 20)
    assert "prompt of 7 tokens" in err and "first token after" in err and "19 more at" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-length", 8, "--max-tokens", 3), "has 7 tokens, with 3 to follow, and the longest context is 8"),
        (("--tokens", "1,999"), "has token 999, and the model knows those from 0 to 255"),
        (("--temperature", -1), "the temperature is -1"),
        (("--top-p", 0), "top_p is 0"),
        (("--model", "builtin:tiny_bert"), "--state auto: no output and input of the model have the usual names"),
        (("--tokens", "a"), "'a' is no list of token numbers"),
    ],
)
def test_what_cannot_be_generated_is_refused(one, words, said):
    code, out, err = one(*WORDS, "--model", "builtin:tiny_gpt2", *words)
    assert (code, out) == (2, "") and said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompt", "hi"), "--prompt needs --tokenizer"),
        (("--prompt", "hi", "--tokens", "1"), "not allowed with argument --prompt"),
        (("--prompt", "hi", "--tokenizer", "t.json"), "pip install flexpie-mpi[tokenizers]"),
    ],
)
def test_text_needs_a_tokenizer(one, monkeypatch, words, said):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.delitem(sys.modules, "flexpie_mpi.files.tokenizer", raising=False)
    code, _, err = one("generate", "--model", "builtin:tiny_gpt2", *words)
    assert code == 2 and said in err


def test_text_goes_in_and_out(one, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{number}": number for number in range(255)} | {"</s>": 255}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    words = ("--prompt", "w1 w2 w3", "--tokenizer", tmp_path / "tokenizer.json", "--max-tokens", 4, "--trace-budget", 0)
    code, out, err = one("generate", "--model", "builtin:tiny_gpt2", *words)
    assert code == 0, err
    assert len(out.split()) == 4 and all(word[0] == "w" for word in out.split())


LOGITS = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))


def test_chance_has_the_shares_of_the_logits_and_a_seed():
    sampling = Sampling(temperature=1.0, seed=3)
    first, second = ([sampling.choose(LOGITS, generator) for _ in range(4000)] for generator in (
        sampling.generator(), sampling.generator()
    ))  # fmt: skip
    assert first == second
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 4000, np.exp(LOGITS), atol=0.03)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, {1}), (0.5, {1}), (0.6, {1, 3}), (0.8, {1, 2, 3}), (1.0, {0, 1, 2, 3})]
)
def test_chance_plays_among_the_likeliest(top_p, kept):
    sampling = Sampling(temperature=1.0, top_p=top_p)
    generator = sampling.generator()
    assert {sampling.choose(LOGITS, generator) for _ in range(500)} == kept


def test_without_temperature_the_likeliest_is_chosen():
    assert Sampling().choose(LOGITS, Sampling().generator()) == 1
    with pytest.raises(DataError, match="the seed is -1"):
        Sampling(seed=-1)
