"""What the words ``[NAME=]FILE`` of a command line mean: a source of requests, or the files of a single one.

A :class:`Source` flows out: random numbers, files, a file of many requests, a pipe, or a folder that is watched. Also
what those files say at once of the shapes of inputs, without the data: what a model's open axes are to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.budget import Budget
from ..core.errors import DataError
from ..core.graph import Graph
from . import HDF5_SUFFIXES, INPUT_SUFFIXES, STDIN
from .images import Normalisation, Numbers, normalisation, picture_shape
from .inputs import InputSource, load_inputs, parse_argument, picture_inputs, sources_in
from .offers import check_readable
from .pipes import Frames, standard_input
from .sources import (
    AtMost,
    Files,
    Folder,
    Load,
    RandomRequests,
    Reader,
    Source,
    expanded,
    in_turn,
    is_pattern,
    present,
    sample,
    stacked,
)

__all__ = [
    "Reader",
    "Source",
    "StreamOptions",
    "find_source",
    "normalisations",
    "offered_shapes",
    "sample",
    "standard_input",
]

Shape = tuple[int, ...]
Axes = tuple[int | str | None, ...]
"""The axes of an input as the model has them: each a size, a symbol, or nothing."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What is asked for besides files."""

    limit: int | None = None  # so many requests at most; without files, so many random ones
    is_stream: bool = False  # a stream is asked for even if the files would do as a single request
    mean: Numbers = None  # of pictures, as `scale`
    scale: Numbers = None
    seed: int = 0  # of random requests
    budget: Budget = field(default_factory=Budget.of_machine)  # of each array and picture

    @property
    def is_asked(self) -> bool:
        """Whether a stream is asked for, in one way or the other."""
        return self.is_stream or self.limit is not None

    def loader(self, graph: Graph) -> Load:
        """What makes a request of ``FILE`` or ``NAME=FILE``."""
        return lambda argument: load_inputs([argument], graph, mean=self.mean, scale=self.scale, budget=self.budget)


def find_source(arguments: Sequence[str], graph: Graph, asked: StreamOptions) -> Source | None:
    """The source that arguments ``[NAME=]FILE`` stand for; None when they are the files of one request.

    A stream is: random requests where there are no arguments, but a limit; standard input (``-``) or a named pipe; a
    folder; a pattern; more files than the model has inputs; an HDF5 file whose datasets have one more axis in front.
    Raises DataError when a stream is asked for that there is not, or more than one.
    """
    if not arguments:
        return None if asked.limit is None else RandomRequests(graph, asked.seed, asked.limit)
    source: Source | None = None
    for argument in arguments:
        source = _single(argument, graph, asked)
        if source is not None and len(arguments) > 1:
            raise DataError(f"'{argument}' is a stream by itself: give it alone, not with {len(arguments) - 1} more")
    if source is None:
        if not (asked.is_asked or _are_several(arguments, graph)):
            return None
        source = Files(expanded(arguments, graph), graph, asked.loader(graph))
    return source if asked.limit is None else AtMost(source, asked.limit)


def _are_several(arguments: Sequence[str], graph: Graph) -> bool:
    """Whether these files are more than one request takes."""
    return len(arguments) > len(graph.inputs) or any(is_pattern(argument, graph) for argument in arguments)


def _single(argument: str, graph: Graph, asked: StreamOptions) -> Source | None:
    """The stream that an argument is by itself; None for a file of a single request."""
    if argument == STDIN:
        return Frames(None, graph, asked.budget)
    name, path = (None, Path(argument)) if is_pattern(argument, graph) else parse_argument(argument, graph)
    if name is not None and (path.is_fifo() or path.is_dir()):
        raise DataError(f"'{path}' gives all inputs of a request: leave the name '{name}' away")
    if path.is_fifo():
        return Frames(path, graph, asked.budget)
    if path.is_dir():
        return Folder(path, asked.loader(graph))
    is_stack = path.exists() and path.suffix.lower() in HDF5_SUFFIXES
    return stacked(argument, graph, asked.budget) if is_stack else None


def normalisations(arguments: Sequence[str], graph: Graph, asked: StreamOptions) -> dict[str, Normalisation]:
    """How the pixels of all pictures become numbers, by input; empty unless each is for a float32 input.

    Every request must give the same inputs as pictures: what comes later through a pipe or a folder may be anything. Of
    files that are of no use nothing is said, for whoever reads them says that.
    """
    with suppress(DataError):
        first, *others = [picture_inputs(words, graph) for words in _words_by_request(arguments, graph, asked)] or [{}]
        values = {name: graph.value(name) for name in first}
        if all(first.keys() == other.keys() for other in others) and {v.dtype for v in values.values()} == {"float32"}:
            return {name: normalisation(first[name], values[name], asked.mean, asked.scale) for name in first}
    return {}


def _words_by_request(arguments: Sequence[str], graph: Graph, asked: StreamOptions) -> list[Sequence[str]]:
    """The arguments of every request; none where they are not known at once."""
    if not arguments or any(_comes_later(argument, graph) for argument in arguments):
        return []
    if asked.is_asked or _are_several(arguments, graph):
        return [[word] for word in expanded(arguments, graph)]
    return [arguments]


def _comes_later(argument: str, graph: Graph) -> bool:
    path = Path(argument)
    return argument == STDIN or path.is_fifo() or path.is_dir()


def offered_shapes(
    arguments: Sequence[str], declared: Mapping[str, Axes | None], *, is_stream: bool = False
) -> list[tuple[str, Shape, str, bool]]:
    """(input, shape, file, whether that is firm) of what files hold; those of a stream, of its first request.

    A picture's shape is not firm: it is resized to any other. Nothing is said of what comes through pipes. The axes
    are `declared` of all inputs, in the model's order. Raises DataError when a file cannot be read.
    """
    graph = Graph("", (), {}, tuple(declared), ())
    files = _of_one_request(arguments, graph, is_stream)
    sources = [source for argument in files for source in _described(argument, graph)]
    named = {source.name for source in sources}
    left = iter([name for name in declared if name not in named])
    taken = ((source.name or next(left, None), source) for source in sources)
    return [(name, *_shape(source, declared[name])) for name, source in taken if name and name in declared]


def _of_one_request(arguments: Sequence[str], graph: Graph, is_stream: bool) -> list[str]:
    """The arguments that stand for a single request's files."""
    if len(arguments) == 1:
        path = Path(arguments[0])
        if arguments[0] == STDIN or path.is_fifo():
            return []
        if path.is_dir():  # its oldest file, if there is one yet
            return [str(path / name) for name, _ in in_turn(present(path))[:1]]
    if is_stream or _are_several(arguments, graph):
        return list(expanded(arguments, graph)[:1])
    return list(arguments)


def _described(argument: str, graph: Graph) -> list[InputSource]:
    """What an argument's file holds; of a file that cannot be an input nothing, for whoever reads it says that."""
    name, path = parse_argument(argument, graph)
    check_readable(path)
    sources = sources_in(path, graph) if path.suffix.lower() in INPUT_SUFFIXES else []
    if name is None or not sources:
        return sources
    named = next((source for source in sources if source.name == name), sources[0])
    return [replace(named, name=name)]


def _shape(source: InputSource, axes: Axes | None) -> tuple[Shape, str, bool]:
    """An array's shape, one axis less where it counts requests; or the shape that a picture has by itself."""
    path = source.path
    if source.offer is None:
        return picture_shape(path, axes), str(path), False
    shape = source.offer.shape
    if path.suffix.lower() in HDF5_SUFFIXES and axes is not None and len(shape) == len(axes) + 1:
        shape = shape[1:]
    return shape, str(path), True
