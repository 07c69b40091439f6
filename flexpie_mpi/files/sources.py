"""Sources of requests but for pipes, what all have in common, and the thread that reads one: a supply of the engine.

Nothing here is ever held for more than a few requests, however many come.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count as counting
from itertools import islice
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Protocol

import numpy as np

from ..core.budget import Budget
from ..core.errors import DataError, FlexPieError
from ..core.graph import Graph
from . import INPUT_SUFFIXES
from .hdf5 import Stack
from .inputs import fit_inputs, parse_argument
from .synthetic import random_inputs

Request = Mapping[str, np.ndarray]
"""Every input of the graph by name."""

DEPTH = 4
"""At most so many requests are read before they are asked for."""

_LOOK_S = 0.05
"""How often a reader that has nothing to do looks whether it is to stop."""


class Stop:
    """Whether nothing more is wanted, for other threads to look at.

    No lock is behind it, as one is behind an event: a signal handler that interrupts another may set it.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


class Source(Protocol):
    """Where requests come from; ``str`` names it for people."""

    @property
    def count(self) -> int | None:
        """How many there are; None where that is not known."""

    @property
    def identity(self) -> str:
        """What is equal of two sources only where they give the same requests, as many as both have.

        Empty where the same requests cannot be asked for again.
        """

    def rest(self, done: int) -> Source:
        """The source without its first requests; the source itself where it has no identity."""

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """The requests in order, the first of them numbered `first`; whatever waits gives up once `stop` is set.

        Raises DataError at the first that cannot be had.
        """


@dataclass(frozen=True, slots=True)
class RandomRequests:
    """Random requests; the seed and the number of a request decide its values."""

    graph: Graph
    seed: int
    count: int

    def __str__(self) -> str:
        return f"random, seed {self.seed}"

    @property
    def identity(self) -> str:
        return str(self)

    def rest(self, done: int) -> RandomRequests:
        return replace(self, count=max(0, self.count - done))

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        for number in islice(counting(first), self.count):
            yield random_inputs(self.graph, self.seed, number)


def sample(source: Source, graph: Graph, seed: int = 0) -> Request | None:
    """A request like those of a source: its first, or, where it is not known when that comes, a random one.

    None when the first cannot be had, which whoever asks for it will be told, or none can be made up.
    """
    known = source if source.count is not None else RandomRequests(graph, seed, 1)
    try:
        return next(known.requests(0, Stop()), None)
    except DataError:
        return None


@dataclass(frozen=True, slots=True)
class AtMost:
    """The first requests of another source."""

    source: Source
    limit: int

    def __str__(self) -> str:
        return f"{self.source}; at most {self.limit}"

    @property
    def count(self) -> int | None:
        known = self.source.count
        return None if known is None else min(known, self.limit)

    @property
    def identity(self) -> str:
        return self.source.identity

    def rest(self, done: int) -> AtMost:
        return AtMost(self.source.rest(done), max(0, self.limit - done))

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        return islice(self.source.requests(first, stop), self.limit)


Load = Callable[[str], Request]
"""The request of ``FILE`` or ``NAME=FILE``; raises DataError."""


@dataclass(frozen=True, slots=True)
class Files:
    """One request per file, in the order of their names: 2 comes before 10."""

    arguments: tuple[str, ...]
    graph: Graph
    load: Load

    def __str__(self) -> str:
        first, last = self.arguments[0], self.arguments[-1]
        return first if len(self.arguments) == 1 else f"{len(self.arguments)} files, {first} .. {last}"

    @property
    def count(self) -> int:
        return len(self.arguments)

    @property
    def identity(self) -> str:
        return f"{self.count} files {_state_of(parse_argument(word, self.graph) for word in self.arguments)}"

    def rest(self, done: int) -> Files:
        return replace(self, arguments=self.arguments[done:])

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        return map(self.load, self.arguments)


