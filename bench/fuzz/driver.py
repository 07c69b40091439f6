"""Workers, each in a process of its own: one that crashes or hangs is noticed, and another goes on after it."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cases import Kind
from worker import Limits, Verdict, Worker, keep_case, work

_PATIENCE = 8.0
"""A worker that says nothing for so many times a case's limit is stuck where no signal reaches it."""
_BATCH = 100
"""Cases of a process; a fresh one then forgets what the libraries below hold."""


@dataclass
class Tally:
    """What became of the cases of a kind; `defects` has the first number and words of every key."""

    outcomes: Counter[str] = field(default_factory=Counter)
    defects: dict[tuple[str, str], tuple[int, str, int]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, number: int, verdict: Verdict) -> None:
        """Count a case."""
        self.outcomes[verdict.outcome] += 1
        if verdict.is_escape:
            key = (verdict.outcome, verdict.key)
            first, text, count = self.defects.get(key, (number, verdict.text, 0))
            self.defects[key] = (first, text, count + 1)


@dataclass
class _Process:
    """A worker's process, and the batch it is at."""

    pid: int
    pipe: int
    slot: int
    kind: Kind
    left: deque[int]
    is_done: bool = False
    rest: bytes = b""
    at: int | None = None
    heard_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Driver:
    """Runs cases of several kinds on some processes.

    Attributes
    ----------
    folder : Path
        Where the workers work.
    seed : int
    limits : Limits
    keep : Path, optional
        Where the files of cases that escape go.
    workers : int
    until_s : float
        Of the monotonic clock: no case begins later.
    """

    folder: Path
    seed: int
    limits: Limits
    keep: Path | None
    workers: int
    until_s: float
    tell: Callable[[str], None] = lambda text: None

    def run(self, jobs: Sequence[tuple[Kind, int, int]]) -> dict[str, Tally]:
        """The tally of each kind, of cases `first` to `end`."""
        tallies = {kind.name: Tally() for kind, _, _ in jobs}
        batches = deque(_batches(jobs))
        running: dict[int, _Process] = {}
        while running or (batches and time.monotonic() < self.until_s):
            while len(running) < self.workers and batches and time.monotonic() < self.until_s:
                kind, numbers = batches.popleft()
                slot = next(slot for slot in range(self.workers) if slot not in running)
                running[slot] = self._start(slot, kind, numbers)
            pipes = {process.pipe: slot for slot, process in running.items()}
            for pipe in select.select(list(pipes), [], [], 0.5)[0]:
                self._listen(running[pipes[pipe]], tallies)
            for slot, process in list(running.items()):
                if not process.is_done and time.monotonic() - process.heard_s > _PATIENCE * self.limits.seconds:
                    os.kill(process.pid, signal.SIGKILL)
                    process.heard_s = time.monotonic()
                if process.is_done:
                    del running[slot]
                    self._end(process, tallies)
                    if process.left:
                        batches.appendleft((process.kind, process.left))
        return tallies

    def _start(self, slot: int, kind: Kind, numbers: deque[int]) -> _Process:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(reading)
                _quiet(self.folder / f"output{slot}")
                worker = Worker(self.folder / f"worker{slot}", self.limits)
                with open(writing, "wb", buffering=0) as told:
                    work(worker, kind, self.seed, self._in_time(numbers), self.keep, told)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        return _Process(pid, reading, slot, kind, numbers)

    def _in_time(self, numbers: deque[int]) -> Iterator[int]:
        return (number for number in list(numbers) if time.monotonic() < self.until_s)

    def _listen(self, process: _Process, tallies: dict[str, Tally]) -> None:
        data = os.read(process.pipe, 1 << 16)
        process.is_done = not data
        *lines, process.rest = (process.rest + data).split(b"\n")
        tally = tallies[process.kind.name]
        for line in lines:
            now_s = time.monotonic()
            if process.at is None:
                process.at = int(line)
            else:
                tally.add(process.at, Verdict(**json.loads(line)))
                tally.seconds += now_s - process.heard_s
                process.left.popleft()
                process.at = None
            process.heard_s = now_s

    def _end(self, process: _Process, tallies: dict[str, Tally]) -> None:
        """Count the case in which a process died."""
        os.close(process.pipe)
        _, status = os.waitpid(process.pid, 0)
        if process.at is not None:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            words = f"signal {number}" if number else f"exit code {os.WEXITSTATUS(status)}"
            verdict = (
                Verdict("hang", "in a library", words) if number == signal.SIGKILL else Verdict("signal", words, words)
            )
            tallies[process.kind.name].add(process.at, verdict)
            if self.keep is not None:
                files = self.folder / f"worker{process.slot}" / "case" / "files"
                keep_case(files, self.keep, process.kind, f"--seed {self.seed} --case {process.at}", verdict)
            process.left.popleft()
        elif status:
            raise RuntimeError(f"a worker of {process.kind.name} ended between cases, with status {status}")


def _batches(jobs: Sequence[tuple[Kind, int, int]]) -> Iterator[tuple[Kind, deque[int]]]:
    """Cases of all kinds by turns, so that a run that is cut short has tried some of each."""
    step = _BATCH
    for first in range(0, max(end - begin for _, begin, end in jobs), step):
        for kind, begin, end in jobs:
            if begin + first < end:
                yield kind, deque(range(begin + first, min(begin + first + step, end)))


def _quiet(path: Path) -> None:
    """What libraries print goes to a file, written over by each process."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)
