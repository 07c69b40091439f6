"""From a file name to a Model."""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from types import MappingProxyType
from typing import TypeVar

import onnx

from ..core.budget import Budget
from ..core.choices import NO_STATES, StateChoice
from ..core.errors import ModelError
from ..core.graph import Growth, State
from ..files.cache import Cache
from .canonicalise import drop_constant_inputs
from .counted import take_positions
from .growth import check_growth
from .inputs import Asked, Shape, Shapes, bind_axes, bind_inputs
from .model import Model, convert
from .outputs import select_outputs
from .prepare import FORMAT, read_prepared
from .read import read_source, spooled
from .sandbox import prepare_apart
from .session import VERSION as ONNXRUNTIME_VERSION
from .states import declare, find, make_room
from .weights import Source, StoredTensor, WeightStore
from .zoo import VERSION as ZOO_VERSION
from .zoo import materialise, names

log = logging.getLogger(__name__)

BUILTIN = "builtin:"

T = TypeVar("T")


def load(
    source: str,
    shapes: Shapes = MappingProxyType({}),
    cache: Cache | None = None,
    batch: int = 1,
    budget: Budget | None = None,
    states: StateChoice = NO_STATES,
) -> Model:
    """Read a model, fold its constants, and make its shapes static.

    The result is kept in the cache under the content of the files, so that the next start only reads it.

    Parameters
    ----------
    source : str
        Path of an .onnx file (with or without external data) or of a pipe, or ``builtin:NAME``.
    shapes : mapping of str to tuple of int, or Asked
        Shapes of inputs whose axes are symbolic, or one size of such an axis by its symbol; or these, what given files
        say of others, and the outputs that are wanted. A symbolic first axis needs none: it becomes `batch`.
    cache : Cache, optional
        The user's cache when not given.
    batch : int
        Size of a symbolic first axis.
    budget : Budget, optional
        How much memory any value of the model may take; that of this machine when not given.
    states : StateChoice
        Which outputs are what the next request reads.

    Raises
    ------
    ModelError
        The file is no model that the installed onnxruntime accepts, an input has no static shape, none can have the
        batch, there is no output that is wanted, or no room for what is prepared.
    """
    cache, budget = cache or Cache.default(), budget or Budget.of_machine()
    path, original = _read(source, cache, budget)
    drop_constant_inputs(original.proto)
    asked = bind_axes(original.proto.graph, shapes if isinstance(shapes, Asked) else Asked(shapes))
    given = {"", *(value.name for value in original.proto.graph.input)}
    kept, growth = _found(original.proto, states, asked.shapes)
    bind_inputs(original.proto, asked, batch)
    if asked.outputs is not None:
        select_outputs(original.proto, [*asked.outputs, *(state.output for state in kept if state.output)])
    is_told = growth is not None and growth.places not in given  # what the file knows nothing of
    try:
        proto, stored = _prepared(original, None if is_told else path, cache, budget)
    except ModelError as error:
        raise ModelError(f"Model {path} cannot be used: {error}") from error
    except OSError as error:
        raise ModelError(
            f"Model {path} cannot be prepared: {error.strerror or error}; make room in {gettempdir()}."
        ) from error
    proto.graph.name = _title(path if source.startswith(BUILTIN) else Path(source))
    if kept:
        declare(proto, convert(proto), kept, growth)
    model = Model.from_proto(proto, WeightStore(stored, cache), path)
    if growth is not None:
        _check_growth(model, _key(original), cache, budget)
    return model


def _found(
    proto: onnx.ModelProto, choice: StateChoice, shapes: Mapping[str, Shape]
) -> tuple[tuple[State, ...], Growth | None]:
    """The states of a model that are asked for, and how they grow; those that do get room for that."""
    if not choice.is_made:
        return (), None
    found = find(proto.graph, choice.patterns)
    if choice.most is None:
        return found, None
    grown, growth = make_room(proto.graph, found, choice.most, shapes)
    if not growth.places:
        places = take_positions(proto, {state.input for state in grown if state.axis >= 0}, growth.step)
        growth = replace(growth, places=places)
    return grown, growth


def _check_growth(model: Model, key: str, cache: Cache, budget: Budget) -> None:
    """Compare a model that has room with its file, once for all starts."""
    assert model.source is not None, "this rank has loaded it"
    if model.graph.weight_bytes > budget.nbytes:
        log.warning("that states grow as in the model's file is not checked: its weights would be in memory once more")
        return
    key = f"{key}-{hashlib.blake2b(repr(model.graph.states).encode(), digest_size=8).hexdigest()}"
    if cache.find("growth", key) is None:
        check_growth(model)
        cache.store("growth", key, lambda path: path.touch())


def _title(path: Path) -> str:
    """The name of a model's file as text, whatever its bytes are."""
    return os.fsencode(path.stem).decode("utf-8", "backslashreplace")


def _read(source: str, cache: Cache, budget: Budget) -> tuple[Path, Source]:
    """The file of a model and what it holds."""
    if source.startswith(BUILTIN):
        return _read_builtin(source.removeprefix(BUILTIN), cache)
    path = spooled(Path(source))
    return path, read_source(path, budget=budget)


def _read_builtin(name: str, cache: Cache) -> tuple[Path, Source]:
    if name not in names():
        close = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean '{close[0]}'?" if close else "choose one of the list."
        raise ModelError(f"There is no built-in model '{name}' (there are {', '.join(names())}): {hint}")

    def write(folder: Path) -> None:
        folder.mkdir()
        try:
            materialise(name, folder)
        except ModelError as error:
            if isinstance(error.__cause__, OSError):  # a full folder: the cache knows another
                raise error.__cause__ from error
            raise

    def read(folder: Path) -> tuple[Path, Source]:
        path = folder / f"{name}.onnx"
        return path, read_source(path)

    return _cached(cache, "builtin", f"{name}-{ZOO_VERSION}", write, read, f"the built-in model '{name}' is written")


def _prepared(
    original: Source, path: Path | None, cache: Cache, budget: Budget
) -> tuple[onnx.ModelProto, dict[str, StoredTensor]]:
    """What :func:`.prepare.prepare` made of a model."""

    def write(folder: Path) -> None:
        prepare_apart(original, path, folder, budget)

    def read(folder: Path) -> tuple[onnx.ModelProto, dict[str, StoredTensor]]:
        return read_prepared(folder, original)

    return _cached(cache, "model", _key(original), write, read, "the model is prepared")


def _cached(
    cache: Cache, kind: str, key: str, write: Callable[[Path], None], read: Callable[[Path], T], again: str
) -> T:
    """What `read` makes of an entry of the cache, which `write` makes at first use, and again when it is damaged."""
    folder = cache.find(kind, key, checks=False)  # `read` checks, but for weights: those are when they are handed out
    if folder is not None:
        try:
            return read(folder)
        except ModelError as error:
            log.warning("%s again: %s", again, error)
            cache.discard(kind, key)
    return read(cache.store(kind, key, write))


def content_digest(path: Path, budget: Budget | None = None) -> str:
    """Hex digest of a model's file and of the weights that it has in others.

    Raises ModelError as :func:`load` does, when the file is no model.
    """
    return _key(read_source(path, budget=budget))


def _key(source: Source) -> str:
    """Digest of everything that the prepared model follows from."""
    state = hashlib.blake2b(digest_size=16)
    state.update(f"{FORMAT} {ONNXRUNTIME_VERSION} {onnx.__version__} ".encode())
    state.update(source.proto.SerializeToString(deterministic=True))
    return state.hexdigest()
