"""The transport contract in one process, and the parts of the MPI transport that need no MPI."""

from __future__ import annotations

import random
import sys
import threading
import time

import numpy as np
import pytest

from flexpie_mpi.core.errors import DataError, ProgramError, TransportError
from flexpie_mpi.core.program import KINDS
from flexpie_mpi.lower.arena import ALIGNMENT
from flexpie_mpi.runtime.channels import pack
from flexpie_mpi.runtime.ending import INTERRUPTED, end_job_on_error
from flexpie_mpi.runtime.loopback import LoopbackTransport, alone, run_ranks
from flexpie_mpi.runtime.transport import Transport, agree, on_root
from flexpie_mpi.runtime.waiting import Late, Patience, wait
from tests.runtime.contract import broken_promises, exchange_of_all, random_job, random_pairs, random_pieces

COLLECTIVES = [kind for kind in KINDS if kind not in ("local", "halo")]


# The contract


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_loopback_keeps_the_contract(size: int, seed: int) -> None:
    found = run_ranks(size, lambda transport: broken_promises(transport, seed))
    assert found == [[]] * size


def test_the_contract_covers_every_kind() -> None:
    assert {part[0].kind for part in random_job(3, seed=0)} == set(KINDS)


def test_alone_is_a_job_of_one_rank() -> None:
    transport = alone()
    assert (transport.rank, transport.size) == (0, 1)
    assert broken_promises(transport, 0) == []


def test_items_are_not_shared_between_ranks() -> None:
    def change(transport: LoopbackTransport) -> list[int]:
        item = transport.broadcast([0])
        item.append(transport.rank)
        transport.barrier()
        return item

    assert run_ranks(3, change) == [[0, 0], [0, 1], [0, 2]]


# Failing in loopback


def test_the_first_error_releases_the_others() -> None:
    def fail(transport: LoopbackTransport) -> None:
        if transport.rank == 1:
            raise DataError("no input")
        transport.barrier()

    with pytest.raises(DataError, match=r"^no input$"):
        run_ranks(3, fail)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rank ")]


def test_a_job_in_which_all_wait_is_noticed_at_once() -> None:
    def wait_for_the_next(transport: LoopbackTransport) -> None:
        transport.receive(np.empty(1), (transport.rank + 1) % transport.size, tag=4)

    with pytest.raises(TransportError, match="rank 0 waits for rank 1 in array with tag 4; rank 1 waits for rank 0"):
        run_ranks(2, wait_for_the_next, deadline_s=1e6)


def test_waiting_for_a_rank_that_has_ended_is_noticed_at_once() -> None:
    def leave_one_waiting(transport: LoopbackTransport) -> None:
        if transport.rank == 0:
            transport.barrier()

    with pytest.raises(TransportError, match="rank 0 waits for rank 1, which has ended, in all-gather"):
        run_ranks(2, leave_one_waiting, deadline_s=1e6)


def test_a_busy_rank_is_waited_for_until_the_deadline() -> None:
    over = threading.Event()

    def keep_one_busy(transport: LoopbackTransport) -> None:
        if transport.rank == 1:
            over.wait(60)
            return
        try:
            transport.barrier()
        finally:
            over.set()

    with pytest.raises(TransportError, match=r"rank 0 waits for rank 1 in all-gather, and 0\.01 s are over"):
        run_ranks(2, keep_one_busy, deadline_s=0.01)


def test_a_collective_that_a_rank_does_not_start_is_refused() -> None:
    pairs = {(0, target): random_pieces(random.Random(0)) for target in (1, 2)}

    def forget(transport: LoopbackTransport) -> None:
        (channel,) = transport.open([exchange_of_all("scatter", 9, pairs, 3)[transport.rank]])
        channel.post()
        if transport.rank == 0:
            channel.start()
        channel.finish()

    with pytest.raises(ProgramError, match=r"exchange 9 \(scatter\) is finished on rank [12] before it is started"):
        run_ranks(3, forget)


def test_a_message_of_another_size_is_refused() -> None:
    def talk(transport: LoopbackTransport) -> None:
        if transport.rank == 0:
            transport.send(np.zeros(3), 1)
        else:
            transport.receive(np.zeros(2), 0)

    with pytest.raises(ProgramError, match="24 bytes was received into 16 bytes"):
        run_ranks(2, talk)


# Errors that all ranks share


def test_agree_raises_the_lowest_failing_ranks_error_everywhere() -> None:
    def check(transport: Transport) -> str:
        error = DataError(f"of {transport.rank}") if transport.rank in (1, 2) else None
        with pytest.raises(DataError) as raised:
            agree(transport, error)
        return str(raised.value)

    assert run_ranks(3, check) == ["rank 1: of 1"] * 3


def test_on_root_shares_the_roots_error_or_runs_it_there_only() -> None:
    def fail() -> int:
        raise DataError("no such file")

    def check(transport: Transport) -> tuple[str, int | None]:
        with pytest.raises(DataError) as raised:
            on_root(transport, fail)
        return str(raised.value), on_root(transport, lambda: 7)

    assert run_ranks(2, check) == [("no such file", 7), ("no such file", None)]


def test_work_of_the_root_may_take_longer_than_the_deadline() -> None:
    def check(transport: Transport) -> str:
        found = on_root(transport, lambda: time.sleep(1.2) or "done")
        return transport.broadcast(found)

    assert run_ranks(2, check, deadline_s=0.6) == ["done", "done"]


# How collectives lie in memory


