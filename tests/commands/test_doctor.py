"""``flexpie-mpi doctor`` as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flexpie_mpi import layout_plan, load
from flexpie_mpi.measure import board as board_module
from flexpie_mpi.measure import examination
from flexpie_mpi.measure.examination import Pace
from flexpie_mpi.measure.limits import Memory

TINY = "builtin:tiny_cnn"


@pytest.fixture
def well(monkeypatch):
    """This machine, whatever else it is doing, with nothing to be said of it; gives what changes that."""
    real = board_module.board_here
    changes: dict[str, object] = {}

    def board_here(installed):
        quiet = {"processors": None, "clocking": board_module.Clocking(), "memory": Memory(8 << 30, 4 << 30, "it")}
        return replace(real(installed), **quiet | changes)

    monkeypatch.setattr(board_module, "board_here", board_here)
    monkeypatch.setattr(examination, "pace_here", lambda: Pace(1e-3, 1.0))
    return changes


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(layout_plan(load(TINY).graph, 1, "single").to_json())
    return path


def test_a_board_that_is_well(one, well, plan_file):
    code, out, err = one("doctor", "--model", TINY, "--plan", plan_file)
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert "verdict" in out and "warning" not in out and "fits every board" in out


def test_the_record_has_everything(one, well, plan_file):
    code, out, _ = one("doctor", "--model", TINY, "--plan", plan_file, "--json", "-")
    record = json.loads(out)
    assert code == 0 and record["verdict"] == "ok" and record["links"] == [] and record["testbed"] is None
    (board,) = record["boards"]
    assert board["memory"]["free_bytes"] == 4 << 30 and board["versions"]["python"] and board["clock_offset_s"] == 0
    assert len(record["digests"]["plan"]) == len(record["digests"]["programs"]) == len(record["needed_bytes"]) == 1
    assert {verdict["check"] for verdict in record["verdicts"]} >= {"versions", "memory", "disk", "plan"}


def test_what_is_to_be_mended_is_exit_code_1_with_a_remedy(one, well, plan_file):
    well["memory"] = Memory(8 << 30, 100_000, "a control group")
    code, out, err = one("doctor", "--model", TINY, "--plan", plan_file, "--json", "-")
    verdicts = [each for each in json.loads(out)["verdicts"] if each["level"] in ("warning", "error")]
    assert (code, err) == (1, "")
    assert [(each["level"], each["check"]) for each in verdicts] == [("warning", "memory"), ("error", "plan")]
    assert all(each["remedy"] and "a control group" in each["finding"] for each in verdicts)


def test_a_note_is_no_failure(one, well):
    well["clocking"] = board_module.Clocking("powersave")
    code, out, _ = one("doctor", "--json", "-")
    record = json.loads(out)
    (note,) = [each for each in record["verdicts"] if each["level"] != "ok"]
    assert (code, record["verdict"], note["level"]) == (0, "note", "note") and "cpupower" in note["remedy"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--plan", "p.json"], "--plan goes with --model"),
        (["--testbed", "nowhere.toml"], "nowhere.toml"),
        (["--model", "nowhere.onnx"], "nowhere.onnx"),
        (["--json", "nowhere/record.json"], "nowhere"),
    ],
)
def test_what_cannot_be_looked_at_is_wrong_input(one, well, words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = one("doctor", *words)
    assert (code, out) == (2, "") and expected in err and err.count("flexpie-mpi: error: ") == 1


@pytest.mark.mpi
def test_ranks_of_a_job(job, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(layout_plan(load(TINY).graph, 3, "rows").to_json())
    done = job(3, "doctor", "--model", TINY, "--plan", plan, "--json", tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_text())
    assert done.code == (record["verdict"] in ("warning", "error")) and "Traceback" not in done.err, done
    assert [link["ends"] for link in record["links"]] == [[0, 1], [0, 2], [1, 2]]
    assert all(link["bandwidth"] > 0 and link["latency_s"] > 0 for link in record["links"])
    assert len(set(record["digests"]["plan"])) == len(set(record["digests"]["programs"])) == 1
    assert not [each for each in record["verdicts"] if each["check"] in ("versions", "clock") and each["level"] != "ok"]


ELSEWHERE = """
import os, sys
rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")))
os.chdir(sys.argv[1 + rank])
from flexpie_mpi.__main__ import main
sys.exit(main(sys.argv[3:]))
"""
"""Each of two ranks is in a folder of its own."""


@pytest.mark.mpi
def test_another_file_of_the_same_name_on_one_rank(job, tmp_path, two_by_two):
    """Rank 1 is in a folder with another model, and a plan that is none."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    content = two_by_two.read_bytes()
    (here / "model.onnx").write_bytes(content)
    (there / "model.onnx").write_bytes(content.replace(b"two_by_two", b"two_by_six"))
    (here / "plan.json").write_text(layout_plan(load(str(two_by_two)).graph, 2, "rows").to_json())
    (there / "plan.json").write_text("{")
    words = ("doctor", "--model", "model.onnx", "--plan", "plan.json", "--json", "record.json")
    done = job(2, here, there, *words, program=("-c", ELSEWHERE))
    record = json.loads((here / "record.json").read_text())
    found = {each["check"]: each for each in record["verdicts"] if each["check"] in ("model", "plan")}
    assert done.code == 1, done
    assert all(found[check]["level"] == "warning" and found[check]["ranks"] == [1] for check in ("model", "plan"))
    assert "holds something else on rank 1 than on rank 0" in found["model"]["finding"]


MIXED = """
import os, sys
from flexpie_mpi.measure import board
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    real = board.versions
    board.versions = lambda library: real(library) | {"flexpie-mpi": "0.0.1"}
"""
"""Lets one rank answer with another version of this package."""
PROGRAM = ("-c", MIXED + "from flexpie_mpi.__main__ import main\nsys.exit(main(sys.argv[1:]))")
SCRIPT = ("-c", MIXED + f"import flexpie_mpi\nflexpie_mpi.InferenceSession({TINY!r})")


@pytest.mark.mpi
@pytest.mark.parametrize("program", [PROGRAM, SCRIPT])
def test_ranks_of_two_versions_do_not_start(job, program):
    done = job(2, "infer", "--model", TINY, "--layout", "rows", program=program)
    assert done.code not in (0, None) and not done.out, done
    assert "0.0.1 on rank 1" in done.err and "install the same version on all boards" in done.err, done


@pytest.mark.mpi
def test_the_doctor_says_why_ranks_of_two_versions_do_not_start(job, tmp_path):
    done = job(2, "doctor", "--json", tmp_path / "record.json", program=PROGRAM)
    (found,) = json.loads((tmp_path / "record.json").read_text())["verdicts"]
    assert (done.code, found["check"], found["level"], found["ranks"]) == (1, "versions", "error", [1]), done
    assert done.out.count("error") == 1 and "install the same" in done.out, done
