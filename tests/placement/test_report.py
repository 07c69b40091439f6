"""The placement bench reports on trials that it has made before."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from trials import append_trials

from flexpie_mpi.suite.results import append_results
from tests.report import rows

from ..launch import LIMIT_S, REPOSITORY, environment
from .test_pages import trial


@pytest.fixture
def here():
    """The script in a process of its own: (exit code, stdout, stderr)."""

    def call(*words):
        command = [sys.executable, str(REPOSITORY / "bench" / "placement" / "run.py"), *map(str, words)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return done.returncode, done.stdout, done.stderr

    return call


def test_report_knows_trials_of_placements(here, tmp_path):
    one, two, record = tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "record.json"
    append_trials(one, [trial(number, {"kpath": 1.5}, study="sizes") for number in range(3)])
    append_trials(two, [trial(number, {"kpath": 2.0}, study="sizes", setting=5.0) for number in range(3)])
    code, out, err = here("--of", one, two, "--report", tmp_path / "page", "--json", record)
    assert (code, err) == (0, "") and "trials   6 in 2 cells" in out
    assert "1.500 (1.500, 1.500)" in (tmp_path / "page" / "README.md").read_text()
    assert (tmp_path / "page" / "sizes-dark.png").exists()
    assert [cell["setting"] for cell in json.loads(record.read_text())["sizes"]] == [0.0, 5.0]


def test_trials_and_measurements_are_not_mixed(here, tmp_path):
    trials, measured = tmp_path / "trials.jsonl", tmp_path / "measured.jsonl"
    append_trials(trials, [trial()])
    append_results(measured, [rows.row("auto", [0.1])])
    code, out, err = here("--of", measured, trials, "--report", tmp_path / "page")
    assert (code, out) == (2, "") and "report on each by itself" in err and len(err.splitlines()) == 1
