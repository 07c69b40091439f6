from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from flexpie_mpi.core.errors import SuiteError
from flexpie_mpi.suite.results import append_results, read_results
from tests.suite.rows import RANK, ROW

SINGLE = replace(ROW, planner="single", measured_s=(0.3, 0.2))


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.jsonl"
    append_results(path, [ROW])
    append_results(path, [SINGLE])
    assert read_results(path) == (ROW, SINGLE)


def test_the_numbers_that_follow_from_a_row():
    assert ROW.median_s == 0.14 and ROW.quartiles_s == pytest.approx((0.135, 0.145))
    assert (ROW.sent_bytes, ROW.messages, ROW.redundant) == (2000, 4, pytest.approx(0.2))
    assert replace(ROW, measured_s=(0.5,)).quartiles_s == (0.5, 0.5)


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_line_that_an_interrupted_writer_left_is_cut_off(tmp_path, kept):
    path = tmp_path / "results.jsonl"
    append_results(path, [ROW, SINGLE])
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:kept])
    assert read_results(path) == (ROW,)
    append_results(path, [SINGLE])
    assert read_results(path) == (ROW, SINGLE) and path.read_text().count("\n") == 2


def test_of_rows_with_one_key_the_last_counts(tmp_path):
    path = tmp_path / "results.jsonl"
    again = replace(ROW, measured_s=(9.0,))
    other = replace(ROW, suite="another")
    append_results(path, [ROW, SINGLE, again, other])
    assert read_results(path) == (again, SINGLE, other)


def edited(**changes: object) -> str:
    """A row with other values."""
    return json.dumps({"format": 1, **asdict(ROW), **changes}) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no JSON\n", "line 1 is not JSON"),
        ('{"format": 7}\n', "line 1 has format 7"),
        ("[1]\n", "line 1 has format None"),
        ('{"format": 1, "suite": "s"}\n', "line 1 is no row of results"),
        (json.dumps({"format": 1, "per_rank": [{"rank": 0}]}) + "\n", "line 1 is no row of results"),
        ("[" * 10**5 + "\n", "line 1 is not JSON: it is nested too deeply"),
        ('{"format": 1, "\\ud800": 1}\n', "half a character"),
        (edited(suite={}), "'suite' is {}, which is no str"),
        (edited(model="a\ud800"), "half a character"),
        (edited(batch=True), "'batch' is True, which is no int"),
        (edited(ranks=1.5), "'ranks' is 1.5, which is no int"),
        (edited(predicted_s="1"), "'predicted_s' is '1', which is no float"),
        (edited(flops=10**400), "more than 301 digits"),
        (edited(measured_s=[]), "'measured_s' must be times above 0"),
        (edited(measured_s=[0.0]), "'measured_s' must be times above 0"),
        (edited(measured_s=[1, None]), "'measured_s' is None"),
        (edited(versions={"python": 3}), "'versions' is 3, which is no str"),
        (edited(per_rank=[{}]), "lacks the field 'rank'"),
        (edited(plan=[]), "'plan' is"),
        (edited(per_rank=[asdict(replace(RANK, slowdown=0.0))]), "the slowdown of every rank must be a number above 0"),
    ],
)
def test_a_file_of_something_else_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(SuiteError, match=words) as caught:
        read_results(path)
    assert str(caught.value).isprintable() and "other.jsonl" in str(caught.value)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path):
    with pytest.raises(SuiteError, match=r"cannot read results from .*nowhere"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(SuiteError, match="cannot write results to"):
        append_results(tmp_path / "no" / "folder", [ROW])
