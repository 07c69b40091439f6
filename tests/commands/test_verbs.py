"""Verbs that need no ranks, and the program around them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flexpie_mpi import Plan, __version__, layout_plan, load
from flexpie_mpi.commands import VERBS
from flexpie_mpi.model.zoo import names
from tests.launch import LIMIT_S

TINY = "builtin:tiny_cnn"


def test_plan_writes_what_the_planner_makes(here, tmp_path):
    path = tmp_path / "plan.json"
    code, out, err = here("plan", "--model", TINY, "--ranks", 3, "--layout", "rows", "--fuse", 2, "--output", path)
    expected = layout_plan(load(TINY).graph, 3, "rows", fusion="2")
    assert (code, err) == (0, "") and Plan.from_json(path.read_text()) == expected
    assert f"{len(expected.segments)} segments" in out and max(map(len, out.splitlines())) <= 80


def test_plan_takes_weights_and_grids(here):
    code, out, _ = here("plan", "--model", TINY, "--ranks", 3, "--layout", "rows", "--weights", "2,1,1", "--json", "-")
    plan = json.loads(out)["plan"]
    assert code == 0 and plan["segments"][0]["layout"]["weights"] == [2, 1, 1]
    code, out, _ = here("plan", "--model", TINY, "--ranks", 3, "--layout", "grid", "--grid", "1x3", "--json", "-")
    assert code == 0 and json.loads(out)["plan"]["segments"][0]["layout"]["grid"] == [1, 3]


def test_the_record_of_a_plan_adds_up(here, tmp_path):
    path = tmp_path / "record.json"
    code, out, _ = here("plan", "--model", TINY, "--ranks", 2, "--layout", "channels", "--json", path)
    record = json.loads(path.read_text())
    assert code == 0 and out and record["model"]["source"] == TINY
    assert record["plan_facts"]["messages"] == sum(rank["messages"] for rank in record["ranks"]) > 0
    shares = record["plan_facts"]["redundant_share"]
    assert sum(rank["flops"] for rank in record["ranks"]) == pytest.approx((1 + shares) * record["plan_facts"]["flops"])
    assert all(rank["weight_bytes"] < record["model"]["weight_bytes"] for rank in record["ranks"])


def test_inspect_lists_every_node(here, two_by_two):
    code, out, err = here("inspect", two_by_two)
    assert (code, err) == (0, "") and all(word in out for word in ("conv", "ReduceMax", "1x6x8x8", "rcgkb"))
    code, out, _ = here("inspect", two_by_two, "--shape", "image=4,3,8,8", "--json", "-")
    record = json.loads(out)
    assert [node["op"] for node in record["nodes"]] == ["Conv", "Add", "ReduceMax"]
    assert record["nodes"][0]["shapes"] == [[4, 6, 8, 8]]
    assert record["nodes"][0]["flops"] == 2 * 4 * 6 * 8 * 8 * 27 and record["nodes"][0]["weight_bytes"] == 6 * 27 * 4
    assert "rows" in record["nodes"][0]["layouts"] and record["model"]["flops"] > record["nodes"][0]["flops"]


@pytest.mark.parametrize("words", [["--list"], ["builtin:"]])
def test_inspect_lists_the_built_in_models(here, words):
    code, out, _ = here("inspect", *words)
    assert code == 0 and all(f"builtin:{name} " in out for name in names())


def test_a_cache_folder_is_used_and_no_cache_is_not(here, tmp_path):
    assert here("inspect", TINY, "--cache", tmp_path / "mine")[0] == 0
    assert any((tmp_path / "mine").rglob("*"))
    assert here("inspect", TINY, "--no-cache")[0] == 0


def test_help_names_every_verb_and_the_version_is_the_package_s(here, capsys):
    for words, expected in ((["--help"], VERBS), (["--version"], [__version__]), (["plan", "--help"], ["--ranks"])):
        with pytest.raises(SystemExit) as caught:
            here(*words)
        out = capsys.readouterr().out
        assert caught.value.code == 0 and all(word in out for word in expected)


def test_verbs_without_ranks_need_no_mpi(tmp_path):
    program = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from flexpie_mpi.__main__ import main\n"
        f"sys.exit(main(['plan', '--model', {TINY!r}, '--ranks', '2', '--output', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "plan.json")], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plan.json").exists()


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-m", "flexpie_mpi", "inspect", "builtin:tiny_bert", "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT_S) == 0


@pytest.mark.mpi
def test_under_mpirun_a_verb_without_ranks_is_carried_out_once(job, tmp_path):
    done = job(3, "plan", "--model", TINY, "--ranks", 2, "--output", tmp_path / "plan.json")
    assert done.code == 0 and done.out.count("model    tiny_cnn") == 1, done
    done = job(3, "--version")
    assert (done.code, done.out.strip()) == (0, f"flexpie-mpi {__version__}"), done
