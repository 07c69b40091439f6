"""The inputs of a request, from files or made up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..graph import Graph, Value
from . import images
from .conform import conform
from .files import check_readable
from .hdf5 import read_hdf5
from .images import Normalisation, Numbers, read_image
from .npz import UNNAMED, read_npy, read_npz
from .synthetic import random_inputs

_ARCHIVES: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npz": read_npz,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
}
"""Formats that hold several arrays by name."""

SUFFIXES = (".npy", *_ARCHIVES, *images.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Source:
    """Where one input comes from. The array is None for a picture: it needs to know its input first."""

    path: Path
    name: str | None
    array: np.ndarray | None

    def __str__(self) -> str:
        return f"'{self.path}'"


def load_inputs(
    files: Sequence[str],
    graph: Graph,
    *,
    mean: Numbers = None,
    scale: Numbers = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """One array per input of the graph, by name, in the graph's order.

    Parameters
    ----------
    files : sequence of str
        ``FILE`` or ``NAME=FILE``. Names come from before the ``=``, or from inside ``.npz`` and HDF5 files; what has
        none (``.npy``, pictures, the only array of a ``.npz`` saved without a name) goes to the inputs that are
        left, in order. Without any file the inputs are random.
    graph : Graph
    mean, scale : numbers, one or one per channel
        A picture becomes ``(pixel - mean) * scale``, pixels being 0 to 255; defaults 0 and 1/255.
    seed : int
        Of the random inputs.

    Raises
    ------
    DataError
        When a file cannot be read, an input is missing, named twice or unknown, or an array does not fit.
    """
    if not files:
        return random_inputs(graph, seed)
    return _fitted([source for argument in files for source in _open(argument, graph)], graph, mean, scale)


def fit_inputs(arrays: Mapping[str, np.ndarray], graph: Graph, where: Path) -> dict[str, np.ndarray]:
    """Arrays that are there already as one per input of the graph; a single one under `UNNAMED` has no name.

    Raises
    ------
    DataError
        As of :func:`load_inputs`; the sentence calls what they come from `where`.
    """
    return _fitted(_sources(arrays, where, graph), graph)


def _fitted(
    sources: Sequence[Source], graph: Graph, mean: Numbers = None, scale: Numbers = None
) -> dict[str, np.ndarray]:
    found = _by_name(sources, graph)
    normalisation = Normalisation.of(mean, scale)
    return {name: _load(found[name], graph.value(name), normalisation) for name in graph.inputs}


def _load(source: Source, value: Value, normalisation: Normalisation) -> np.ndarray:
    if source.array is None:
        return read_image(source.path, value, normalisation)
    return conform(source.array, value, str(source))


def _open(argument: str, graph: Graph) -> list[Source]:
    """The sources that one argument stands for, pictures unread."""
    name, path = parse_argument(argument, graph)
    suffix = path.suffix.lower()
    check_readable(path)
    if suffix not in SUFFIXES:
        raise DataError(f"input file '{path}' has the ending '{suffix}': choose one of {', '.join(SUFFIXES)}")
    if suffix not in _ARCHIVES:
        return [Source(path, name, read_npy(path) if suffix == ".npy" else None)]
    arrays = _ARCHIVES[suffix](path)
    if name is not None:
        return [Source(path, name, _pick(name, arrays, path))]
    return _sources(arrays, path, graph)


def _sources(arrays: Mapping[str, np.ndarray], path: Path, graph: Graph) -> list[Source]:
    if list(arrays) == [UNNAMED] and UNNAMED not in graph.inputs:
        return [Source(path, None, arrays[UNNAMED])]
    return [Source(path, found, array) for found, array in arrays.items()]


def parse_argument(argument: str, graph: Graph) -> tuple[str | None, Path]:
    """(name or None, path) of ``NAME=FILE`` or ``FILE``.

    Raises
    ------
    DataError
        When the name is no input of the graph.
    """
    named = [name for name in graph.inputs if argument.startswith(f"{name}=")]
    if named:
        name = max(named, key=len)
        return name, Path(argument[len(name) + 1 :])
    name, equals, _ = argument.partition("=")
    if equals and not os.path.exists(argument):
        raise DataError(f"input '{argument}' names '{name}', and the model has {_quoted(graph.inputs)}")
    return None, Path(argument)


def _pick(name: str, arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """The array meant by ``NAME=FILE``: the one of that name, or the only one."""
    if name in arrays or len(arrays) == 1:
        return arrays.get(name, next(iter(arrays.values())))
    raise DataError(f"'{path}' holds {_quoted(arrays)}, none of them named '{name}'")


def _by_name(sources: Iterable[Source], graph: Graph) -> dict[str, Source]:
    """One source for each input of the graph, or an error that names those that are missing or too many."""
    sources = list(sources)
    found: dict[str, Source] = {}
    for source in sources:
        if source.name is None:
            continue
        if source.name not in graph.inputs:
            raise DataError(f"{source} holds '{source.name}', and the model has {_quoted(graph.inputs)}")
        if source.name in found:
            raise DataError(f"input '{source.name}' is given twice, by {found[source.name]} and by {source}")
        found[source.name] = source
    left = [name for name in graph.inputs if name not in found]
    unnamed = [source for source in sources if source.name is None]
    if len(unnamed) > len(left):
        raise DataError(f"{unnamed[len(left)]} is one input too many: the model has {_quoted(graph.inputs)}")
    found |= dict(zip(left, unnamed, strict=False))
    if len(unnamed) < len(left):
        raise DataError(f"no file gives {_quoted(left[len(unnamed) :])}: give every input, or none for random ones")
    return found


def _quoted(names: Iterable[str]) -> str:
    """Names for a sentence."""
    listed = ", ".join(f"'{name}'" for name in names)
    return listed or "nothing"
