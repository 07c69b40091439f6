from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import pytest

from flexpie_mpi import suite as suite_room
from flexpie_mpi.core.errors import SuiteError
from flexpie_mpi.suite.cells import HOSTS, Terms, read

SUITES = Path(__file__).parents[2] / "bench" / "suites"
BOARDS = 'topology = "switch"\n[link]\nbandwidth = "1Gb/s"\nlatency = "50us"\n[[device]]\nname = "pi"\ncount = 4\n'
STUDY = '[[study]]\nmodels = ["builtin:tiny_cnn"]\ntestbeds = ["four.toml"]\n'
GOOD = 'planners = ["auto", "single"]\n' + STUDY


@pytest.fixture
def written(tmp_path):
    """``written(text)``: path of a suite beside a testbed of four boards."""
    (tmp_path / "four.toml").write_text(BOARDS)

    def write(text):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_suites_hold_what_they_say(path):
    suite = read(path)
    assert suite.name == path.stem and suite.cells and suite.trace_budget_s > 0
    assert all("single" in cell.planners and "auto" in cell.planners for cell in suite.cells)
    if path.stem == "paper":
        assert len(suite.cells) == 4 * 3 * 3 * 2 and all(len(cell.planners) == 9 for cell in suite.cells)
        assert {
            (site.testbed.topology.name, site.testbed.ranks)
            for site in {cell.site.name: cell.site for cell in suite.cells}.values()
        } == {(topology, boards) for topology in ("ring", "star", "switch") for boards in (3, 4)}
    if path.stem == "scaling":
        assert {cell.ranks for cell in suite.cells if cell.batch == 1} == set(range(1, 9))
        assert {cell.batch for cell in suite.cells if cell.ranks == 4} == {1, 2, 4, 8}


def test_a_suite_is_the_product_of_its_lists(written):
    suite = read(written('planners = ["auto"]\nseed = 3\n' + STUDY + "ranks = [1, 4]\nbatch = [2, 1]\nrepeats = 4\n"))
    assert [(cell.ranks, cell.batch) for cell in suite.cells] == [(1, 2), (1, 1), (4, 2), (4, 1)]
    cell = suite.cells[0]
    assert (cell.site.name, cell.site.testbed.ranks, cell.planners) == ("four", 4, ("auto",))
    assert cell.terms == Terms(repeats=4, seed=3) and cell.label == "tiny_cnn/four/1/2"
    assert suite.name == "study" and suite.sources == ("builtin:tiny_cnn",)


def test_without_ranks_all_boards_take_part_and_hosts_are_the_job_s(written):
    suite = read(written('planners = ["rows"]\n[[study]]\nmodels = ["net.onnx"]\ntestbeds = ["four.toml", "hosts"]\n'))
    assert [(cell.site.name, cell.ranks) for cell in suite.cells] == [("four", 4), (HOSTS, None)]
    assert suite.cells[0].source == str(Path(suite.cells[0].site.path).parent / "net.onnx")


def test_a_cell_of_two_studies_is_one_with_the_planners_of_both(written):
    suite = read(written(GOOD + STUDY + 'planners = ["rows", "auto"]\nrepeats = 3\n'))
    assert [cell.planners for cell in suite.cells] == [("auto", "single", "rows")]
    assert suite.cells[0].terms.repeats == Terms().repeats


def test_the_file_that_the_documentation_shows_is_one(written):
    lines = inspect.getdoc(suite_room).split("::\n", 1)[1].splitlines()
    shown = "\n".join(line for line in lines if not line or line.startswith(" "))
    text = textwrap.dedent(shown).replace("../../hostfiles/pi4x8.toml", "eight.toml")
    path = written(text)
    path.with_name("eight.toml").write_text(BOARDS.replace("count = 4", "count = 8"))
    suite = read(path)
    assert suite.name == "scaling" and len(suite.cells) == 2 * 4
    assert suite.cells[0].terms == Terms(10, 2, 30, 20.0, 0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("planners = [", "is not TOML"),
        ("format = 2\n" + GOOD, "format = 2, and this version reads format 1"),
        ("name = 3\n" + GOOD, "name = 3 must be a text"),
        ("colour = 1\n" + GOOD, "the suite has an unknown key 'colour'"),
        ("planners = []\n", "there are no studies"),
        ('study = "all"\n', r"headed \[\[study\]\]"),
        (STUDY, "study 1 lacks the key 'planners'"),
        ('planners = "auto"\n' + STUDY, "planners = 'auto' must be a list of texts"),
        ('planners = ["outo"]\n' + STUDY, "there is no planner 'outo'; did you mean 'auto'"),
        ('planners = ["auto", "auto"]\n' + STUDY, "planners names 'auto' twice"),
        ('planners = ["auto"]\n[[study]]\nmodels = ["m.onnx"]\n', "study 1 lacks the key 'testbeds'"),
        (GOOD + "colours = 1\n", "study 1 has an unknown key 'colours'"),
        (GOOD + "trace_budget = 3\n", "study 1 has an unknown key 'trace_budget'"),
        (GOOD + "ranks = [5]\n", "study 1: ranks = 5, and testbed 'four' has 4 boards"),
        (GOOD + "ranks = 4\n", "ranks = 4 must be a list of whole numbers"),
        (GOOD + "batch = [0]\n", r"batch = \[0\] must be a list of whole numbers from 1 on"),
        (GOOD + "repeats = 0\n", "repeats = 0 must be a whole number from 1 on"),
        (GOOD + "warmup = true\n", "warmup = True must be a whole number from 0 on"),
        (GOOD + "repeats = 9\nmost_repeats = 8\n", "most_repeats = 8 must not be below repeats = 9"),
        (GOOD + 'seconds = "long"\n', "seconds = 'long' must be a number of seconds"),
        ("trace_budget = -1\n" + GOOD, "trace_budget = -1 must be a number of seconds"),
        (GOOD.replace("four", "five"), r"study 1: cannot read the testbed .*five\.toml"),
    ],
)
def test_every_mistake_has_its_sentence(written, text, words):
    path = written(text)
    with pytest.raises(SuiteError, match=words) as caught:
        read(path)
    assert "study.toml" in str(caught.value) and "\n" not in str(caught.value).strip()


def test_two_testbeds_of_one_name_are_refused(written):
    path = written(GOOD.replace('["four.toml"]', '["four.toml", "other/four.toml"]'))
    path.with_name("other").mkdir()
    (path.with_name("other") / "four.toml").write_text(BOARDS)
    with pytest.raises(SuiteError, match="both describe a testbed called 'four'"):
        read(path)


def test_a_missing_suite_is_named(tmp_path):
    with pytest.raises(SuiteError, match=r"cannot read the suite .*none\.toml"):
        read(tmp_path / "none.toml")
