"""From the words of a command line to a source of requests, or to none: then they mean a single request."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...core.budget import Budget
from ...core.errors import DataError
from ...core.graph import Graph
from ..images import Numbers
from ..inputs import parse_argument
from .files import FileLoader, Files, Folder, expanded, is_pattern, stacked
from .frames import Frames
from .source import AtMost, MadeUp, Source

STDIN = "-"
"""The argument that stands for standard input."""

_STACKS = (".h5", ".hdf5")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is asked for besides files.

    Attributes
    ----------
    limit : int or None
        So many requests at most; without files, so many random ones.
    is_stream : bool
        Whether a stream is asked for even if the files would do as a single request.
    mean, scale : numbers
        Of pictures.
    seed : int
        Of random requests.
    budget : Budget
        Of each array and picture.
    """

    limit: int | None = None
    is_stream: bool = False
    mean: Numbers = None
    scale: Numbers = None
    seed: int = 0
    budget: Budget = field(default_factory=Budget.of_machine)


def find_source(arguments: Sequence[str], graph: Graph, asked: Finding) -> Source | None:
    """The source that arguments ``[NAME=]FILE`` stand for; None when they are the files of one request.

    A stream is: random requests where there are no arguments, but a limit; standard input (``-``) or a named pipe; a
    folder; a pattern; more files than the model has inputs; an HDF5 file whose datasets have one more axis in front.

    Raises
    ------
    DataError
        When a stream is asked for that there is not, or more than one.
    """
    if not arguments:
        return None if asked.limit is None else MadeUp(graph, asked.seed, asked.limit)
    source = _alone(arguments, graph, asked) or _several(arguments, graph, asked)
    if source is None or asked.limit is None:
        return source
    return AtMost(source, asked.limit)


def _alone(arguments: Sequence[str], graph: Graph, asked: Finding) -> Source | None:
    """The source that a single argument is, if one of them is such."""
    for argument in arguments:
        source = _single(argument, graph, asked)
        if source is None:
            continue
        if len(arguments) > 1:
            raise DataError(f"'{argument}' is a stream by itself: give it alone, not with {len(arguments) - 1} more")
        return source
    return None


def _single(argument: str, graph: Graph, asked: Finding) -> Source | None:
    if argument == STDIN:
        return Frames(None, graph, asked.budget)
    name, path = (None, Path(argument)) if is_pattern(argument, graph) else parse_argument(argument, graph)
    if not path.exists():
        return None
    mode = path.stat().st_mode
    if (stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)) and name is not None:
        raise DataError(f"'{path}' gives all inputs of a request: leave the name '{name}' away")
    if stat.S_ISFIFO(mode):
        return Frames(path, graph, asked.budget)
    if stat.S_ISDIR(mode):
        return Folder(path, FileLoader(graph, asked.mean, asked.scale, asked.budget))
    return stacked(argument, graph, asked.budget) if path.suffix.lower() in _STACKS else None


def _several(arguments: Sequence[str], graph: Graph, asked: Finding) -> Source | None:
    is_asked = asked.is_stream or asked.limit is not None
    has_pattern = any(is_pattern(argument, graph) for argument in arguments)
    if not (is_asked or has_pattern or len(arguments) > len(graph.inputs)):
        return None
    return Files(expanded(arguments, graph), FileLoader(graph, asked.mean, asked.scale, asked.budget))
