"""Who is to blame for a wait, as ranks say when they are asked, and what is told of those that do not answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Thread

import pytest

from flexpie_mpi.runtime import life as life_module
from flexpie_mpi.runtime.life import Answer, Doing, Life, Pulse, call
from flexpie_mpi.runtime.presence import Presence, answered, own_addresses
from flexpie_mpi.runtime.waiting import Late, LateError, Patience, wait
from flexpie_mpi.runtime.watch import Watch


@dataclass
class Job:
    """Ranks of this process that can be asked."""

    size: int
    lives: list[Life] = field(init=False)
    pulses: list[Pulse] = field(init=False)
    watches: list[Watch] = field(init=False)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.lives = [Life() for _ in range(self.size)]
        self.pulses = [Pulse(life) for life in self.lives]
        there = [Presence("pi", "kernel", rank, (), pulse.port, pulse.words) for rank, pulse in enumerate(self.pulses)]
        self.watches = [Watch(rank, there, life, 120.0, lambda: self.now_s) for rank, life in enumerate(self.lives)]

    def wait(self, rank: int, *peers: int) -> Late:
        late = Late(rank, f"exchange {rank}", peers, 9.0)
        self.lives[rank].waits(late, 60.0)
        return late


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers have as long as a busy machine takes."""
    monkeypatch.setattr(life_module, "CALL_S", 20.0)


@pytest.fixture
def job() -> Iterator[Job]:
    made = Job(4)
    yield made
    for pulse in made.pulses:
        pulse.close()


def test_the_end_of_the_chain_is_to_blame(job: Job) -> None:
    late = job.wait(0, 1)
    job.wait(1, 2)
    job.wait(2, 3)
    job.lives[3].begins("making sessions")
    found = job.watches[0].finding(late)
    assert found.startswith(
        "rank 1 waits in exchange 1 for rank 2, rank 2 waits in exchange 2 for rank 3, "
        "rank 3 on 'pi' is alive and is busy (making sessions), for 0."
    )
    assert "of a core" in found


def test_what_was_said_long_ago_is_not_what_a_rank_does(job: Job) -> None:
    job.lives[1].waits(Late(1, "exchange 1", (2,), 9.0), -1.0)
    assert "rank 1 on 'pi' is alive and is busy (starting)" in job.watches[0].finding(job.wait(0, 1))


def test_a_rank_that_computes_does_not_wait_any_more(job: Job) -> None:
    job.wait(1, 2)
    job.lives[1].telling = lambda: Doing("computes segment 3", 8.0, 0.5, is_work=True)
    assert "computes segment 3, for 8 s where 0.5 s is usual" in job.watches[0].finding(job.wait(0, 1))


def test_ranks_that_wait_for_each_other(job: Job) -> None:
    job.wait(1, 0)
    found = job.watches[0].finding(job.wait(0, 1))
    assert "rank 1 on 'pi' waits in exchange 1 itself: messages between them are slow or were lost" in found
    assert "the way from it carries" in found and found.endswith("Mb/s now")


def test_several_that_are_late_are_each_blamed_once(job: Job) -> None:
    job.wait(1, 3)
    found = job.watches[0].finding(Late(0, "exchange 0", (1, 2, 3), 9.0))
    assert found.count("rank 3 on 'pi'") == 1 and found.count("rank 2 on 'pi'") == 1 and "rank 1 on 'pi'" not in found


def test_a_process_that_is_gone_was_heard_of_before(job: Job) -> None:
    late = job.wait(0, 1)
    job.watches[0].tell(late)
    while 1 not in job.watches[0]._heard:
        time.sleep(0.001)
    job.pulses[1].close()
    job.now_s = 7.0
    assert job.watches[0].finding(Late(0, "exchange 0", (1,), 5.0)) == "rank 1 on 'pi' is dead: its process is gone"
    assert job.watches[0].finding(late) == (
        "rank 1 on 'pi' is dead: its process is gone, and last said 7 s ago that it is busy (starting)"
    )


