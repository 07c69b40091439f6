"""The executor: carries out one program, request after request. It decides nothing and allocates nothing.

What a request asks of the rank is a row of tasks, each done in one go. `Executor.run` does them one by one and waits
where it must; a stream (:mod:`.stream`) holds several executors and does the tasks of another one meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

from ..core.blocks import nominal_shape
from ..core.program import Compute, Exchange, Finish, LocalCopy, Program, Start
from ..core.timeline import OF_NONE, Event, Timeline
from .life import Doing
from .moving import Held, Move, check_alike, copies, mover, packing
from .provider import Action
from .states import States
from .transport import Channel, MessageBuffer, Transport, aligned

KernelFactory = Callable[[Compute, Mapping[int, Any]], Action]
"""Makes the action of a Compute step from the rank's values: arrays by buffer number; opaque values come and go."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done in one go for a request: computing, sending, receiving, or a wait."""

    # `kind` and `segment`: as the timeline's event has them
    kind: str
    segment: int
    act: Action  # does the task. A wait returns when it is over.
    # Says of a wait, without waiting, whether it is over. None for any other task: it can be done at once.
    is_over: Callable[[], bool] | None = None
    channels: tuple[Channel, ...] = ()  # the channels that a wait is for

    def doing(self, for_s: float, usual_s: float | None) -> Doing:
        """What a rank does that has been at this task for so long."""
        if self.kind == "compute":
            return Doing(f"computes segment {self.segment}", for_s, usual_s, is_work=True)
        return Doing(f"is in exchange {self.segment}", for_s, usual_s)


