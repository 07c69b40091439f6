"""Giving every rank its slices of the weights: from its own disk where it has them, from the root once where not.

A slice that several ranks lack goes along a chain, in pieces, so that the root's port carries it once::

    root --piece 3--> rank 1 --piece 2--> rank 3 --piece 1--> ...

Slices end up as files of raw bytes in each rank's cache, keyed by content; onnxruntime maps them from there. A rank
holds in memory one slice at a time that it receives, and the root no more than the pieces on their way.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import ModelError
from ..core.graph import PACKED_BITS
from ..core.region import Region
from ..files.cache import Cache
from ..model import Model
from ..model.shard import Slice, WeightFiles
from ..model.weights import byte_length
from .transport import PIECE_BYTES, Control

KIND = "weights"


@dataclass(frozen=True, slots=True)
class WeightTraffic:
    """Bytes of weights one rank sent on, received, and found in its cache."""

    sent_bytes: int = 0
    received_bytes: int = 0
    cached_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """A region of a constant, with the cache key of its content and its size as a file."""

    constant: str
    region: Region
    key: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Link:
    """One rank's place in the chain of a part: who it comes from and who it goes to, None at the ends."""

    part: _Part
    source: int | None
    target: int | None
    is_needed: bool


def distribute(
    transport: Control, model: Model, needed: Iterable[Slice], cache: Cache
) -> tuple[WeightFiles, WeightTraffic]:
    """Files of every slice in `needed`, whose data is not in the model's skeleton; called by all ranks together.

    Parameters
    ----------
    transport : Control
    model : Model
        With its store on one rank, the root of the distribution.
    needed : iterable of (constant, region)
        What this rank's program reads; a region of None is the whole constant.
    cache : Cache
        This rank's own; what it has is not sent.

    Raises
    ------
    ModelError
        When no rank has the store, or the root cannot read it.
    """
    parts = {piece: _part(model, *piece) for piece in needed if model.is_stored(piece[0])}
    wanted = {part.key: part for part in parts.values()}
    paths = {key: path for key, part in wanted.items() if (path := _cached(cache, part))}
    missing = [part for key, part in wanted.items() if key not in paths]
    sent, received = 0, 0
    links = _links(transport, model, missing)
    _check_read(model, links)
    for link in links:
        path = _carry(transport, model, link, cache)
        sent += link.part.nbytes if link.target is not None else 0
        if path is not None:
            paths[link.part.key] = path
            received += link.part.nbytes if link.source is not None else 0
    transport.barrier()  # a rank that goes on to other work leaves no piece of the chain waiting
    folder = _into_one_folder(paths, cache)
    cached = sum(wanted[key].nbytes for key in wanted) - sum(part.nbytes for part in missing)
    names = {piece: paths[part.key].name for piece, part in parts.items()}
    return WeightFiles(folder, names), WeightTraffic(sent, received, cached)


def _part(model: Model, constant: str, region: Region | None) -> _Part:
    shape = model.graph.value(constant).shape
    assert shape is not None, "weights have a shape"
    region = Region.full(shape) if region is None else region
    nbytes = byte_length(model.element_type(constant), region.shape)
    assert nbytes is not None, "strings stay in the skeleton"
    content = f"{model.weight_digest(constant)} {region}"
    return _Part(constant, region, hashlib.blake2b(content.encode(), digest_size=16).hexdigest(), nbytes)


def _cached(cache: Cache, part: _Part) -> Path | None:
    """The file of a part in the cache."""
    path = cache.find(KIND, part.key)
    return path if path is not None and path.is_file() else None


def _links(transport: Control, model: Model, missing: Sequence[_Part]) -> list[_Link]:
    """This rank's place in every chain, in an order that is the same on all ranks: so no two wait for each other."""
    requests: list[tuple[bool, Sequence[_Part]]] = transport.all_gather((model.store is not None, missing))
    needers: dict[_Part, list[int]] = {}
    for rank, (_, parts) in enumerate(requests):
        for part in parts:
            needers.setdefault(part, []).append(rank)
    root = next((rank for rank, (has_store, _) in enumerate(requests) if has_store), None)
    if root is None and needers:
        raise ModelError(f"no rank has the weights of model '{model.name}': load it on one rank before distributing")
    return [_link(part, ranks, root or 0, transport.rank) for part, ranks in needers.items()]


def _check_read(model: Model, links: Sequence[_Link]) -> None:
    """Check, before it is cut up, what the root reads for itself or others: nobody could tell afterwards."""
    read = {link.part.constant for link in links if link.source is None and (link.is_needed or link.target is not None)}
    for constant in sorted(read):
        assert model.store is not None, "only the root reads"
        model.store.check(constant, model.weight_digest(constant))


