"""Streams: several requests in flight on every rank, each in a slot of its own.

A slot is an executor: one request's buffers and channels. Request r takes slot ``r % len(slots)``, whose program is
that of its turn. The main thread does whatever a request can do without waiting, the oldest first, and alone talks to
the other ranks; computing is handed to a worker. So a rank computes while its messages travel::

    compute    |-- 0 --|-- 1 --|-- 0 --|-- 2 --|-- 1 --|
    request 0          |send|wait|receive|     |send|wait ...
    request 1                  |send|wait ---|receive|

All that is exchanged goes as messages: a collective would need the same order of requests on every rank. Requests of
one turn never overtake each other at a task, so the messages of an exchange are sent, and received, in the order of
requests, and need not say which one they belong to; turns have tags of their own. The oldest request of all has its
slot on every rank and is never held back by a younger one for longer than a task: every stream goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isinf
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter, sleep

from ..core.program import Exchange
from .admission import Admission, StreamStats
from .executor import Executor, Task
from .life import Doing
from .machine import offer_core
from .provider import Action
from .transport import Channel, Transport

_LONGEST_NAP_S = 500e-6
"""While messages may be under way: they go on only when both ends look in. After 1 ms, messages of 400 kB would take a
quarter longer over 1 Gb/s, and smaller and larger ones no longer."""


SHORT_S = 100e-6
"""An action that takes less is done at once: to hand it over, and to be told, takes about as long."""


def with_tags(exchange: Exchange, first_tag: int) -> Exchange:
    """The same exchange with tags from `first_tag` on."""
    sends, receives = (
        tuple(replace(message, tag=message.tag + first_tag) for message in side)
        for side in (exchange.sends, exchange.receives)
    )
    return replace(exchange, sends=sends, receives=receives)


def as_messages(exchange: Exchange, first_tag: int) -> Exchange:
    """The same exchange with tags from `first_tag` on, carried out by messages whatever its pattern."""
    kind = "halo" if exchange.is_collective else exchange.kind
    return replace(with_tags(exchange, first_tag), kind=kind, staging_slot=-1)


@dataclass(slots=True, eq=False)
class _Slot:
    """Room for one request at a time."""

    executor: Executor
    tasks: tuple[Task, ...]
    seconds: list[float]  # what each task has last taken, as far as it computes
    sent_bytes: int
    before: _Slot | None = None  # the slot of the request before this one of the same turn
    number: int = -1  # of the request; negative when there is none
    next_task: int = 0  # number of the task that is to be done next
    is_computing: bool = False
    began_s: float = 0.0

    def begin(self, number: int, inputs: Mapping[str, object]) -> None:
        self.began_s = perf_counter()
        self.number, self.next_task = number, 0
        self.executor.begin(inputs)

    @property
    def limit(self) -> int:
        """The task before which this request must stay: the one at which the request before it is."""
        before = self.before
        return before.next_task if before is not None and 0 <= before.number < self.number else len(self.tasks)

    @property
    def is_done(self) -> bool:
        return self.next_task == len(self.tasks) and not self.is_computing

    @property
    def wait(self) -> Task | None:
        """The wait that this request is in, if it is in one."""
        if self.is_computing or self.next_task >= self.limit or self.tasks[self.next_task].is_over is None:
            return None
        return self.tasks[self.next_task]


class Stream:
    """One rank's part of a stream in which `in_flight` requests may be under way.

    There is an executor for every slot, with its turn's program. `prepare_thread` is called by the thread that
    computes, if there is one, before it does. `deadline_s` is how long a wait may last once all ranks are warm; None
    leaves it as it is.
    """

    def __init__(
        self,
        transport: Transport,
        executors: Sequence[Executor],
        turns: int,
        in_flight: int,
        admission: Admission,
        prepare_thread: Action,
        deadline_s: float | None = None,
    ) -> None:
        self._transport = transport
        self._admission = admission
        self._slots = [_slot(executor) for executor in executors]
        for index, slot in enumerate(self._slots if len(executors) > turns else ()):
            if slot is not None:
                slot.before = self._slots[index - turns]
        self._in_flight = in_flight
        self._worker = Worker(prepare_thread if in_flight > 1 else None)
        self._active: deque[_Slot] = deque()
        self._next = self._ended = 0
        self._sent_bytes = 0
        self._began_s = self._ended_s = 0.0
        self._idle_since = 0.0
        self._at_rest = transport.patience
        self._waiting = replace(self._at_rest, longest_nap_s=_LONGEST_NAP_S)
        self._deadline_s = deadline_s
        self._tell_s = 0.0  # the wait is looked at when it has lasted so long

    def run(self) -> StreamStats:
        """Carry out all requests.

        Raises LateError when another rank is late. Raises what onnxruntime raises.
        """
        with self._worker:
            while not self._is_over():
                if self._go_round():
                    self._idle_since = 0.0
                else:
                    self._rest()
        return StreamStats(
            rank=self._transport.rank,
            requests=self._admission.admitted,
            elapsed_s=self._ended_s - self._began_s,
            busy_s=self._worker.busy_s,
            sent_bytes=self._sent_bytes,
            latencies_s=self._admission.latencies_s,
        )

    def doing(self) -> Doing:
        """What this rank is at, and what it has done so far; asked by another thread."""
        doing = Doing("waits for messages" if self._active else "waits for the next request")
        if (now := self._worker.now) is not None:
            slot, began_s = now
            number = min(slot.next_task - slot.is_computing, len(slot.tasks) - 1)
            usual_s = slot.seconds[number]
            doing = slot.tasks[number].doing(perf_counter() - began_s, None if isinf(usual_s) else usual_s)
        return replace(doing, requests=self._ended, busy_s=self._worker.busy_s)

    def _is_over(self) -> bool:
        return not self._active and self._next == self._admission.admitted and self._admission.is_settled

    def _go_round(self) -> bool:
        """Do all that can be done without waiting; whether anything was done."""
        moved = self._begin()
        moved |= self._admission.look()
        moved |= self._note(self._worker.take())
        for slot in self._active:
            if not slot.is_computing:
                moved |= self._advance(slot)
        while self._active and self._active[0].is_done:
            self._end(self._active.popleft())
            moved = True
        return moved

    def _begin(self) -> bool:
        """Take in the requests there is room for."""
        before = self._next
        while self._has_room:
            inputs = self._admission.take(self._next)
            if inputs is None:
                break
            slot = self._slots[self._next % len(self._slots)]
            if slot is not None:
                slot.begin(self._next, inputs)
                self._active.append(slot)
                self._began_s = self._began_s or slot.began_s
            self._next += 1
        return self._next > before

    @property
    def _has_room(self) -> bool:
        """Whether the next request could begin here, or passes this rank by."""
        slot = self._slots[self._next % len(self._slots)]
        return slot is None or (slot.number < 0 and len(self._active) < self._in_flight)

    def _advance(self, slot: _Slot) -> bool:
        """Do tasks of a request until it has to wait; whether any was done."""
        began, limit = slot.next_task, slot.limit
        while slot.next_task < limit:
            task = slot.tasks[slot.next_task]
            if task.kind == "compute":
                if self._worker.is_full or not self._compute(slot, task):
                    break
            elif task.is_over is None:
                task.act()
            elif not task.is_over():
                break
            slot.next_task += 1
        return slot.next_task > began

    def _compute(self, slot: _Slot, task: Task) -> bool:
        """Hand a task to the worker; whether it has been done at once."""
        seconds = self._worker.submit(slot, task.act, slot.seconds[slot.next_task])
        if seconds is None:
            slot.is_computing = True
            slot.next_task += 1
            return False
        slot.seconds[slot.next_task] = seconds
        return True

    def _note(self, done: tuple[_Slot, float] | None) -> bool:
        """The worker is done with a request's task."""
        if done is None:
            return False
        slot, seconds = done
        slot.is_computing = False
        slot.seconds[slot.next_task - 1] = seconds
        return True

    def _end(self, slot: _Slot) -> None:
        """The oldest request has done all its tasks on this rank."""
        self._ended += 1
        self._ended_s = perf_counter()
        self._admission.deliver(slot.number, slot.executor.outputs, self._ended_s - slot.began_s)
        self._sent_bytes += slot.sent_bytes
        if slot.number >= self._in_flight:  # from now on every rank has run every segment
            self._at_rest.predicted_s = self._deadline_s
        slot.number = -1

    def _rest(self) -> None:
        """Nap for a moment. A worker that is done ends the nap, so that naps need not be short while it works."""
        now = perf_counter()
        if not self._idle_since:
            self._idle_since, self._tell_s = now, self._at_rest.look_s
        waited_s, is_computing = now - self._idle_since, self._worker.pending > 0
        if waited_s >= self._tell_s and not is_computing:
            self._check_late(waited_s)
        self._transport.idle(self._awaited)
        patience = self._waiting if self._active else self._at_rest
        nap_s = _LONGEST_NAP_S if is_computing else patience.nap_s(waited_s)
        if nap_s > 0.0:
            if self._note(self._worker.take(nap_s)):
                self._idle_since = 0.0
        elif patience.yields:
            offer_core()

    def _check_late(self, waited_s: float) -> None:
        """Tell others that this rank waits, or give up, when a message is owed; the next request is not."""
        waits = (slot.wait for slot in self._active)
        for channel in (channel for wait in waits if wait is not None for channel in wait.channels):
            if not (channel.has_arrived() and channel.has_left()):
                late = channel.late(waited_s)
                if waited_s >= self._at_rest.limit_s:
                    raise self._at_rest.error(late)
                self._tell_s = min(waited_s + self._at_rest.tell(late), self._at_rest.limit_s)
                return

    def _awaited(self) -> Iterable[Channel] | None:
        """Channels one of which must arrive for this rank to go on; None while something else may happen."""
        awaited = self._admission.awaited if self._has_room else ()
        if self._worker.pending or awaited is None:
            return None
        return [*awaited, *(channel for slot in self._active if slot.wait for channel in slot.wait.channels)]


