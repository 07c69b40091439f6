"""The shapes of inputs as their files say at once, without the data: what a model's open axes are to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..core.graph import Graph
from .files import check_readable
from .images import picture_size
from .inputs import SUFFIXES, parse_argument
from .npz import UNNAMED, npy_offer, npz_offers
from .requests import STDIN
from .requests.files import expanded, in_turn, is_pattern, present
from .stacks import Stack

Shape = tuple[int, ...]
Declared = Mapping[str, tuple[int | str | None, ...] | None]
"""The axes of inputs as the model has them: a size, a symbol, or nothing."""

_STACKS = (".h5", ".hdf5")


def offered_shapes(
    arguments: Sequence[str], declared: Declared, *, is_stream: bool = False
) -> list[tuple[str, Shape, str, bool]]:
    """What files say of the shapes of inputs: of a stream, those of its first request.

    Parameters
    ----------
    arguments : sequence of str
        As of :func:`flexpie_mpi.files.inputs.load_inputs`, or those of a stream.
    declared : mapping of str to axes
        Of all inputs, in the model's order.
    is_stream : bool
        Whether a stream is asked for even if the files would do as a single request.

    Returns
    -------
    list of (input, shape, file, whether that is firm)
        A picture's shape is not firm: it is resized to any other. Nothing of what comes through pipes.

    Raises
    ------
    DataError
        When a file cannot be read.
    """
    graph = Graph("", (), {}, tuple(declared), ())
    found: list[tuple[str | None, Shape | None, Path]] = []
    for argument in _of_one_request(arguments, graph, is_stream):
        found += _headers(argument, graph)
    named = {name for name, _, _ in found if name is not None}
    left = iter([name for name in declared if name not in named])
    offers = ((name or next(left, None), shape, path) for name, shape, path in found)
    return [_offer(name, shape, path, declared[name]) for name, shape, path in offers if name and name in declared]


def _of_one_request(arguments: Sequence[str], graph: Graph, is_stream: bool) -> list[str]:
    """The arguments that stand for a single request's files."""
    if len(arguments) == 1:
        path = Path(arguments[0])
        if arguments[0] == STDIN or path.is_fifo():
            return []
        if path.is_dir():
            return _oldest(path)
    has_pattern = any(is_pattern(argument, graph) for argument in arguments)
    if has_pattern or len(arguments) > len(graph.inputs) or is_stream:
        return list(expanded(arguments, graph)[:1])
    return list(arguments)


def _oldest(folder: Path) -> list[str]:
    """The file of a watched folder that comes first, if there is one yet."""
    return [str(folder / name) for name, _ in in_turn(present(folder))[:1]]


def _headers(argument: str, graph: Graph) -> list[tuple[str | None, Shape | None, Path]]:
    """(name, shape, file) of every array in a file; no shape of a picture."""
    name, path = parse_argument(argument, graph)
    check_readable(path)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", *_STACKS):
        return [(name, None, path)] if suffix in SUFFIXES else []
    shapes = dict(_shapes(path, suffix))
    if name is not None:
        return [(name, shapes.get(name, next(iter(shapes.values()))), path)] if shapes else []
    if list(shapes) == [UNNAMED] and UNNAMED not in graph.inputs:
        return [(None, shapes[UNNAMED], path)]
    return [(found, shape, path) for found, shape in shapes.items()]


def _shapes(path: Path, suffix: str) -> Iterator[tuple[str, Shape]]:
    if suffix in _STACKS:
        with Stack(path) as stack:
            yield from stack.shapes.items()
        return
    offers = npz_offers(path) if suffix == ".npz" else {UNNAMED: npy_offer(path)}
    yield from ((name, offer.shape) for name, offer in offers.items())


def _offer(
    name: str, shape: Shape | None, path: Path, dims: tuple[int | str | None, ...] | None
) -> tuple[str, Shape, str, bool]:
    """An array's shape, one axis less where it counts requests; or the shape that a picture has by itself."""
    if shape is None:
        return name, _picture_shape(path, dims), str(path), False
    if path.suffix.lower() in _STACKS and dims is not None and len(shape) == len(dims) + 1:
        shape = shape[1:]
    return name, shape, str(path), True


def _picture_shape(path: Path, dims: tuple[int | str | None, ...] | None) -> Shape:
    """A picture as an input with these axes would have it: ``(1, C, H, W)`` or ``(1, H, W, C)``, or without the 1."""
    height, width, channels = picture_size(path)
    inner = dims[-3:] if dims is not None and len(dims) in (3, 4) else (None,) * 3
    front = (1,) if dims is None or len(dims) == 4 else ()
    if inner[2] in (1, 3, 4) and inner[0] not in (1, 3, 4):
        return (*front, height, width, channels)
    return (*front, channels, height, width)
