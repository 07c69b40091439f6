"""A stream that was killed goes on in its file, and leaves what it would have left undisturbed."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from tests.arrays import read_rows
from tests.launch import run

TINY = "builtin:tiny_cnn"


def saved(folder, count):
    for number in range(count):
        request = np.random.default_rng(number).standard_normal((1, 3, 32, 32), np.float32)
        np.save(folder / f"{number}.npy", request)
    return ["--input", folder / "*.npy"]


def stacked(folder, count):
    with h5py.File(folder / "requests.h5", "w") as file:
        file["input"] = np.random.default_rng(0).standard_normal((count, 1, 3, 32, 32), np.float32)
    return ["--input", folder / "requests.h5"]


def made_up(folder, count):
    return ["--seed", 3]


@pytest.mark.parametrize("given", [made_up, saved, stacked], ids=lambda given: given.__name__)
def test_a_stream_goes_on_behind_its_last_request(one, tmp_path, given):
    inputs = [*given(tmp_path, 7), "--model", TINY]
    assert one("infer", *inputs, "--requests", 7, "--output", tmp_path / "whole.h5")[::2] == (0, "")
    words = ["infer", *inputs, "--resume", tmp_path / "out.h5", "--requests"]
    for count, ran in ((3, 3), (5, 2), (7, 2), (7, 0)):
        code, out, err = one(*words, count)
        assert (code, err) == (0, "") and f"stream   {ran} requests in" in out
    assert read_rows(tmp_path / "out.h5").tobytes() == read_rows(tmp_path / "whole.h5").tobytes()


def test_a_stream_that_was_appended_goes_on_behind_its_own_requests(one, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second, out = saved(tmp_path / "a", 3), stacked(tmp_path / "b", 6), tmp_path / "out.h5"
    for words in (
        [*first, "--append", "--output", out],
        [*second, "--requests", 2, "--append", "--output", out],
        [*second, "--resume", out],
    ):
        code, _, err = one("infer", "--model", TINY, *words)
        assert (code, err) == (0, "")
    one("infer", "--model", TINY, *first, "--output", tmp_path / "first.h5")
    one("infer", "--model", TINY, *second, "--output", tmp_path / "second.h5")
    whole = (read_rows(tmp_path / name) for name in ("first.h5", "second.h5"))
    assert read_rows(out).tobytes() == b"".join(rows.tobytes() for rows in whole)


def test_what_is_not_the_stream_that_began_the_file(one, tmp_path):
    out, inputs = tmp_path / "out.h5", saved(tmp_path, 3)
    words = ["--model", TINY, "--resume", out]
    assert one("infer", *words, *inputs)[0] == 0
    before = out.read_bytes()
    for given, said in (
        ([*inputs, "--mean", 1], "was begun with other requests (3 files"),
        (["--requests", 9], "now random, seed 0"),
        (["--requests", 9, "--model", "builtin:tiny_resnet"], "has model tiny_cnn and this stream tiny_resnet"),
        (["--input", tmp_path], "asks for the same requests again, and"),
        (["--requests", 9, "--append"], "needs neither --output nor --append"),
        ([], "--resume goes with a stream"),
    ):
        code, _, err = one("infer", *words, *given)
        assert code == 2 and said in err and len(err.splitlines()) == 1
    np.save(tmp_path / "1.npy", np.zeros((1, 3, 32, 32), np.float32))
    code, _, err = one("infer", *words, *inputs)
    assert code == 2 and "was begun with other requests" in err
    assert out.read_bytes() == before


def test_a_file_that_does_not_say_what_is_in_it(one, tmp_path):
    out = tmp_path / "out.h5"
    assert one("infer", "--model", TINY, "--requests", 2, "--output", out)[0] == 0
    with h5py.File(out, "r+") as file:  # as those that were written by earlier versions
        del file.attrs["stream"], file.attrs["stream_begin"]
    code, _, err = one("infer", "--model", TINY, "--requests", 2, "--resume", out)
    assert code == 2 and "does not say which requests its stream has" in err
    assert one("infer", "--model", TINY, "--requests", 2, "--append", "--output", out)[0] == 0
    assert one("infer", "--model", TINY, "--requests", 4, "--resume", out)[0] == 0
    assert len(read_rows(out)) == 6


@pytest.mark.mpi
def test_a_stream_that_is_disturbed_for_two_minutes_goes_on_and_loses_nothing(mpirun, namespaces):
    """The bench's soak, in short: the root is killed, then another rank, and the last job is stopped in order."""
    outcome = run([sys.executable, "bench/soak.py", "--minutes", "2", "--losses", "2"])
    assert outcome.code == 0, str(outcome)
    assert ", 2 ranks lost" in outcome.out and "each written once, in order, equal to onnxruntime's" in outcome.out
