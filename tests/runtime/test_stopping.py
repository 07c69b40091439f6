"""Signals while a stream runs: one asks it to end, and nothing else changes for good."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from flexpie_mpi.runtime.ending import SIGNALS, stopping

by_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


def sent(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.001)  # handlers run between two instructions


@by_signal
def test_a_signal_asks_once_and_by_name(number: signal.Signals) -> None:
    before, calls = [signal.getsignal(each) for each in SIGNALS], []
    with stopping(lambda: calls.append(number)) as stopped:
        assert stopped.by == ""
        sent(number)
    assert (calls, stopped.by) == ([number], number.name)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_only_the_first_signal_asks() -> None:
    calls: list[int] = []
    with stopping(lambda: calls.append(1)) as stopped:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
            sent(number)
    assert (calls, stopped.by) == ([1], "SIGTERM")


@by_signal
def test_other_ranks_are_told_by_the_root(number: signal.Signals) -> None:
    with stopping(None) as stopped:
        sent(number)
    assert stopped.by == ""


def test_the_second_interrupt_is_an_interrupt() -> None:
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt), stopping(lambda: calls.append(1)):
        sent(signal.SIGINT)
        sent(signal.SIGINT)
    assert calls == [1]


def test_ranks_that_are_threads_have_no_signals() -> None:
    seen = []

    def rank() -> None:
        with stopping(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=rank)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_what_a_rank_says_is_read_before_all_ranks_are_ended() -> None:
    code = "from flexpie_mpi.runtime.ending import *; say(1, 'the reason'); wait_until_read(60); print('aborts')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert select.select([process.stderr], [], [], 60)[0] == [process.stderr]
        assert select.select([process.stdout], [], [], 0.1)[0] == []
        assert process.stderr.readline() == b"rank 1: the reason\n"
        assert process.stdout.read() == b"aborts\n"
