"""Pages about placements: ratios to the best possible, and what is counted apart instead of averaged in."""

from __future__ import annotations

import doctest
import json
from math import inf

import published
import pytest
import ratios
from pages import make_page
from ratios import beaten, best_bound, cells_of
from trials import Answer, Trial, append_trials, read_trials

from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.report.figure import painted
from flexpie_mpi.report.theme import DARK

from ..report.test_page import headings, table_under

MIB = 2**20
SOLVERS = ("random", "greedy", "kpath", "capacity-greedy", "even", "exact")


def found(seconds, bound=0.0, search_s=0.01):
    """An answer with two stages; with one where nothing is sent, and none where there is none."""
    if seconds == inf:
        return Answer(inf, bound, search_s)
    crews = ((0,),) if seconds == 0 else ((0,), (1,))
    return Answer(seconds, bound, search_s, tuple(range(len(crews) + 1)), crews)


def trial(number=0, times=None, *, bound=None, study="paper", model="ResNet50", boards=50, memory=(64,), setting=0.0):
    """A trial whose solvers took `times`; `exact` proves its own unless a bound is given."""
    seconds = dict.fromkeys(SOLVERS, 1.0) | (times or {})
    answers = {name: found(value) for name, value in seconds.items()}
    answers["exact"] = found(seconds["exact"], seconds["exact"] if bound is None else bound)
    levels = tuple(level * MIB for level in memory)
    return Trial(
        study, "as-coded", model, boards, levels, setting, number, (1, number), answers,
        {"python": "3.11"}, "a machine", "2026-11-21T10:00:00+00:00",
    )  # fmt: skip


def test_ratios_are_to_what_is_proved():
    made = [
        trial(0, {"exact": 2.0, "kpath": 3.0, "greedy": 2.5, "random": 9.0, "even": 4.0, "capacity-greedy": 2.0}),
        trial(1, dict.fromkeys(SOLVERS, 2.0), bound=1.0),
    ]
    assert [best_bound(it) for it in made] == [2.0, 1.0]
    (cell,) = cells_of(made)
    assert cell.ratios("kpath") == [1.5, 2.0] and cell.ratios("exact") == [1.0, 2.0]
    assert (len(cell.compared), cell.proved, cell.seconds("kpath")) == (2, 1, 2.5)
    assert not beaten(made)
    worse = trial(2, {"exact": 2.0, "even": 1.9}, bound=1.0)
    assert beaten([worse]) == [worse]


def test_one_board_and_failures_are_in_no_mean():
    made = [
        trial(0, {"kpath": 1.2}),
        trial(1, dict.fromkeys(SOLVERS, 0.0) | {"random": 3.0}),
        trial(2, dict.fromkeys(SOLVERS, inf)),
        trial(3, {"kpath": inf, "greedy": inf}),
    ]
    (cell,) = cells_of(made)
    assert [len(those) for those in (cell.compared, cell.alone, cell.unplaced)] == [2, 1, 1]
    assert cell.ratios("kpath") == [1.2] and cell.ratios("even") == [1.0, 1.0]
    assert (cell.failures("kpath"), cell.failures("even")) == (1, 0)
    rows = table_under(make_page(made, ["made.jsonl"]).text, "Trials in which one board")
    assert rows[2] == ["paper", "as-coded", "ResNet50", "64", "50", "4", "1", "1", "0", "0", "1", "1", "0", "0"]


def test_trials_are_read_as_they_were_written(tmp_path):
    made = [trial(0), trial(1, dict.fromkeys(SOLVERS, inf), memory=(64, 96))]
    append_trials(tmp_path / "made.jsonl", made)
    assert list(read_trials(tmp_path / "made.jsonl")) == made
    assert len(cells_of([*made, *made])) == 2 and sum(len(cell.trials) for cell in cells_of([*made, *made])) == 2
    (tmp_path / "bad.jsonl").write_text('{"kind": "placement", "format": 1, "study": "paper"}\n')
    with pytest.raises(ReportError, match=r"bad.jsonl, line 1 is no trial"):
        read_trials(tmp_path / "bad.jsonl")
    append_trials(tmp_path / "none.jsonl", [trial(0, memory=())])
    with pytest.raises(ReportError, match="levels of memory above 0"):
        read_trials(tmp_path / "none.jsonl")
    (tmp_path / "new.jsonl").write_text('{"kind": "placement", "format": 9}\n')
    with pytest.raises(ReportError, match="format 9"):
        read_trials(tmp_path / "new.jsonl")
    with pytest.raises(ReportError, match="no trials in none"):
        make_page([], ["none.jsonl"])


