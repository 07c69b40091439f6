"""The fuzzer sees what it looks for, goes on after it, and makes the same case again from its number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..launch import LIMIT_S, REPOSITORY, environment

BENCH = REPOSITORY / "bench" / "fuzz"


def python(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": f"{BENCH}:{REPOSITORY}"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env=environment() | paths, **options
    )


@pytest.fixture(scope="module")
def planted():
    done = python(str(Path(__file__).with_name("planted_kinds.py")))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_class_of_escape_is_seen(planted):
    for name, outcomes in planted["outcomes"].items():
        (outcome,) = outcomes
        assert name.startswith(outcome) and outcomes == {outcome: 2}


def test_files_of_escapes_are_kept_once_for_a_defect(planted):
    escapes = sorted(set(planted["outcomes"]) - {"returned", "refused"})
    assert planted["kept"] == sorted([*escapes, "signal"])  # whose places are not known


def test_a_case_is_made_again_from_its_number(tmp_path):
    told = [python(str(BENCH / "run.py"), "--kind", "npy", "--seed", "3", "--case", "7").stdout for _ in range(2)]
    assert told[0].split("\n")[0] == told[1].split("\n")[0] != ""