def _link(part: _Part, needers: Sequence[int], root: int, rank: int) -> _Link:
    chain = [root, *(needer for needer in needers if needer != root)]
    if rank not in chain:
        return _Link(part, None, None, is_needed=False)
    index = chain.index(rank)
    source = chain[index - 1] if index > 0 else None
    target = chain[index + 1] if index + 1 < len(chain) else None
    return _Link(part, source, target, is_needed=rank in needers)


def _carry(transport: Control, model: Model, link: _Link, cache: Cache) -> Path | None:
    """Do this rank's part for one chain; the file when this rank needs it.

    The cache may call for the bytes twice, when its folder turns out to be full, but they arrive only once: what is
    received is held until it is stored, what the root reads can be read again.
    """
    if link.source is not None:
        slice_bytes = np.empty(link.part.nbytes, np.uint8)
        _pass_on(transport, link, slice_bytes)
        return cache.store(KIND, link.part.key, _writer(lambda: (slice_bytes,)))
    if link.target is not None:
        for data in _read(model, link.part):
            transport.send(data, link.target)
    return cache.store(KIND, link.part.key, _writer(lambda: _read(model, link.part))) if link.is_needed else None


def _pass_on(transport: Control, link: _Link, memory: np.ndarray) -> None:
    """Fill `memory` from the rank before in the chain, and send each piece to the rank after."""
    assert link.source is not None, "the head of a chain reads"
    offset = 0
    for run in _runs(link.part):
        data = memory[offset : offset + _run_bytes(link.part, run)]
        transport.receive(data, link.source)
        if link.target is not None:
            transport.send(data, link.target)
        offset += data.size


def _read(model: Model, part: _Part) -> Iterator[np.ndarray]:
    """The raw bytes of a part, run by run, from the root's store."""
    assert model.store is not None, "only the root reads"
    bits = PACKED_BITS.get(model.graph.value(part.constant).dtype)
    for run in _runs(part):
        array = model.store.read(part.constant, run)
        yield array.reshape(-1).view(np.uint8) if bits is None else _packed(array, bits)


def _packed(array: np.ndarray, bits: int) -> np.ndarray:
    """Elements of less than a byte, several in a byte, the first in the lowest bits."""
    per_byte = 8 // bits
    elements = array.reshape(-1).view(np.uint8) & (2**bits - 1)
    rows = np.pad(elements, (0, -elements.size % per_byte)).reshape(-1, per_byte)
    return np.bitwise_or.reduce(rows << (bits * np.arange(per_byte, dtype=np.uint8)), axis=1).astype(np.uint8)


def _writer(read: Callable[[], Iterable[np.ndarray]]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            for data in read():
                file.write(data.data)

    return write


def _runs(part: _Part) -> Iterator[Region]:
    """The region cut into boxes that follow each other in its row-major bytes, none much over `PIECE_BYTES`."""
    if part.nbytes < part.region.size:  # elements share bytes
        return iter((part.region,))
    return runs(part.region, PIECE_BYTES * part.region.size // max(1, part.nbytes))


def _run_bytes(part: _Part, run: Region) -> int:
    return part.nbytes * run.size // max(1, part.region.size)


def runs(region: Region, limit: int) -> Iterator[Region]:
    """Consecutive boxes in row-major order that make up a region, each of at most `limit` elements.

    >>> [str(run) for run in runs(Region(((0, 2), (1, 6))), limit=3)]
    ['[0:1, 1:4]', '[0:1, 4:6]', '[1:2, 1:4]', '[1:2, 4:6]']
    """
    axis = next((axis for axis, extent in enumerate(region.shape) if extent > 1), None)
    if region.size <= limit or axis is None:
        yield region
        return
    lo, hi = region.bounds[axis]
    step = max(1, limit * (hi - lo) // region.size)
    for begin in range(lo, hi, step):
        yield from runs(region.with_axis(axis, (begin, min(begin + step, hi))), limit)


def _into_one_folder(paths: dict[str, Path], cache: Cache) -> Path:
    """The folder of all files. When the cache had to move elsewhere midway, the earlier files follow it."""
    folder = list(paths.values())[-1].parent if paths else Path()
    for key, path in paths.items():
        if path.parent != folder:
            paths[key] = cache.store(KIND, key, lambda copy, path=path: _copy(path, copy))  # type: ignore[misc]
    return folder


def _copy(path: Path, copy: Path) -> None:
    shutil.copyfile(path, copy)