def paper():
    """The cells of the headline, with the times that were published, and the zeros."""
    times = {("ResNet50", 64): (1.31, 1.31, 7.97), ("ResNet50", 128): (0.532, 0.536, 4.25),
             ("InceptionResNetV2", 64): (1.52, 1.38, 10.9), ("InceptionResNetV2", 128): (1.34, 1.24, 7.83),
             ("InceptionResNetV2", 256): (0.82, 0.826, 5.41)}  # fmt: skip
    for (model, size), (kpath, greedy, random) in times.items():
        for number in range(2):
            seconds = {"kpath": kpath, "greedy": greedy, "capacity-greedy": greedy, "random": random, "even": 9.0}
            yield trial(number, seconds | {"exact": min(kpath, greedy)}, model=model, memory=(size,))
    for model, size in (("ResNet50", 256), ("ResNet50", 512), ("InceptionResNetV2", 512)):
        yield trial(0, dict.fromkeys(SOLVERS, 0.0), model=model, memory=(size,))


def others():
    for boards in (8, 12):
        for number in range(3):
            times = {"exact": 1.0, "capacity-greedy": 1.02 + 0.1 * (boards > 8), "kpath": 1.4, "greedy": 1.5}
            yield trial(number, times, study="memory", boards=boards, memory=(64, 96, 128))
    for setting in (1.0, 5.0):
        yield trial(0, {"kpath": 1 + setting / 10}, study="sizes", boards=12, setting=setting)
    yield trial(0, {"even": 9.0}, study="compute", setting=3.0)


def test_the_page_has_a_section_for_every_study_and_all_its_numbers():
    page = make_page([*paper(), *others()], ["made.jsonl"])
    assert headings(page) == [
        "What was done", "The paper's cells, as-coded", "Beside the published figures", "Boards of unequal memory",
        "Tensors of different size", "Computing that counts", "Counted apart", "What searches take",
    ]  # fmt: skip
    prose = [line for line in page.text.splitlines() if not line.startswith(("|", "<"))]
    assert max(map(len, prose)) <= 120
    json.dumps(page.record, allow_nan=False)
    rows = table_under(page.text, "Bytes as the paper's code")
    assert rows[2][:6] == ["ResNet50", "64", "50", "2 (2)", "2.0", "1.31"]
    beside = table_under(page.text, "Mean bottleneck in seconds")
    assert beside[2] == ["ResNet50", "64", "50", "1.31 / 1.31", "1.31 / 1.31", "7.97 / 7.97", "1.31"]


def test_zeros_make_the_headline():
    page = make_page([*paper()], ["made.jsonl"])
    rows = table_under(page.text, "The paper's abstract")
    assert rows[2] == ["published", "5", "3", "-34.8 %", "+4.3 %", "10.5×", "6.6×"]
    assert rows[3] == ["these trials", "5", "3", "-34.8 %", "+4.3 %", "10.5×", "6.6×"]


def test_unequal_memory_is_judged_cell_by_cell():
    page = make_page([*others()], ["made.jsonl"])
    text = " ".join(page.text.split())
    assert "Over `capacity-greedy`: 1.07 times better on average; at least 1.05 times in 1 of 2 cells; not in" in text
    assert "Over `kpath`: 1.40 times better on average; at least 1.1 times in 2 of 2 cells." in text
    rows = table_under(page.text, "- Over `kpath`")
    assert rows[2] == ["as-coded", "ResNet50", "64/96/128", "8", "1.020", "no", "0", "1.400", "yes", "0"]


def test_pictures_can_be_drawn():
    page = make_page([*paper(), *others()], ["made.jsonl"])
    pictures = [picture for section in page.sections for picture in section.pictures()]
    assert [picture.stem for picture in pictures] == ["as-coded", "memory-as-coded", "sizes", "compute"]
    for picture in pictures:
        assert painted(picture.draw, DARK).axes


@pytest.mark.parametrize("module", [published, ratios], ids=["published", "ratios"])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