def _slot(executor: Executor) -> _Slot | None:
    """The slot of an executor; None where this rank has no part in its program."""
    program = executor.program
    if not (program.steps or program.inputs or program.outputs):
        return None
    seconds = [inf] * len(executor.tasks)
    return _Slot(executor, executor.tasks, seconds, sum(message.nbytes for message in program.sends))


class Worker:
    """Computes for a stream, one action after the other: in a thread of its own, so that messages move meanwhile.

    The thread begins with `prepare`, and wakes as promptly as the one that made it. One action waits while another is
    carried out, so that the thread need not wait to be handed the next. Without `prepare` there is no thread: every
    action is done at once, where it is asked for.

    What is done is a row with a bell, not a queue: a queue's own wait may never end in Python 3.11, when something had
    been taken from it without waiting.

    Attributes
    ----------
    pending : int
        Actions that have been handed over and not been told of.
    now : tuple of _Slot and float, or None
        Whose action is carried out, and since when.
    """

    now: tuple[_Slot, float] | None = None

    def __init__(self, prepare: Action | None = None) -> None:
        self.pending = 0
        self._spent_here_s = self._spent_there_s = 0.0
        self._jobs: SimpleQueue[tuple[_Slot, Action] | None] = SimpleQueue()
        self._done: deque[tuple[_Slot, float, BaseException | None]] = deque()
        self._bell = Lock()  # held until it rings
        self._bell.acquire()
        self._thread = prepare and Thread(target=self._work, args=(prepare,), name="compute", daemon=True)

    def __enter__(self) -> Worker:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._jobs.put(None)
        if self._thread and kind is None:  # who fails has no time to wait for what is of no use any more
            self._thread.join()

    @property
    def is_full(self) -> bool:
        """Whether another action would have to wait for more than the one that is carried out."""
        return self.pending > 1

    @property
    def busy_s(self) -> float:
        """Seconds spent on actions."""
        return self._spent_here_s + self._spent_there_s

    def submit(self, owner: _Slot, action: Action, expected_s: float) -> float | None:
        """Do an action at once when it is short, else hand it to the thread.

        Returns the seconds that the action took; None when the thread does it, of which :meth:`take` then tells.
        """
        if self._thread is None or (expected_s < SHORT_S and not self.pending):
            seconds = self._timed(owner, action)
            self._spent_here_s += seconds
            return seconds
        self.pending += 1
        self._jobs.put((owner, action))
        return None

    def take(self, timeout_s: float = 0.0) -> tuple[_Slot, float] | None:
        """Owner and seconds of the next action that the thread has ended; None when there is none within `timeout_s`.

        Raises what the action raised.
        """
        if timeout_s > 0.0 and not self._done:
            if self._thread is None:
                sleep(timeout_s)
            else:
                self._bell.acquire(timeout=timeout_s)
        if not self._done:
            return None
        owner, seconds, error = self._done.popleft()
        self.pending -= 1
        if error is not None:
            raise error
        return owner, seconds

    def _work(self, prepare: Action) -> None:
        prepare()
        while (job := self._jobs.get()) is not None:
            owner, action = job
            seconds, error = 0.0, None
            try:
                seconds = self._timed(owner, action)
            except BaseException as raised:  # it belongs to whoever asked for the action
                error = raised
            self._spent_there_s += seconds
            self._done.append((owner, seconds, error))
            if self._bell.locked():  # else it has rung, and nobody has heard it yet
                self._bell.release()

    def _timed(self, owner: _Slot, action: Action) -> float:
        """Seconds that an action takes."""
        began = perf_counter()
        self.now = owner, began
        action()
        self.now = None
        return perf_counter() - began
