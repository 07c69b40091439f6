"""Jobs under mpirun: the transport contract, and how a job ends when one of its ranks fails."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.launch import PROGRAMS, MpiRun, Outcome, environment, run

FAILING = str(PROGRAMS / "failing_program.py")


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.mpi_short), 4])
def test_the_transport_contract(mpirun: MpiRun, ranks: int) -> None:
    facts = mpirun(ranks, "transport_program.py", "3", str(1 << 30))
    assert facts["broken"] == []
    assert facts["ranks"] == list(range(ranks))
    assert facts["library"]


@pytest.mark.mpi
def test_messages_and_collectives_beyond_what_mpi_counts_go_in_pieces(mpirun: MpiRun) -> None:
    assert mpirun(3, "transport_program.py", "1", "3000")["broken"] == []


@pytest.mark.mpi
def test_weights_are_sent_once_and_then_never(mpirun: MpiRun, tmp_path: object) -> None:
    facts = mpirun(3, "weights_program.py", str(tmp_path))
    assert facts == {"wrong": [], "cold_root_bytes": facts["distinct_bytes"], "distinct_bytes": facts["distinct_bytes"],
                     "warm_bytes": [0, 0, 0]}  # fmt: skip


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_streams_lose_nothing_and_mix_nothing_up(mpirun: MpiRun, tmp_path: object) -> None:
    assert mpirun(4, "stream_program.py", "60", str(tmp_path)) == {"wrong": []}


# One rank fails while the others wait for it. The job must end by itself, well before the launcher's limit.


def failing(mpirun: MpiRun, way: str) -> Outcome:
    outcome = mpirun.outcome(3, FAILING, way, "1")
    assert outcome.code, f"the job had to be killed, or reported success\n{outcome}"
    return outcome


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("way", "last_line"),
    [
        pytest.param("raise", "ValueError: this rank is broken", marks=pytest.mark.mpi_short),
        ("memory", "MemoryError"),
        ("thread", "ValueError: this rank is broken"),
    ],
)
def test_an_uncaught_error_ends_the_job_with_its_traceback(mpirun: MpiRun, way: str, last_line: str) -> None:
    outcome = failing(mpirun, way)
    assert "rank 1: Traceback (most recent call last):" in outcome.err
    assert f"rank 1: {last_line}" in outcome.err
    assert "rank 0: Traceback" not in outcome.err


@pytest.mark.mpi
def test_an_interrupt_ends_the_job_without_a_traceback(mpirun: MpiRun) -> None:
    outcome = failing(mpirun, "interrupt")
    assert "rank 1: interrupted" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.mpi
@pytest.mark.parametrize("way", ["exit", "close-and-exit", "return"])
def test_a_rank_that_leaves_early_ends_the_job(mpirun: MpiRun, way: str) -> None:
    assert "rank 1: has left while other ranks are still at work" in failing(mpirun, way).err


@pytest.mark.mpi
def test_a_sentence_of_one_rank_ends_the_job_with_its_code(mpirun: MpiRun) -> None:
    outcome = failing(mpirun, "sentence")
    # MPI_Abort of MPICH has all ranks killed, the one that calls it too: 7 of 100 jobs report that signal instead.
    assert outcome.code in (2, signal.SIGKILL)
    assert "rank 1: the disk is full" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_a_sentence_of_all_ranks_is_printed_once(mpirun: MpiRun) -> None:
    outcome = failing(mpirun, "agreed")
    assert outcome.code == 2
    assert outcome.err.count("the model is empty") == 1
    assert "Traceback" not in outcome.err


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_a_rank_that_never_sends_is_named(mpirun: MpiRun) -> None:
    outcome = failing(mpirun, "silent")  # two ranks give up at once: which exit code wins is up to the launcher
    sentence = (
        r"waited \S+ s in exchange 5 \(halo of '.*'\) for rank 1: rank 1 on '.*' is alive and is busy \(starting\)"
    )
    assert re.search(rf"{sentence}, for [\d.]{{1,4}} s, with \d+% of a core", outcome.err)


# The root works alone, and the others wait for it.


@pytest.mark.mpi
def test_work_of_the_root_may_take_longer_than_the_deadline(mpirun: MpiRun) -> None:
    done = ["slept", "computed", "done"]
    assert mpirun(2, "work_program.py", "work") == [[done, [None] * 3], [[None] * 3, done]]


@pytest.mark.mpi
def test_a_root_that_hangs_in_its_work_is_named(mpirun: MpiRun) -> None:
    outcome = mpirun.outcome(2, str(PROGRAMS / "work_program.py"), "hang")
    assert outcome.code, outcome
    assert re.search(r"rank 1 waited 0\.6\S* s in work on one rank for rank 0: rank 0 on .* is stopped", outcome.err)


@pytest.mark.mpi
@pytest.mark.parametrize("way", ["close", "end"])
def test_a_rank_that_is_stopped_when_all_is_done_is_named(mpirun: MpiRun, way: str) -> None:
    """The root, which works for longer than the deadline then, is waited for."""
    outcome = mpirun.outcome(3, str(PROGRAMS / "work_program.py"), way)
    assert outcome.code and outcome.out.startswith("[[[], [], []], "), outcome
    assert re.search(r"in the end of the job for ranks \d, \d: .*rank 1 on .* is stopped by a signal", outcome.err), (
        outcome
    )


@pytest.mark.mpi
def test_a_rank_that_is_stopped_while_mpi_shuts_down_does_not_hold_up_the_others_for_ever(mpirun: MpiRun) -> None:
    outcome = mpirun.outcome(2, str(PROGRAMS / "work_program.py"), "shutdown")
    assert outcome.code and outcome.out.startswith("[[[], []], "), outcome
    assert "Alarm clock" in outcome.out + outcome.err


# Without mpirun


def python(code: str, **extra: str) -> Outcome:
    return run([sys.executable, "-c", f"from flexpie_mpi.runtime.mpi import *\n{code}"], extra=extra)


def test_without_an_mpi_library_the_sentence_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPI4PY_MPIABI", raising=False)
    outcome = python("print(available(), repr(library())); start()", MPI4PY_LIBMPI="/nowhere/libmpi.so")
    assert outcome.out == "False ''\n"
    assert "no MPI library found" in outcome.err
    assert "pip install flexpie-mpi[mpich]" in outcome.err


def test_a_launcher_of_another_library_is_noticed() -> None:
    # Open MPI reads the variables of its own launcher when it starts; MPICH does not know them.
    foreign = "PMI_SIZE" if "Open MPI" in python("print(library())").out else "OMPI_COMM_WORLD_SIZE"
    outcome = python("start()", **{foreign: "4"})
    assert "mpirun started 4 ranks, but " in outcome.err
    assert "sees only itself" in outcome.err


def test_launched_ranks_are_read_from_the_environment() -> None:
    code = "print(launched_ranks({}), launched_ranks({'PMI_SIZE': '3'}), launched_ranks({'OMPI_COMM_WORLD_SIZE': '5'}))"
    assert python(code).out == "1 3 5\n"


def test_a_job_without_mpirun_has_one_rank_and_ends_by_itself() -> None:
    outcome = python("t = start(); print(t.rank, t.size, t.all_gather('x')); stop(t, 2, 'enough')")
    assert (outcome.code, outcome.out, outcome.err) == (2, "0 1 ['x']\n", "enough\n")


# The launcher of the tests itself


def test_a_command_that_hangs_is_killed_with_all_it_started() -> None:
    command = ["sh", "-c", "sleep 61.25 & sleep 61.25"]
    assert run(command, timeout_s=0.2).code is None
    assert subprocess.run(["pgrep", "-f", "sleep 61.25"], capture_output=True, check=False).stdout == b""


def test_ranks_do_not_inherit_what_mpi_left_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMIX_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    found = environment()
    assert not {"PMIX_RANK", "OMPI_COMM_WORLD_RANK"} & set(found)
    assert found["OMP_NUM_THREADS"] == "1"
