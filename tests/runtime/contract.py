"""What every transport must do, as one function that each rank of a job runs: random exchanges and control messages.

Every payload is derived from its address (exchange, request, source, target), so that a receiver knows what must come
without being told. Returned are sentences; none means that the contract is kept.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from functools import partial

import numpy as np

from flexpie_mpi.core.program import KINDS, Exchange, Message, Piece
from flexpie_mpi.core.region import Region
from flexpie_mpi.runtime.transport import Channel, Control, Transport

REQUESTS = 3
LARGE = 9 << 20  # more than two of the pieces that large arrays travel in

Pairs = dict[tuple[int, int], tuple[Piece, ...]]


def broken_promises(transport: Transport, seed: int) -> list[str]:
    """Everything this rank found wrong."""
    found = control_plane(transport, seed) + work_beside(transport)
    for job in (seed, seed + 1):  # the second finds the place that the first gave back
        exchanges = [part[transport.rank] for part in random_job(transport.size, job)]
        channels = transport.open(exchanges)
        for request in range(REQUESTS):
            found += one_request(transport, channels, request)
        transport.release(channels)
    return found


def work_beside(transport: Transport) -> list[str]:
    """What threads beside tell each other, while the main ones do, and what those open for them."""
    rank, size, said = transport.rank, transport.size, list[object]()
    exchanges = [part[rank] for part in random_job(size, 0)]

    def work(control: Control) -> None:
        said.append(control.all_gather(("beside", rank)))
        said.append(control.open(exchanges))

    transport.listen(work)
    transport.barrier()
    if rank == 0:
        transport.call()
        transport.idle(lambda: None)
    said.append(transport.all_gather(("main", rank)))
    if rank == 0:
        transport.listen(None)
    transport.barrier()
    transport.listen(None)
    channels = next(each for each in said if isinstance(each, tuple))
    found = one_request(transport, channels, 0)
    transport.release(channels)
    expected = [[(who, other) for other in range(size)] for who in ("beside", "main")]
    return found + [f"rank {rank}: nothing of {each}" for each in expected if each not in said]


def one_request(transport: Transport, channels: tuple[Channel, ...], request: int) -> list[str]:
    """As the executor does: post all, then start and finish in order, with exchanges overlapping by one.

    Every other request is waited for as a stream does: by asking, again and again.
    """
    rank = transport.rank
    wait = partial(ask, transport) if request % 2 else finish
    for channel in channels:
        channel.post()
    found: list[str] = []
    for place, channel in enumerate(channels):
        begin(rank, channel, request)
        if place > 0:
            wait(channels[place - 1])
            found += damaged(rank, channels[place - 1], request)
    wait(channels[-1])
    return found + damaged(rank, channels[-1], request)


def finish(channel: Channel) -> None:
    channel.finish()


def ask(transport: Transport, channel: Channel) -> None:
    """Wait for a channel to be over, both ways."""
    while not (channel.has_arrived() and channel.has_left()):
        transport.idle(lambda: [channel])
        time.sleep(20e-6)


def begin(rank: int, channel: Channel, request: int) -> None:
    channel.drain()
    for buffer in channel.outgoing:
        buffer.memory[:] = payload(channel.exchange, request, rank, buffer.peer, buffer.memory.size)
    channel.start()


def damaged(rank: int, channel: Channel, request: int) -> list[str]:
    exchange = channel.exchange
    return [
        f"rank {rank}: request {request} of exchange {exchange.index} ({exchange.kind}) from {buffer.peer}"
        for buffer in channel.incoming
        if not np.array_equal(buffer.memory, payload(exchange, request, buffer.peer, rank, buffer.memory.size))
    ]


def payload(exchange: Exchange, request: int, source: int, target: int, size: int) -> np.ndarray:
    """The bytes of one message; the same for all targets where a rank sends all of them the same."""
    target = -1 if exchange.kind in ("broadcast", "allgather") else target
    return np.frombuffer(random.Random(f"{exchange.index} {request} {source} {target}").randbytes(size), np.uint8)


def control_plane(transport: Transport, seed: int) -> list[str]:
    """Objects and arrays, small and larger than what is sent at once."""
    rank, size, found = transport.rank, transport.size, []
    root = seed % size
    for length in (0, 5, LARGE):
        item = {"rank": rank, "bytes": bytes([rank]) * length}
        expected = [{"rank": other, "bytes": bytes([other]) * length} for other in range(size)]
        if transport.broadcast(item, root) != expected[root]:
            found.append(f"rank {rank}: broadcast of {length} bytes")
        if transport.gather(item, root) != (expected if rank == root else None):
            found.append(f"rank {rank}: gather of {length} bytes")
        if transport.all_gather(item) != expected:
            found.append(f"rank {rank}: all_gather of {length} bytes")
    transport.barrier()
    return found + ring(transport)


def ring(transport: Transport) -> list[str]:
    """Arrays handed on from rank to rank, each adding one; none overtakes, and memory may be changed after a send."""
    rank, size, found = transport.rank, transport.size, []
    for length in (3, LARGE // 8) if size > 1 else ():
        arrays = [np.zeros(length), np.full(3, 1.0)]
        for array in arrays:
            if rank > 0:
                transport.receive(array, rank - 1, tag=7)
            array += 1
            transport.send(array, (rank + 1) % size, tag=7)
            array += 1000
        for turn, array in enumerate(arrays if rank == 0 else ()):
            transport.receive(array, size - 1, tag=7)
            if not (array == turn + size).all():
                found.append(f"array {turn}, after one of {length} numbers, came back as {array}")
    return found


def random_job(size: int, seed: int) -> list[list[Exchange]]:
    """Each exchange of a job as each rank sees it: every kind that so many ranks allow, several times."""
    rng = random.Random(f"job {size} {seed}")
    makers = {"local": 1, "halo": 2, **dict.fromkeys(set(KINDS) - {"local", "halo"}, 3)}
    kinds = [kind for kind, ranks in sorted(makers.items()) if ranks <= size for _ in range(3)]
    rng.shuffle(kinds)
    return [exchange_of_all(kind, index, random_pairs(kind, size, rng), size) for index, kind in enumerate(kinds)]


def random_pairs(kind: str, size: int, rng: random.Random) -> Pairs:
    """What each (source, target) pair exchanges."""
    group = rng.sample(range(size), rng.randint(3, size)) if size >= 3 else list(range(size))
    others, one = group[1:], group[0]
    if kind == "local":
        return {}
    if kind == "broadcast":
        same = random_pieces(rng)
        return {(one, target): same for target in others}
    if kind == "scatter":
        return {(one, target): random_pieces(rng) for target in others}
    if kind == "gather":
        return {(source, one): random_pieces(rng) for source in others}
    pairs = [(source, target) for source in group for target in group if source != target]
    if kind == "allgather":
        shared = {source: random_pieces(rng) for source in group[: rng.randint(2, len(group))]}
        return {(source, target): shared[source] for source, target in pairs if source in shared}
    chosen = rng.sample(pairs, rng.randint(1, len(pairs))) if kind == "halo" else pairs[rng.randint(0, 2) :]
    return {pair: random_pieces(rng) for pair in chosen}


def random_pieces(rng: random.Random) -> tuple[Piece, ...]:
    """Pieces that no other message has: equal pieces stand for equal bytes, which may share memory."""
    sizes = (rng.choice((1, 3, 64, 1000, 70_000)) for _ in range(rng.randint(1, 3)))
    return tuple(Piece(f"value {rng.random()}", Region(((0, size),)), buffer=0) for size in sizes)


def exchange_of_all(
    kind: str, index: int, pairs: Mapping[tuple[int, int], tuple[Piece, ...]], size: int
) -> list[Exchange]:
    """An exchange as each of `size` ranks sees it."""
    messages = [
        Message(source, target, index, pieces, sum(piece.region.size for piece in pieces))
        for (source, target), pieces in sorted(pairs.items())
    ]
    group = tuple(sorted({rank for pair in pairs for rank in pair}))
    return [
        Exchange(
            index=index,
            kind=kind,
            group=group,
            sends=tuple(m for m in messages if m.source == rank),
            receives=tuple(m for m in messages if m.target == rank),
            copies=(),
        )
        for rank in range(size)
    ]
