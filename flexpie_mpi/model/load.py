"""From a file name to a Model."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnx

from ..cache import Cache
from ..errors import ModelError
from .inputs import Shape, bind_inputs
from .model import Model
from .preoptimise import VERSION as ONNXRUNTIME_VERSION
from .prepare import FORMAT, prepare, read_prepared
from .read import Source, read_source
from .tidy import drop_constant_inputs
from .weights import WeightStore
from .zoo import VERSION as ZOO_VERSION
from .zoo import materialise, names

BUILTIN = "builtin:"


def load(source: str, shapes: Mapping[str, Shape] = MappingProxyType({}), cache: Cache | None = None) -> Model:
    """Read a model, fold its constants, and make its shapes static.

    The result is kept in the cache under the content of the files, so that the next start only reads it.

    Parameters
    ----------
    source : str
        Path of an .onnx file (with or without external data), or ``builtin:NAME``.
    shapes : mapping of str to tuple of int
        Shapes of inputs whose axes are symbolic. A symbolic first axis needs none: it becomes 1.
    cache : Cache, optional
        The user's cache when not given.

    Raises
    ------
    ModelError
        The file is no model that the installed onnxruntime accepts, or an input has no static shape.
    """
    cache = cache or Cache.default()
    path = _builtin(source.removeprefix(BUILTIN), cache) if source.startswith(BUILTIN) else Path(source)
    original = read_source(path)
    drop_constant_inputs(original.proto)
    bind_inputs(original.proto.graph, shapes)
    key = _key(original)
    try:
        folder = cache.find("model", key) or cache.store("model", key, lambda target: prepare(original, target))
    except ModelError as error:
        raise ModelError(f"Model {path} cannot be used: {error}") from error
    proto, stored = read_prepared(folder, original)
    proto.graph.name = path.stem
    return Model.from_proto(proto, WeightStore(stored, cache))


def _builtin(name: str, cache: Cache) -> Path:
    """The file of a built-in model, written at first use."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean '{close[0]}'?" if close else "choose one of the list."
        raise ModelError(f"There is no built-in model '{name}' (there are {', '.join(names())}): {hint}")

    def write(folder: Path) -> None:
        folder.mkdir()
        materialise(name, folder)

    key = f"{name}-{ZOO_VERSION}"
    folder = cache.find("builtin", key) or cache.store("builtin", key, write)
    return next(folder.glob("*.onnx"))


def _key(source: Source) -> str:
    """Digest of everything that the prepared model follows from."""
    state = hashlib.blake2b(digest_size=16)
    state.update(f"{FORMAT} {ONNXRUNTIME_VERSION} {onnx.__version__} ".encode())
    state.update(source.proto.SerializeToString(deterministic=True))
    return state.hexdigest()
