"""The page of the waterfall bench: what it draws adds up, and what it cannot read it names."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.report.comparison import PARTS
from tests.launch import REPOSITORY


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "bench")
        yield import_module("waterfall")


def run_of(variant, latency_s=0.020, model="a_net", ranks=4):
    """A run whose ideal is a tenth of a second over ten; all that comes on top is shared out evenly."""
    rest_s = (latency_s - 0.010) / (len(PARTS) - 1)
    spent = {part: 0.010 if part == "ideal" else rest_s for part in PARTS}
    return {
        "kind": "waterfall", "format": 1, "model": model, "ranks": ranks, "boards": "pi4x4", "variant": variant,
        "words": "--layout rows", "latency_s": latency_s, "efficiency": 0.010 / latency_s, "inflation": 1.5,
        "spent_s": spent, "versions": {"onnxruntime": "1"}, "machine": "a machine", "date": "2026-11-28T00:00:00",
    }  # fmt: skip


def test_bars_stand_on_each_other_up_to_the_whole(bench):
    bottoms, heights = bench._steps([run_of("now"), run_of("now", 0.030), run_of("now", 0.025)])
    assert len(bottoms) == len(heights) == len(PARTS) + 1
    tops = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    assert bottoms[1:-1] == pytest.approx(tops[:-2]) and bottoms[0] == bottoms[-1] == 0
    assert heights[0] == pytest.approx(1.0) and heights[-1] == pytest.approx(tops[-2]) == pytest.approx(2.5)


def test_two_variants_are_compared_round_by_round(bench):
    cell = {
        "before": [run_of("before", s) for s in (0.030, 0.060)],
        "after": [run_of("after", s) for s in (0.02, 0.03)],
    }
    assert bench.gain(cell) == pytest.approx([1.5, 2.0])
    assert bench.gain({**cell, "third": cell["after"]}) == []


def test_the_page_has_all_networks_and_a_picture_for_all_on_the_same_boards(bench):
    runs = [run_of(v, s, m, r) for v, s in (("before", 0.03), ("after", 0.02)) for m in ("x", "y") for r in (2, 4)]
    page = bench.make_page(runs, ["runs.jsonl"])
    assert [picture.stem for section in page.sections for picture in section.pictures()] == [
        "waterfall-pi4x4-2",
        "waterfall-pi4x4-4",
    ]
    assert page.text.count("### x") == page.text.count("### y") == 2 and "a machine" in page.text
    assert "| times faster |  | 1.500 (1.500 to 1.500) |" in page.text
    assert set(page.record["waterfall-pi4x4-4"]) == {"x", "y"}


@pytest.mark.parametrize("text", ["", json.dumps({"kind": "placement", "format": 1}), json.dumps(run_of("a")) + "\n{}"])
def test_lines_that_are_no_runs_are_refused(bench, tmp_path, text):
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"runs\.jsonl"):
        bench.read_runs([str(path)])