@dataclass(frozen=True, slots=True)
class Stacked:
    """Requests of an HDF5 file, each dataset with one more axis in front; read one by one, never as a whole."""

    path: Path
    name: str | None
    graph: Graph
    count: int
    budget: Budget
    begin: int = 0  # row of the first request

    def __str__(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> str:
        return f"{self.path.name} {_state_of([(self.name, self.path)])}"

    def rest(self, done: int) -> Stacked:
        return replace(self, begin=self.begin + done, count=max(0, self.count - done))

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        with Stack(self.path) as stack:
            for row in range(self.begin, self.begin + self.count):
                offers = stack.offers(row)
                if self.name is not None:
                    offers = {self.name: offers.get(self.name, next(iter(offers.values())))}
                yield fit_inputs(offers, self.graph, self.path, self.budget)


@dataclass(frozen=True, slots=True)
class Folder:
    """Requests from files that appear in a folder; it never ends by itself.

    Files that are there come first, then others as they appear; those that are found together in the order of their
    times, then names. A file is taken once, when its name is seen, whatever is done to it afterwards, so it must be
    whole then: write it under a name that begins with a dot, or elsewhere on the same disk, and rename it. Another file
    under the name of an earlier one is another request. Endings that are no input's are left alone.
    """

    path: Path
    load: Load
    look_s: float = 0.1
    count = None
    identity = ""  # files come, go, and get other times

    def __str__(self) -> str:
        return f"{self.path}, a watched folder"

    def rest(self, done: int) -> Folder:
        return self

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        known: set[tuple[str, int]] = set()
        while not stop.is_set():
            there = present(self.path)
            known &= there.keys()  # a name that is gone may come again
            for file in in_turn({file: there[file] for file in there.keys() - known}):
                known.add(file)
                if stop.is_set():
                    return
                yield self.load(str(self.path / file[0]))
            time.sleep(self.look_s)


def present(folder: Path) -> dict[tuple[str, int], int]:
    """The time of the last change, in ns, of every file of a watched folder that may be a request, by (name, inode).

    Raises DataError when the folder cannot be read.
    """
    times = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in INPUT_SUFFIXES:
                    continue
                with suppress(FileNotFoundError):  # gone since its name was read
                    if stat.S_ISREG((status := entry.stat()).st_mode):
                        times[entry.name, status.st_ino] = status.st_mtime_ns
    except OSError as error:
        raise DataError(f"folder '{folder}' cannot be read: {error.strerror}") from error
    return times


def in_turn(times: Mapping[tuple[str, int], int]) -> list[tuple[str, int]]:
    """Files as of :func:`present`, in the order in which they are taken."""
    return sorted(times, key=lambda file: (times[file], natural(file[0])))


def stacked(argument: str, graph: Graph, budget: Budget) -> Stacked | None:
    """The requests of an HDF5 file; None for one that holds the inputs of a single request.

    Raises DataError when the file cannot be read, or a dataset does not have as many requests as another.
    """
    name, path = parse_argument(argument, graph)
    with Stack(path) as stack:
        shapes = stack.shapes
        wanted = [name] if name is not None else list(graph.inputs)
        pairs = [(shapes[item], graph.value(item).shape) for item in wanted if item in shapes]
        if name is not None and not pairs and len(shapes) == 1:
            pairs = [(next(iter(shapes.values())), graph.value(name).shape)]
        if not pairs or any(shape is None or len(stored) != len(shape) + 1 for stored, shape in pairs):
            return None
        return Stacked(path, name, graph, stack.count, budget)


def _state_of(files: Iterable[tuple[str | None, Path]]) -> str:
    """Some digits that change when files, each for an input, are others, in another order, or written anew.

    Nothing of them is read: what tells is name, size and time.
    """
    digest = hashlib.sha256()
    for name, path in files:
        with suppress(OSError):  # whoever reads it says what is wrong
            status = path.stat()
            said = f"{name}\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(said.encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]


def expanded(arguments: Iterable[str], graph: Graph) -> tuple[str, ...]:
    """The files of arguments, patterns among them, in the order of their names; raises DataError."""
    words: list[str] = []
    for argument in arguments:
        if not is_pattern(argument, graph):
            words.append(argument)
            continue
        name, pattern = parse_argument(argument, graph)
        files = [path for path in glob.glob(str(pattern), recursive=True) if not os.path.isdir(path)]
        if not files:
            raise DataError(f"no file fits the pattern '{pattern}'")
        words += [path if name is None else f"{name}={path}" for path in files]
    return tuple(sorted(words, key=natural))


def is_pattern(argument: str, graph: Graph) -> bool:
    """Whether an argument stands for files by ``*``, ``?`` or ``[``, and is not the name of one."""
    return glob.has_magic(argument) and not os.path.exists(parse_argument(argument, graph)[1])


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers inside names by their value.

    >>> sorted(["b10.png", "b9.png", "a.png"], key=natural)
    ['a.png', 'b9.png', 'b10.png']
    """
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), part) if index % 2 else (1, 0, part) for index, part in enumerate(parts))


def put_while_wanted(queue: Queue[Any], item: Any, is_over: Callable[[], bool]) -> None:
    """Put an item where there is room for it, as soon as there is, unless all is over before that."""
    while not is_over():
        with suppress(Full):
            queue.put(item, timeout=_LOOK_S)
            return


class Reader:
    """The requests of a source from number `first` on, ready to be taken: a supply of the engine.

    Its `count` says how many there will be; None where that is not known.
    """

    def __init__(self, source: Source, first: int = 0, depth: int = DEPTH) -> None:
        self.count = source.count
        self._source = source
        self._first = first
        self._ready: Queue[Request] = Queue(depth)
        self._stop, self._is_done = Stop(), Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()

    def take(self) -> Request | None:
        """The next request; None where none is ready. Never waits.

        Raises a FlexPieError that says what is wrong with the next request, with its number, once those before it are
        taken.
        """
        if self._stop.is_set():
            return None
        is_done = self._is_done.is_set()
        try:
            return self._ready.get_nowait()
        except Empty:
            if is_done and self._error is not None:
                raise self._error from None
            return None

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more."""
        return self._stop.is_set() or (self._is_done.is_set() and self._ready.empty() and self._error is None)

    @property
    def left(self) -> int:
        """Requests that were read and not taken."""
        return self._ready.qsize()

    def stop(self) -> None:
        """Stop reading and handing out requests; may be called by a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait a second at most for the thread, which may be in the middle of a file."""
        self.stop()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        number = self._first
        try:
            for request in self._source.requests(self._first, self._stop):
                put_while_wanted(self._ready, request, self._stop.is_set)
                number += 1
                if self._stop.is_set():
                    return
        except FlexPieError as error:
            self._error = type(error)(f"request {number}: {error}")
        except BaseException as error:  # a defect: raised where the next request is asked for
            self._error = error
        finally:
            self._is_done.set()
