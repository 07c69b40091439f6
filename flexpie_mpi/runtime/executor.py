"""The executor: carries out one program, request after request. It decides nothing and allocates nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from ..program import Buffer, Compute, Copy, Exchange, Finish, Program, Start
from ..region import Region
from ..timeline import OF_NONE, Event, Timeline
from .transport import Channel, Parcel, Transport

Action = Callable[[], None]
KernelFactory = Callable[[Compute, Mapping[int, Any]], Action]
"""Makes the action of a Compute step from the rank's values: arrays by buffer number; opaque values come and go."""


class Executor:
    """One rank's program, ready to run.

    Parameters
    ----------
    program : Program
    transport : Transport
    kernel : callable
        Makes the action of each Compute step.
    """

    def __init__(self, program: Program, transport: Transport, kernel: KernelFactory) -> None:
        self.program = program
        self.values = allocate(program)
        self._transport = transport
        self._channels = _open_channels(program, transport)
        self._steps: list[tuple[str, int, Action]] = []
        for step in program.steps:
            self._steps += self._actions(step, kernel)
        self._steps.append(("wait", OF_NONE, self._drain))
        self._marks = [0.0] * (len(self._steps) + 2)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of one request by name, on the root; empty elsewhere.

        Arrays are views that the next run overwrites.

        Parameters
        ----------
        inputs : mapping of str to array
            Every input of the graph, on the root; ignored elsewhere. Shapes and types must be the graph's.
        """
        marks, clock = self._marks, perf_counter
        marks[0] = clock()
        for name, index in self.program.inputs:
            self._write(index, inputs[name])
        for channel in self._channels.values():
            channel.post()
        for place, (_, _, action) in enumerate(self._steps, 1):
            marks[place] = clock()
            action()
        marks[-1] = clock()
        return {name: self.values[index] for name, index in self.program.outputs}

    def close(self) -> None:
        """Give the channels back; the executor cannot run any more."""
        self._transport.release(self._channels.values())
        self._steps.clear()

    @property
    def began_s(self) -> float:
        """When the last request began, by this process's ``time.perf_counter``."""
        return self._marks[0]

    def timeline(self) -> Timeline:
        """What the last request's time went to on this rank."""
        origin, rank, marks = self._marks[0], self.program.rank, self._marks
        begin = Event(rank, "receive", 0, 0.0, marks[1] - origin)
        events = (
            Event(rank, kind, segment, marks[place] - origin, marks[place + 1] - origin)
            for place, (kind, segment, _) in enumerate(self._steps, 1)
        )
        return Timeline((begin, *events))

    def _drain(self) -> None:
        """Stay until everything sent has left: MPI may need this rank's help to finish a large message."""
        for channel in self._channels.values():
            channel.drain()

    def _write(self, index: int, array: Any) -> None:
        held = self.values.get(index)
        if isinstance(held, np.ndarray):
            np.copyto(held, array)
        else:
            self.values[index] = array

    def _actions(self, step: Compute | Start | Finish, kernel: KernelFactory) -> list[tuple[str, int, Action]]:
        """(kind, segment, action) of a step; a step that packs and waits is several."""
        if isinstance(step, Compute):
            return [("compute", step.segment, kernel(step, self.values))]
        index = step.exchange.index
        channel = self._channels.get(index)
        if isinstance(step, Start):
            assert channel is not None, "every exchange that starts has a channel"
            return [("wait", index, self._drainer(step.exchange)), ("send", index, self._starter(channel))]
        actions: list[tuple[str, int, Action]] = []
        if channel is not None:
            actions.append(("wait", index, channel.finish))
        moves = [*self._copies(step.exchange.copies), *(self._unpackings(channel) if channel else ())]
        if moves:
            actions.append(("receive", index, _mover(moves)))
        return actions

    def _drainer(self, exchange: Exchange) -> Action:
        """Wait until the memory of an exchange is free: its own last messages, and those of its lane, have left."""
        mates = [c for c in self._channels.values() if c.exchange.lane == exchange.lane >= 0]
        channels = mates or [self._channels[exchange.index]]

        def drain() -> None:
            for channel in channels:
                channel.drain()

        return drain

    def _starter(self, channel: Channel) -> Action:
        move = _mover([pair for parcel in _distinct(channel.outgoing) for pair in self._parcel(parcel, pack=True)])

        def start() -> None:
            move()
            channel.start()

        return start

    def _unpackings(self, channel: Channel) -> list[tuple[np.ndarray, np.ndarray]]:
        return [pair for parcel in channel.incoming for pair in self._parcel(parcel, pack=False)]

    def _parcel(self, parcel: Parcel, *, pack: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        """(target, source) views that pack or unpack the pieces of a parcel."""
        pairs, offset = [], 0
        for piece in parcel.pieces:
            local = self._view(piece.buffer, piece.region)
            nbytes = local.size * local.itemsize
            packed = parcel.memory[offset : offset + nbytes].view(local.dtype).reshape(local.shape)
            pairs.append((packed, local) if pack else (local, packed))
            offset += nbytes
        return pairs

    def _copies(self, copies: Sequence[Copy]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(self._view(c.target, c.region), self._view(c.source, c.region)) for c in copies]

    def _view(self, buffer: int, region: Region) -> np.ndarray:
        held = self.program.buffers[buffer].region
        assert held is not None, "opaque values are never exchanged"
        array: np.ndarray = self.values[buffer]
        index: tuple[Any, ...] = (*region.slices(held), ...)  # the ellipsis makes a view of a scalar too
        return array[index]


def allocate(program: Program) -> dict[int, Any]:
    """Arrays of every buffer with a region, laid out in one block as the program's arena says."""
    memory = _aligned(program.arena.nbytes)
    arrays = {}
    for buffer, offset in zip(program.buffers, program.arena.offsets, strict=True):
        if buffer.region is not None:
            arrays[buffer.index] = _array(memory, buffer, buffer.region, offset)
    return arrays


def _array(memory: np.ndarray, buffer: Buffer, region: Region, offset: int) -> np.ndarray:
    block = memory[offset : offset + buffer.nbytes]
    return block.view(np.dtype(buffer.dtype)).reshape(region.shape)


def _aligned(nbytes: int, alignment: int = 64) -> np.ndarray:
    block = np.zeros(nbytes + alignment, np.uint8)
    start = -block.ctypes.data % alignment
    return block[start : start + nbytes]


def _open_channels(program: Program, transport: Transport) -> dict[int, Channel]:
    exchanges: list[Exchange] = sorted(program.exchanges, key=lambda exchange: exchange.index)
    return {channel.exchange.index: channel for channel in transport.open(exchanges)}


def _mover(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Action:
    """Action that copies each source view onto its target view."""
    pairs = tuple(pairs)
    copy = np.copyto

    def move() -> None:
        for target, source in pairs:
            copy(target, source)

    return move


def _distinct(parcels: Sequence[Parcel]) -> list[Parcel]:
    """Parcels with memory of their own: those that share it are packed once."""
    return list({parcel.memory.ctypes.data: parcel for parcel in parcels}.values())
