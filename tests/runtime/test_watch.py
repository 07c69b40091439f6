"""Who is to blame for a wait, as the ranks that wait tell each other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from flexpie_mpi.runtime import presence
from flexpie_mpi.runtime.presence import Presence, answers, host_plight, own_addresses, process_plight
from flexpie_mpi.runtime.waiting import Late, LateError, Patience, wait
from flexpie_mpi.runtime.watch import Watch


class Over:
    def Test(self) -> bool:
        return True


@dataclass
class Mail:
    """A communicator whose ranks are objects of one process."""

    rank: int
    boxes: list[deque[Any]]

    @property
    def size(self) -> int:
        return len(self.boxes)

    def isend(self, item: Any, target: int) -> Over:
        self.boxes[target].append(item)
        return Over()

    def improbe(self) -> Any:
        box = self.boxes[self.rank]
        return Letter(box.popleft()) if box else None


@dataclass
class Letter:
    item: Any

    def recv(self) -> Any:
        return self.item


@dataclass
class Job:
    """Watches of all ranks, and a clock."""

    watches: list[Watch] = field(default_factory=list)
    now_s: float = 0.0

    @classmethod
    def of(cls, size: int) -> Job:
        job, boxes = cls(), [deque[Any]() for _ in range(size)]
        here = Presence("pi", "kernel", os.getpid(), "space", ())
        everyone = [replace(here, host=f"pi{rank}", machine=f"kernel {rank}") for rank in range(size)]
        job.watches = [Watch(Mail(rank, boxes), everyone, 120.0, lambda: job.now_s) for rank in range(size)]
        return job

    def wait(self, rank: int, peer: int, seconds: float = 0.0) -> Late:
        late = Late(rank, f"exchange {rank}", (peer,), seconds)
        self.watches[rank].tell(late)
        return late


def test_the_end_of_the_chain_is_to_blame() -> None:
    job = Job.of(4)
    late = job.wait(0, 1)
    job.wait(1, 2)
    job.wait(2, 3)
    assert job.watches[0].finding(late) == (
        "rank 1 waits for rank 2 in exchange 1, rank 2 waits for rank 3 in exchange 2, rank 3 on 'pi3' says nothing"
    )


def test_what_was_said_long_ago_is_no_sign_of_life() -> None:
    job = Job.of(3)
    job.wait(1, 2)
    job.watches[0].hear()
    job.now_s = 5.0
    assert job.watches[0].finding(job.wait(0, 1)) == (
        "rank 1 on 'pi1' says nothing; it was heard of 5 s ago, when it waited in exchange 1"
    )


def test_ranks_that_wait_for_each_other() -> None:
    job = Job.of(2)
    job.wait(1, 0)
    found = job.watches[0].finding(job.wait(0, 1))
    assert found == "rank 1 on 'pi1' waits itself, in exchange 1: messages between them are slow or were lost"


def test_several_that_are_late_are_each_blamed_once() -> None:
    job = Job.of(4)
    job.wait(1, 3)
    found = job.watches[0].finding(Late(0, "exchange 0", (1, 2, 3), 9.0))
    assert found.count("on 'pi3'") == 1 and found.count("on 'pi2'") == 1 and "on 'pi1'" not in found


def test_those_that_only_wait_as_well_are_not_blamed() -> None:
    job = Job.of(3)
    job.watches[1].tell(Late(1, "a barrier", (0, 2), 9.0))
    found = job.watches[0].finding(Late(0, "a barrier", (1, 2), 9.0))
    assert found == "rank 1 waits for rank 2 in a barrier, rank 2 on 'pi2' says nothing"


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


# What can be told of a process, and of a host


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_that_is_stopped_and_one_that_is_dead(other: subprocess.Popen[bytes]) -> None:
    other.send_signal(signal.SIGSTOP)
    while state_of(other.pid) != "T":
        time.sleep(0.001)
    assert process_plight(other.pid) == f"is stopped by a signal or a debugger: kill -CONT {other.pid} lets it go on"
    other.kill()
    while state_of(other.pid) != "Z":
        time.sleep(0.001)
    assert process_plight(other.pid) == "is dead: its process is gone"
    other.wait()
    assert process_plight(other.pid) == "is dead: its process is gone"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_that_rests(other: subprocess.Popen[bytes]) -> None:
    while state_of(other.pid) != "S":
        time.sleep(0.001)
    assert process_plight(other.pid).startswith("is alive and")


def test_a_host_that_is_up_refuses_at_once_and_is_heard() -> None:
    assert answers(["127.0.0.1"]) == ["127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)):
        assert host_plight(["127.0.0.1"]) == "is on a host that answers at 127.0.0.1"
    assert host_plight([]) == ""


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address at which nobody answers: of a server that takes no more calls."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        monkeypatch.setattr(presence, "_CLOSED_PORT", server.getsockname()[1])
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        yield "127.0.0.2"


def test_a_host_that_is_away_does_not_answer(silent: str) -> None:
    assert answers([silent], limit_s=0.1) == []
    assert host_plight([silent]) == f"is on a host that does not answer at {silent}: it is down, or the link is cut"
    both = host_plight([silent, "127.0.0.1"])
    assert both == f"is on a host that answers at 127.0.0.1 but not at {silent}, whose link may be cut"


def test_only_another_host_is_asked_by_its_network(silent: str) -> None:
    here = Presence.here("pi", "kernel")
    assert not [address for address in own_addresses() if address.startswith("127.")]
    assert "a host that" not in here.seen_from(here)
    away = replace(here, host="pi2", machine="other", addresses=(*here.addresses, silent))
    assert away.seen_from(here) == f"is on a host that does not answer at {silent}: it is down, or the link is cut"