class Executor:
    """One rank's program, ready to run: buffers, channels and what to do with them.

    Parameters
    ----------
    program : Program
    transport : Transport
    kernel : callable
        Makes the action of each Compute step.
    channels : sequence of Channel, optional
        Those of the program's exchanges, when they have been opened together with others; opened here when not given.
    states : States, optional
        What this rank keeps between requests; without it every request finds zeros there.

    Attributes
    ----------
    tasks : tuple of Task
        In the order in which a request needs them; empty when this rank has no part in the program.
    """

    def __init__(
        self,
        program: Program,
        transport: Transport,
        kernel: KernelFactory,
        channels: Sequence[Channel] | None = None,
        states: States | None = None,
    ) -> None:
        self.program = program
        self.values = allocate(program, states.arrays if states else {})
        self._states = states
        self._transport = transport
        opened = transport.open(by_index(program)) if channels is None else channels
        self._channels = {channel.exchange.index: channel for channel in opened}
        self._in_staging_slot: dict[int, Channel] = {}
        tasks = [task for step in program.steps for task in self._tasks(step, kernel)]
        if states is not None:
            tasks.append(Task("receive", OF_NONE, states.keeping(program, self.values)))
        self.tasks = (*tasks, self._wait(OF_NONE, *self._channels.values()))
        self._marks, self._before = ([0.0] * (len(self.tasks) + 2) for _ in range(2))

    def begin(self, inputs: Mapping[str, Any]) -> None:
        """Begin a request: copy its inputs, and be ready for its messages, which may come from now on."""
        given = inputs if self._states is None else {**inputs, **self._states.told()}
        for name, index in self.program.inputs:
            self._write(index, given[name])
        for channel in self._channels.values():
            channel.post()

    @property
    def outputs(self) -> dict[str, Any]:
        """Outputs of the request whose tasks are all done, on the root; views that the next request overwrites."""
        return {name: self.values[index] for name, index in self.program.outputs}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of one request by name, on the root; empty elsewhere.

        Arrays are views that the next run overwrites.

        Parameters
        ----------
        inputs : mapping of str to array
            Every input of the graph, on the root; ignored elsewhere. Shapes and types must be the graph's.
        """
        self._marks, self._before = self._before, self._marks
        marks, clock = self._marks, perf_counter
        marks[0] = clock()
        self.begin(inputs)
        for number, task in enumerate(self.tasks, 1):
            marks[number] = clock()
            task.act()
        marks[-1] = clock()
        return self.outputs

    def close(self) -> None:
        """Give the channels back; the executor cannot run any more."""
        self._transport.release(self._channels.values())
        self.tasks = ()

    @property
    def began_s(self) -> float:
        """When the last request began, by this process's ``time.perf_counter``."""
        return self._marks[0]

    def doing(self) -> Doing | None:
        """What the request that runs is at; None where none does. Asked by another thread."""
        marks, before = self._marks, self._before
        number = sum(mark >= marks[0] for mark in marks[1:-1])
        if not number or marks[-1] >= marks[0]:
            return None
        task, for_s = self.tasks[number - 1], perf_counter() - marks[number]
        return task.doing(for_s, before[number + 1] - before[number] if before[-1] else None)

    def timeline(self) -> Timeline:
        """Where the time of the last request went on this rank."""
        origin, rank, marks = self._marks[0], self.program.rank, self._marks
        begin = Event(rank, "receive", 0, 0.0, marks[1] - origin)
        events = (
            Event(rank, task.kind, task.segment, marks[number] - origin, marks[number + 1] - origin)
            for number, task in enumerate(self.tasks, 1)
        )
        return Timeline((begin, *events))

    def _write(self, index: int, array: Any) -> None:
        if self.program.buffers[index].region is None:
            self.values[index] = array
        else:
            check_alike(self.values[index], array, self.program.buffers[index].value)
            np.copyto(self.values[index], array)

    def _tasks(self, step: Compute | Start | Finish, kernel: KernelFactory) -> list[Task]:
        """The tasks of a step; a step that packs and waits is several."""
        if isinstance(step, Compute):
            return [Task("compute", step.segment, kernel(step, self.values))]
        index = step.exchange.index
        channel = self._channels.get(index)
        if isinstance(step, Start):
            assert channel is not None, "every exchange that starts has a channel"
            return [self._wait(index, *self._mates(channel)), Task("send", index, self._starter(channel))]
        tasks = []
        if channel is not None:
            tasks.append(Task("wait", index, channel.finish, channel.has_arrived, (channel,)))
        moves = self._incoming(step.exchange, channel)
        if moves:
            tasks.append(Task("receive", index, mover(moves, f"exchange {index}")))
        return tasks

    def _mates(self, channel: Channel) -> list[Channel]:
        """Channels that must be done sending before this one is packed: itself, and the last one that used its memory.

        That one has waited for all earlier ones, and the end of a request waits for all of them.
        """
        slot = channel.exchange.staging_slot
        before = self._in_staging_slot.get(slot) if slot >= 0 else None
        self._in_staging_slot[slot] = channel
        return [channel] if before is None else [channel, before]

    def _wait(self, index: int, *channels: Channel) -> Task:
        """A task that waits until everything sent has left: MPI may need this rank's help to finish a large message."""

        def drain() -> None:
            for channel in channels:
                channel.drain()

        def has_left() -> bool:
            return all(channel.has_left() for channel in channels)

        return Task("wait", index, drain, has_left, channels)

    def _starter(self, channel: Channel) -> Action:
        pairs = [pair for message in _distinct(channel.outgoing) for pair in self._packing(message, pack=True)]
        move = mover(pairs, f"exchange {channel.exchange.index}")

        def start() -> None:
            move()
            channel.start()

        return start

    def _incoming(self, exchange: Exchange, channel: Channel | None) -> list[Move]:
        """What unpacks an exchange and makes this rank's own copies, in the order of the ranks it comes from."""
        by_rank = {
            message.peer: self._packing(message, pack=False) for message in (channel.incoming if channel else ())
        }
        by_rank[self.program.rank] = self._copies(exchange.copies)
        return [move for rank in sorted(by_rank) for move in by_rank[rank]]

    def _packing(self, message: MessageBuffer, *, pack: bool) -> list[Move]:
        return packing(
            message.pieces, [self._held(piece.buffer) for piece in message.pieces], message.memory, pack=pack
        )

    def _copies(self, own: Sequence[LocalCopy]) -> list[Move]:
        return [move for c in own for move in copies(c.region, self._held(c.target), self._held(c.source), c.combine)]

    def _held(self, buffer: int) -> Held:
        return Held.of(self.program.buffers[buffer], self.values[buffer])


def allocate(program: Program, states: Mapping[str, np.ndarray] = MappingProxyType({})) -> dict[int, Any]:
    """Arrays of every buffer with a region, laid out in one piece as the program's arena says.

    Those of `states` are given, by value, or lie elsewhere. All have the shapes that onnxruntime knows: in a blocked
    one, channels count with their padding.
    """
    memory = aligned(program.arena.nbytes)
    arrays = {}
    for buffer, offset in zip(program.buffers, program.arena.offsets, strict=True):
        if buffer.is_state and buffer.value in states:
            arrays[buffer.index] = states[buffer.value]
        elif buffer.region is not None:
            part = aligned(buffer.nbytes) if buffer.is_state else memory[offset : offset + buffer.nbytes]
            part = part.view(np.dtype(buffer.dtype))
            arrays[buffer.index] = part.reshape(nominal_shape(buffer.region, buffer.block))
    return arrays


def by_index(program: Program) -> list[Exchange]:
    """The exchanges of a program in the job's order, in which all ranks open them."""
    return sorted(program.exchanges, key=lambda exchange: exchange.index)


def _distinct(messages: Sequence[MessageBuffer]) -> list[MessageBuffer]:
    return list({message.memory.ctypes.data: message for message in messages}.values())