def test_a_process_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from flexpie_mpi.runtime.life import *; p = Pulse(Life()); print(p.port, p.words.hex()); input()"
    words, pipe = [sys.executable, "-u", "-c", program], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        port, words = other.stdout.readline().split()
        there = Presence("pi", "kernel", other.pid, (), int(port), bytes.fromhex(words.decode()))
        assert there.called_from(there).answer is not None
        other.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, other.pid, os.WSTOPPED)
        monkeypatch.setattr(life_module, "CALL_S", 0.1)
        said = there.plight(there.called_from(there), there)
        other.kill()
    assert "is stopped by a signal or a debugger" in said and f"kill -CONT {other.pid} lets a stopped one go on" in said


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """What does not answer: a server that takes no more calls."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        yield server


def test_a_host_that_is_away_does_not_answer(silent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_module, "CALL_S", 0.1)
    host, port = silent.getsockname()
    here = Presence("pi", "kernel", 1, ("10.9.9.9",), port, b"")
    away = replace(here, host="pi2", addresses=("10.9.9.9", host))
    called = call([host], port, b"")
    assert (called.silent, called.taken, called.refused) == ([host], [], [])
    assert away.plight(called, here) == f"is on a host that does not answer at {host}: it is down, or the link is cut"
    assert replace(away, port=0).plight(replace(away, port=0).called_from(here), here) == "says nothing"
    assert not [address for address in own_addresses() if address.startswith("127.")]


def test_a_stranger_hears_nothing_and_keeps_nobody_waiting(job: Job) -> None:
    pulse = job.pulses[1]
    with ExitStack() as stack:
        for _ in range(2 * life_module.MOST_CALLS):
            stack.enter_context(socket.create_connection(("127.0.0.1", pulse.port)))
        stranger = stack.enter_context(socket.create_connection(("127.0.0.1", pulse.port)))
        stranger.sendall(b"#" + bytes(1000))
        with suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
        assert call(["127.0.0.1"], pulse.port, bytes(16)).answer is None
        assert call(["127.0.0.1"], pulse.port, pulse.words).answer is not None


def test_a_stranger_in_the_place_of_a_rank_is_not_listened_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with suppress(OSError), server.accept()[0] as caller:
                while True:
                    caller.sendall(b"[" * (1 << 20))

        talking = Thread(target=talk)
        talking.start()
        called = call(["127.0.0.1"], server.getsockname()[1], bytes(range(16)))
        talking.join()
    assert called.answer is None and called.taken == ["127.0.0.1"]


STEP = Doing("computes segment 3", 9.0, 1.0, is_work=True)


@pytest.mark.parametrize(
    ("doing", "cpu_s", "state", "said"),
    [
        (STEP, 1.0, "R", "with 100% of a core: its board is slow (its processor is hot or clocked down)"),
        (STEP, 0.3, "R", "of a core: its board is slow (something else has its core, or it is throttled)"),
        (
            replace(STEP, pace=8.0),
            0.12,
            "S",
            "8 times slower: its board is slow (its processor is hot or clocked down)",
        ),
        (replace(STEP, pace=8.0), 0.02, "S", "8 times slower: its board is slow (something else has its core"),
        (replace(STEP, usual_s=8.0), 1.0, "R", "for 9 s where 8 s is usual, with 100% of a core"),
        (Doing("is busy (loading)", 9.0), 0.0, "D", "for 9 s, with 0% of a core: it waits for its disk"),
    ],
)
def test_a_step_that_takes_too_long_has_its_reason(doing: Doing, cpu_s: float, state: str, said: str) -> None:
    assert said in answered(Answer(doing, 0.0, 0.0, state), Answer(doing, cpu_s, 1.0, state))


def test_a_wait_tells_of_itself_until_its_deadline() -> None:
    told: list[float] = []

    class Onlooker:
        period_s = 1.0

        def tell(self, late: Late) -> None:
            told.append(late.waited_s)

        def finding(self, late: Late) -> str:
            return "rank 1 sleeps"

    ticks = count()
    patience = Patience(120.0, predicted_s=5.5, onlooker=Onlooker())
    with pytest.raises(LateError, match=r"rank 0 waited 5\.5 s in a barrier for rank 1: rank 1 sleeps\. --deadline"):
        wait(
            lambda: False,
            patience,
            lambda s: Late(0, "a barrier", (1,), s),
            lambda: next(ticks) / 100,
            lambda s: None,
        )
    assert [round(each) for each in told] == [1, 2, 3, 4, 5]
