from __future__ import annotations

import argparse

import pytest

from flexpie_mpi.commands import texts
from flexpie_mpi.commands.output import sentence
from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.runtime.machine import launcher_rank


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (texts.named_shape, "x=1,3,8,8", ("x", (1, 3, 8, 8))),
        (texts.named_shape, "a=b=2", ("a=b", (2,))),
        (texts.named_shape, "x=", ("x", ())),
        (texts.grid, "3X2", (3, 2)),
        (texts.numbers, "2,1.5,0", (2, 1.5, 0)),
        (texts.fusion, "all-legal", "all-legal"),
        (texts.fusion, "7", "7"),
        (texts.positive, "3", 3),
        (texts.natural, "0", 0),
        (texts.seconds, "0.5", 0.5),
    ],
)
def test_words_become_values(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        *((texts.named_shape, text) for text in ("x", "=1,2", "x=1,,2", "x=1,-2", "x=1,n")),
        *((texts.grid, text) for text in ("2", "2x", "2x2x2", "0x2", "axb", "-1x2")),
        *((texts.numbers, text) for text in ("", "1,", "a", "1;2", "inf", "nan,1")),
        *((texts.fusion, text) for text in ("0", "-1", "all", "1.5", "")),
        *((texts.positive, text) for text in ("0", "-1", "1.5", "x", "")),
        *((texts.threads, text) for text in ("0", "x")),
        *((texts.natural, text) for text in ("-1", "x")),
        *((texts.seconds, text) for text in ("0", "-1", "x", "inf")),
    ],
)
def test_other_words_are_refused_by_name(convert, text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        convert(text)
    words = text.rpartition("=")[2].split(",") if "=" in text[1:] else text.split(",")
    assert any(f"'{word}'" in str(caught.value) for word in (text, *words))


def test_threads_that_would_never_start_are_refused():
    assert texts.threads("64") == 64
    with pytest.raises(argparse.ArgumentTypeError, match=r"100000 threads per rank are more than .* machine has"):
        texts.threads("100000")


def test_the_rank_is_known_before_mpi_is_started():
    assert launcher_rank({"OMPI_COMM_WORLD_RANK": "2"}) == launcher_rank({"PMI_RANK": "2"}) == 2
    assert launcher_rank({"PMI_RANK": "x"}) is None


def test_an_error_is_one_line():
    assert sentence(ModelError("a\n  b")) == "flexpie-mpi: error: a b"