@pytest.mark.parametrize("kind", COLLECTIVES)
@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_all_ranks_fit_together(kind: str, seed: int) -> None:
    exchanges = exchange_of_all(kind, 0, random_pairs(kind, 5, random.Random(seed)), 5)
    group = exchanges[0].group
    packings = {rank: pack(exchanges[rank], rank) for rank in group}
    if kind not in ("broadcast", "allgather"):
        for source in group:
            for target in group:
                sent = packings[source].send.counts[group.index(target)]
                assert sent == packings[target].receive.counts[group.index(source)]
    elif kind == "allgather":
        assert len({packing.receive.counts for packing in packings.values()}) == 1
    assert len({packing.root for packing in packings.values()}) == 1


@pytest.mark.parametrize("kind", COLLECTIVES)
@pytest.mark.parametrize("seed", range(8))
def test_the_blocks_of_a_rank_never_begin_at_one_address(kind: str, seed: int) -> None:
    exchanges = exchange_of_all(kind, 0, random_pairs(kind, 4, random.Random(seed)), 4)
    for rank in exchanges[0].group:
        packing = pack(exchanges[rank], rank)
        places = {block.memory.__array_interface__["data"][0] for block in (packing.send, packing.receive)}
        assert len(places) == 2


@pytest.mark.parametrize("kind", COLLECTIVES)
def test_message_buffers_are_parts_of_the_blocks(kind: str) -> None:
    for rank, exchange in enumerate(exchange_of_all(kind, 0, random_pairs(kind, 4, random.Random(1)), 4)):
        if rank not in exchange.group:
            continue
        packing = pack(exchange, rank)
        assert [(p.peer, p.memory.size) for p in packing.outgoing] == [(m.target, m.nbytes) for m in exchange.sends]
        assert [(p.peer, p.memory.size) for p in packing.incoming] == [(m.source, m.nbytes) for m in exchange.receives]
        own = packing.receive if kind in ("broadcast", "allgather") else packing.send
        assert all(np.shares_memory(buffer.memory, own.memory) for buffer in packing.outgoing)
        assert all(np.shares_memory(buffer.memory, packing.receive.memory) for buffer in packing.incoming)
        for block in (packing.send, packing.receive):
            ends = [offset + count for offset, count in zip(block.offsets, block.counts, strict=True)]
            assert all(end <= offset for end, offset in zip(ends, block.offsets[1:], strict=False))
            assert all(
                block.part(place).ctypes.data % ALIGNMENT == 0 for place in range(len(ends)) if block.counts[place]
            )


# Waiting, with a clock of its own


class Clock:
    """Time that passes only in naps, and a little at every look."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.naps_s: list[float] = []

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, nap_s: float) -> None:
        self.naps_s.append(nap_s)
        self.now_s += nap_s


def test_a_short_wait_takes_no_nap() -> None:
    clock = Clock()
    wait(lambda: clock.now_s > 50e-6, Patience(), str, clock, clock.sleep)
    assert clock.naps_s == []


def test_a_wait_ends_a_fraction_too_late_at_most_and_naps_stay_short() -> None:
    for due_s in (1e-3, 10e-3, 1.0):
        clock = Clock()
        wait(lambda due_s=due_s, clock=clock: clock.now_s >= due_s, Patience(), str, clock, clock.sleep)
        assert clock.now_s <= due_s * (1 + 2 * Patience().share)
        assert max(clock.naps_s) <= Patience().longest_nap_s
        assert clock.naps_s == sorted(clock.naps_s)


def test_a_long_wait_looks_seldom() -> None:
    clock = Clock()
    wait(lambda: clock.now_s >= 10.0, Patience(), str, clock, clock.sleep)
    assert len(clock.naps_s) < 11_000


def test_a_crowded_rank_yields_before_it_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    yields: list[None] = []
    monkeypatch.setattr("os.sched_yield", lambda: yields.append(None))
    clock = Clock()
    wait(lambda: clock.now_s > 50e-6, Patience(yields=True), str, clock, clock.sleep)
    assert yields
    assert clock.naps_s == []


def test_the_deadline_says_who_is_late() -> None:
    clock = Clock()
    with pytest.raises(TransportError, match=r"rank 1 waited 5 s in exchange 3 \(halo\) for ranks 0, 2: see whether"):
        wait(
            lambda: False, Patience(5.0), lambda s: Late(1, "exchange 3 (halo)", [0, 2], s), clock, clock.sleep
        )  # fmt: skip


# Ending the job on an error


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes that rank 4 aborts its job with."""
    found: list[int] = []
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    end_job_on_error(4, found.append)
    return found


def test_an_uncaught_error_is_shown_with_its_rank_and_aborts(codes: list[int], capfd: pytest.CaptureFixture) -> None:
    error = ValueError("first line\nsecond line")
    sys.excepthook(type(error), error, None)
    assert capfd.readouterr().err == "rank 4: ValueError: first line\nrank 4: second line\n"
    assert codes == [1]


def test_an_interrupt_is_one_line(codes: list[int], capfd: pytest.CaptureFixture) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capfd.readouterr().err == "rank 4: interrupted\n"
    assert codes == [INTERRUPTED]


def test_a_rank_that_cannot_even_print_aborts(codes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(AttributeError):
        sys.excepthook(MemoryError, MemoryError(), None)
    assert codes == [1]


def test_an_error_in_a_thread_aborts_and_its_exit_does_not(codes: list[int], capfd: pytest.CaptureFixture) -> None:
    def run(error: BaseException) -> None:
        raise error

    for error in (SystemExit(1), RuntimeError("lost")):
        thread = threading.Thread(target=run, args=(error,))
        thread.start()
        thread.join()
    assert codes == [1]
    assert capfd.readouterr().err.endswith("rank 4: RuntimeError: lost\n")
