"""A rank that is stopped is waited for until the deadline, and then named, with what it is in."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from flexpie_mpi.core.plan import Plan
from flexpie_mpi.session.choosing import LEAST_DEADLINE_S, Chosen
from tests.launch import LIMIT_S, signal_rank, wait_for_results

ENDLESS = 10**8


@pytest.mark.mpi
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_rank_that_is_stopped_is_named(mpirun, tmp_path, in_flight):
    """Rank 0 waits for rank 1, which waits for rank 2; the report is of rank 2, whoever gives up first."""
    words = ["-m", "flexpie_mpi", "infer", "--model", "builtin:tiny_cnn", "--layout", "rows", "--deadline", 4]
    out = tmp_path / "out.h5"
    with mpirun.started(3, *words, "--requests", ENDLESS, "--in-flight", in_flight, "--output", out) as process:
        wait_for_results(out, 1, process)
        signal_rank(2, str(out), signal.SIGSTOP)
        text = "\n".join(process.communicate(timeout=LIMIT_S))
    assert process.returncode != 0, text
    assert "rank 2 on '" in text and "is stopped by a signal or a debugger" in text, text
    assert " waited 4" in text and " in exchange " in text and "--deadline SECONDS allows more time" in text, text


def chosen(seconds, measured_s=()):
    prediction = SimpleNamespace(best=SimpleNamespace(seconds=seconds))
    return Chosen(Plan((), 1, ""), prediction, measured_s)


def test_the_deadline_of_requests_comes_from_their_prediction():
    assert Chosen(Plan((), 1, "")).deadline_s(1) is None
    assert chosen(0.01).deadline_s(1) == LEAST_DEADLINE_S
    assert chosen(3.0).deadline_s(1) == 60.0
    assert chosen(3.0, (1.0, 4.0)).deadline_s(2) == 160.0
