"""The inputs of a request, from files or made up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.budget import Budget
from ..core.document import printable
from ..core.errors import DataError
from ..core.graph import Graph, Value
from . import HDF5_SUFFIXES, INPUT_SUFFIXES
from .hdf5 import hdf5_offers
from .images import Numbers, read_image
from .npz import UNNAMED, npy_offer, npz_offers
from .offers import Offer, check_readable
from .synthetic import random_inputs

_ARCHIVES: dict[str, Callable[[Path], dict[str, Offer]]] = {
    ".npz": npz_offers,
    **dict.fromkeys(HDF5_SUFFIXES, hdf5_offers),
}
"""Formats that hold several arrays by name."""

_SAID = 8
"""A sentence lists no more names."""


@dataclass(frozen=True, slots=True)
class InputSource:
    """Where one input comes from."""

    path: Path
    name: str | None
    offer: Offer | None  # none of a picture, which needs to know its input first

    def __str__(self) -> str:
        return f"'{self.path}'"


def load_inputs(
    files: Sequence[str],
    graph: Graph,
    *,
    mean: Numbers = None,
    scale: Numbers = None,
    seed: int = 0,
    budget: Budget | None = None,
) -> dict[str, np.ndarray]:
    """One array per input of the graph, by name, in the graph's order.

    Parameters
    ----------
    files : sequence of str
        ``FILE`` or ``NAME=FILE``. Names come from before the ``=``, or from inside ``.npz`` and HDF5 files; what has
        none (``.npy``, pictures, the only array of a ``.npz`` saved without a name) goes to the inputs that are
        left, in order. Without any file the inputs are random.
    mean, scale : numbers, one or one per channel
        A picture becomes ``(pixel - mean) * scale``, pixels being 0 to 255; defaults 0 and 1/255.
    seed : int
        Of the random inputs.
    budget : Budget, optional
        Of each array and picture; that of this machine where there is none.

    Raises
    ------
    DataError
        When a file cannot be read, an input is missing, named twice or unknown, or an array does not fit.
    """
    if not files:
        return random_inputs(graph, seed)
    sources = [source for argument in files for source in _open(argument, graph)]
    return _fitted(sources, graph, budget, mean, scale)


def picture_inputs(files: Sequence[str], graph: Graph) -> dict[str, Path]:
    """The inputs that files ``[NAME=]FILE`` of a request give as pictures, each with its file.

    Raises DataError as of :func:`load_inputs`.
    """
    by_name = _by_name([source for argument in files for source in _open(argument, graph)], graph)
    return {name: by_name[name].path for name in graph.inputs if by_name[name].offer is None}


def fit_inputs(
    offers: Mapping[str, Offer], graph: Graph, where: Path, budget: Budget | None = None
) -> dict[str, np.ndarray]:
    """Read offered arrays as the inputs of the graph; a single offer under `UNNAMED` counts as one without a name.

    Raises DataError as of :func:`load_inputs`; the sentence calls what they come from `where`.
    """
    return _fitted(_sources(offers, where, graph), graph, budget)


def _fitted(
    sources: Sequence[InputSource],
    graph: Graph,
    budget: Budget | None,
    mean: Numbers = None,
    scale: Numbers = None,
) -> dict[str, np.ndarray]:
    by_name = _by_name(sources, graph)
    budget = budget or Budget.of_machine()

    def load(source: InputSource, value: Value) -> np.ndarray:
        if source.offer is None:
            return read_image(source.path, value, mean, scale, budget)
        return source.offer.fitted(value, str(source), budget)

    return {name: load(by_name[name], graph.value(name)) for name in graph.inputs}


def _open(argument: str, graph: Graph) -> list[InputSource]:
    """The sources that one argument stands for: of a name the array that has it, or the only one."""
    name, path = parse_argument(argument, graph)
    sources = sources_in(path, graph)
    if name is None:
        return sources
    known = {source.name: source for source in sources}
    if name not in known and len(sources) != 1:
        raise DataError(
            f"'{path}' holds {_quoted(each for each in known if each is not None)}, none of them named '{name}'"
        )
    return [replace(known.get(name, sources[0]), name=name)]


def sources_in(path: Path, graph: Graph) -> list[InputSource]:
    """What a file holds, unread, each under the name that it has there."""
    suffix = path.suffix.lower()
    check_readable(path)
    if suffix not in INPUT_SUFFIXES:
        raise DataError(f"input file '{path}' has the ending '{suffix}': choose one of {', '.join(INPUT_SUFFIXES)}")
    if suffix not in _ARCHIVES:
        return [InputSource(path, None, npy_offer(path) if suffix == ".npy" else None)]
    return _sources(_ARCHIVES[suffix](path), path, graph)


def _sources(offers: Mapping[str, Offer], path: Path, graph: Graph) -> list[InputSource]:
    """Offers by name; a single one that was stored without a name has none."""
    if list(offers) == [UNNAMED] and UNNAMED not in graph.inputs:
        return [InputSource(path, None, offers[UNNAMED])]
    return [InputSource(path, name, offer) for name, offer in offers.items()]


def parse_argument(argument: str, graph: Graph) -> tuple[str | None, Path]:
    """(name or None, path) of ``NAME=FILE`` or ``FILE``; raises DataError when the name is no input of the graph."""
    named = [name for name in graph.inputs if argument.startswith(f"{name}=")]
    if named:
        name = max(named, key=len)
        return name, Path(argument[len(name) + 1 :])
    name, equals, _ = argument.partition("=")
    if equals and not os.path.exists(argument):
        raise DataError(f"input '{argument}' names '{name}', and the model has {_quoted(graph.inputs)}")
    return None, Path(argument)


def _by_name(sources: Sequence[InputSource], graph: Graph) -> dict[str, InputSource]:
    """One source for each input of the graph, or an error that names those that are missing or too many."""
    given: dict[str, InputSource] = {}
    unnamed = [source for source in sources if source.name is None]
    for source in sources:
        if source.name is None:
            continue
        if source.name not in graph.inputs:
            raise DataError(f"{source} holds '{printable(source.name, 80)}', and the model has {_quoted(graph.inputs)}")
        if source.name in given:
            raise DataError(f"input '{source.name}' is given twice, by {given[source.name]} and by {source}")
        given[source.name] = source
    left = [name for name in graph.inputs if name not in given]
    if len(unnamed) > len(left):
        raise DataError(f"{unnamed[len(left)]} is one input too many: the model has {_quoted(graph.inputs)}")
    given |= dict(zip(left, unnamed, strict=False))
    if len(unnamed) < len(left):
        raise DataError(f"no file gives {_quoted(left[len(unnamed) :])}: give every input, or none for random ones")
    return given


def _quoted(names: Iterable[str]) -> str:
    """Names for a sentence."""
    names = [f"'{printable(name, 80)}'" for name in names]
    return ", ".join(names if len(names) <= _SAID else [*names[:_SAID], f"and {len(names) - _SAID} more"]) or "nothing"
