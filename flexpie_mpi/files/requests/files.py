"""Requests from files: one file each, or many in one HDF5 file."""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.budget import Budget
from ...core.errors import DataError
from ...core.graph import Graph
from .. import INPUT_SUFFIXES
from ..hdf5 import Stack
from ..inputs import fit_inputs, parse_argument
from .source import Request, Stop

Load = Callable[[str], Request]
"""The request of ``FILE`` or ``NAME=FILE``; raises DataError."""


@dataclass(frozen=True, slots=True)
class Files:
    """One request per file, in the order of their names: 2 comes before 10."""

    arguments: tuple[str, ...]
    load: Load

    def __str__(self) -> str:
        first, last = self.arguments[0], self.arguments[-1]
        return first if len(self.arguments) == 1 else f"{len(self.arguments)} files, {first} .. {last}"

    @property
    def count(self) -> int:
        return len(self.arguments)

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        return map(self.load, self.arguments)


@dataclass(frozen=True, slots=True)
class Stacked:
    """Requests of an HDF5 file, each dataset with one more axis in front; read one by one, never as a whole."""

    path: Path
    name: str | None
    graph: Graph
    count: int
    budget: Budget

    def __str__(self) -> str:
        return str(self.path)

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        with Stack(self.path) as stack:
            for row in range(self.count):
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

    def __str__(self) -> str:
        return f"{self.path}, a watched folder"

    @property
    def count(self) -> None:
        return None

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
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
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # gone since its name was read
                if stat.S_ISREG(status.st_mode):
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
