"""The verb ``emulate`` as far as it needs no root; tests/emulate has the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flexpie_mpi.commands import emulate
from flexpie_mpi.emulate import cluster, system
from flexpie_mpi.emulate.launch import Library

PI = str(Path(__file__).parents[2] / "hostfiles" / "pi4x4.toml")


@pytest.fixture
def library(monkeypatch):
    """An MPI library, whatever there is."""
    monkeypatch.setattr(cluster, "find_library", lambda name: Library(name or "mpich", "mpirun", "5"))


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"])
def test_a_dry_run_prints_the_commands_and_needs_no_root(here, library, monkeypatch, mpi):
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    code, out, err = here("emulate", PI, "--ranks", 3, "--mpi", mpi, "--dry-run", "--", "infer", "--layout", "rows")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert sum(line.startswith("ip netns add ") for line in lines) == 5, "four boards and a switch"
    assert sum(line.startswith("ip netns delete ") for line in lines) == 5
    assert any(" htb rate 1005" in line for line in lines)
    (job,) = (line for line in lines if "mpirun" in line and line.startswith("env "))
    assert f"-n 3 {sys.executable} -m flexpie_mpi infer --testbed {PI} --layout rows" in job


def test_verbs_are_given_the_testbed_unless_they_have_one_or_take_none():
    start = [sys.executable, "-m", "flexpie_mpi"]
    assert emulate.job_words(["infer"], "T.toml") == [*start, "infer", "--testbed", "T.toml"]
    assert emulate.job_words(["trace", "--output", "x.h5"], "T.toml")[4:6] == ["--testbed", "T.toml"]
    given = ["infer", "--testbed", "other.toml"]
    assert emulate.job_words(given, "T.toml") == [*start, *given]
    assert emulate.job_words(["inspect", "builtin:tiny_cnn"], "T.toml") == [*start, "inspect", "builtin:tiny_cnn"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: T.toml"),
        ([PI], "emulate needs a verb to run, after two dashes: flexpie-mpi emulate T.toml -- infer"),
        ([PI, "--"], "emulate needs a verb to run, after two dashes"),
        ([PI, "infer"], "the verb that emulate runs comes after two dashes: -- infer"),
        ([PI, "--", "dance"], "'dance' is no verb that emulated boards can run; there are inspect, "),
        ([PI, "--", "emulate", PI, "--", "infer"], "'emulate' is no verb that emulated boards can run"),
        ([PI, "--", "infer", "--repeat", "none"], "argument --repeat: 'none' is not a whole number from 1 on"),
        ([PI, "--ranks", "5", "--", "infer"], "testbed 'pi4x4' has 4 boards and 5 ranks are asked for"),
        (["gone.toml", "--", "infer"], "cannot read the testbed gone.toml: No such file"),
        ([PI, "--json", "/gone/x.json", "--", "infer"], "/gone"),
        ([PI, "--mpi", "mvapich", "--", "infer"], "argument --mpi: invalid choice: 'mvapich'"),
    ],
)
def test_a_mistake_is_one_sentence(here, words, sentence):
    code, out, err = here("emulate", *words)
    assert (code, out) == (2, "") and sentence in err and err.count("\n") == 1


def test_without_root_the_sentence_says_what_to_do(here, monkeypatch):
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    code, out, err = here("emulate", PI, "--", "infer")
    assert (code, out) == (2, "") and "needs root" in err and "--dry-run" in err


def test_what_the_cores_cannot_carry_is_refused_before_anything_is_built(here, tmp_path, monkeypatch):
    monkeypatch.setattr(emulate, "check_system", lambda: None)
    path = tmp_path / "fast.toml"
    path.write_text(Path(PI).read_text().replace("slowdown = 8", "slowdown = 0.5").replace("count = 4", "count = 200"))
    code, _, err = here("emulate", path, "--", "infer")
    assert code == 2 and "200 boards keep 200 cores busy" in err


def test_two_dashes_belong_to_emulate_alone(here):
    code, _, err = here("plan", "--ranks", 2, "--", "infer")
    assert code == 2 and "unrecognized arguments: " in err
