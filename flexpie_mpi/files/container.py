"""HDF5 files of strangers: walked and judged before anything is read from them. A file reads itself only.

Datasets may lie in other files (external storage, virtual datasets), be reached through links to other files, be made
of values that were never written, or be packed by plug-ins. Nothing of that is opened: it is refused by name.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core.document import shown
from .journal import Journal

Read = Callable[[int, int], bytes]
"""Reads so many bytes of a file at an offset; fewer at its end."""

MOST_ITEMS, MOST_DEPTH = 10_000, 32
"""A file has no more groups and datasets, and they lie no deeper."""

_CHUNK_BYTES = 1 << 29
"""A chunk is unpacked as a whole, however little of it is wanted."""

_SCANNED_BYTES = 1 << 28
"""The first bytes of a file are searched for heaps: there is what is written first, attributes and small texts."""
_BLOCK_BYTES = 1 << 20
_FIRST, _FIRST_BYTES, _BASE, _END = b"\x89HDF\r\n\x1a\n\0", 48, slice(24, 32), slice(40, 48)
"""How a file of the oldest format begins, and where it says at which place it begins and ends: HDF5 goes no further."""
_HEAP, _HEAP_HEAD, _OBJECT_HEAD = b"GCOL\1", 16, 16
"""The first bytes of a heap; the number of bytes before its first object, and before the content of each object."""
_NAMES, _NAMES_HEAD = b"HEAP\0\0\0\0", 32
"""The first bytes of a heap of a group's names; the size of its head, which says how large it is, and where."""
_BLOCK_HEAD, _NO_BLOCK = 16, 1
"""The size of a free block's head, which names the next one; what stands there where no other follows."""
_NODE, _NODE_HEAD = b"TREE", 24
"""The first bytes of a node of a tree; the size of its head, which ends with the place of its right neighbour."""

_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF)
_PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING, h5py.h5t.COMPOUND)
"""Classes of types whose elements are bytes of the dataset; strings may also lie elsewhere in the file."""


class ContainerError(ValueError):
    """What is wrong with a file, without its name: whoever opened it knows that."""


def opened(path: str | Path | Journal, mode: str = "r", **options: Any) -> h5py.File:
    """A file that exists, open, after the check that what HDF5 follows from place to place has an end.

    A file whose writer was killed is opened in the last whole state that it left. `options` are those of
    :class:`h5py.File`. In a heap, where texts are, HDF5 goes from object to object by the size that each says it has,
    and where that is 0 it never arrives. In the heap of a group's names it goes from free block to free block, in the
    tree of a group or of chunks from node to neighbour, and takes more memory for each. Raises
    ContainerError when it is damaged; and what HDF5 raises.
    """
    journal = path if isinstance(path, Journal) else Journal.left_in(path)
    file = h5py.File(journal or path, mode, **options)
    try:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise ContainerError("its places and sizes are not of 8 bytes")
        if journal is not None:
            _check_ends(journal.pread, journal.seek(0, os.SEEK_END))
        else:
            descriptor = file.id.get_vfd_handle()  # its own: to close another one would give up a writer's lock
            _check_ends(partial(os.pread, descriptor), os.fstat(descriptor).st_size)
    except BaseException:
        file.close()
        raise
    return file


def _check_ends(read: Read, size: int) -> None:
    head = read(_FIRST_BYTES, 0)
    if head.startswith(_FIRST) and not any(head[_BASE]):  # behind its end is what a killed writer has left there
        size = min(size, int.from_bytes(head[_END], "little"))
    for offset in _places(read, size, _HEAP):
        _check_heap(read, size, offset)
    for offset in _places(read, size, _NAMES):
        _check_names(read, offset)
    heads = {offset: read(_NODE_HEAD, offset) for offset in _places(read, size, _NODE)}
    _check_neighbours({offset: int.from_bytes(head[16:24], "little") for offset, head in heads.items()})


def _places(read: Read, size: int, wanted: bytes) -> Iterator[int]:
    for first in range(0, min(_SCANNED_BYTES, size), _BLOCK_BYTES):
        block = read(min(_BLOCK_BYTES + len(wanted) - 1, size - first), first)
        offset = block.find(wanted)
        while offset >= 0:
            yield first + offset
            offset = block.find(wanted, offset + 1)


def _check_heap(read: Read, file_size: int, offset: int) -> None:
    head = read(_HEAP_HEAD, offset)
    end = offset + int.from_bytes(head[8:], "little")
    if end > file_size:  # no heap, or one that HDF5 cannot read
        return
    offset += _HEAP_HEAD
    while offset + _OBJECT_HEAD <= end:
        number, size = struct.unpack("<H6xQ", read(_OBJECT_HEAD, offset))
        step = _OBJECT_HEAD + -(-size // 8) * 8 if number else size
        if not 0 < step <= end - offset:
            raise ContainerError("a heap of its texts is damaged")
        offset += step


def _check_names(read: Read, offset: int) -> None:
    """Check that every free block of a group's heap names one that was not named before, or none."""
    head = read(_NAMES_HEAD, offset)
    if len(head) < _NAMES_HEAD:
        return
    size, block, data = struct.unpack("<QQQ", head[len(_NAMES) :])
    seen: set[int] = set()
    while block != _NO_BLOCK:
        if block in seen or block + _BLOCK_HEAD > size:
            raise ContainerError("a heap of its names is damaged")
        seen.add(block)
        head = read(_BLOCK_HEAD, data + block)
        block = int.from_bytes(head[:8], "little") if len(head) == _BLOCK_HEAD else _NO_BLOCK  # HDF5 cannot read it


def _check_neighbours(right_of: Mapping[int, int]) -> None:
    """Check that no node of a tree is its own neighbour, also through others; by the place of each."""
    judged: set[int] = set()
    for start in right_of:
        node, chain = start, set[int]()
        while node in right_of and node not in judged:
            if node in chain:
                raise ContainerError("the order of its names or chunks is damaged")
            chain.add(node)
            node = right_of[node]
        judged |= chain


def members(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The datasets of a file by their paths, in the order of the file, each judged.

    Raises ContainerError when one of them is no array that the file itself holds, or there are too many; and what HDF5
    raises.
    """
    datasets: dict[str, h5py.Dataset] = {}
    groups: list[tuple[str, tuple[int, ...]]] = [("", (_address(file["/"]),))]  # open groups would take more
    items = 0
    for prefix, way in groups:
        group = file[prefix or "/"]
        items += group.id.get_num_objs()
        if items > MOST_ITEMS or len(way) > MOST_DEPTH:
            raise ContainerError(f"it holds more than {MOST_ITEMS} things, or groups more than {MOST_DEPTH} deep")
        for name in group:
            key = f"{prefix}{name}"
            if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise ContainerError(f"{shown(key)} is a link, and links are not followed")
            item = group[name]
            if isinstance(item, h5py.Group):
                if _address(item) in way:
                    raise ContainerError(f"its group {shown(key)} lies inside of itself")
                groups.append((f"{key}/", (*way, _address(item))))
            elif isinstance(item, h5py.Dataset):
                check_dataset(item, key)
                datasets[key] = item
    return datasets


def _address(group: h5py.Group) -> int:
    """Where a group lies in its file."""
    return h5py.h5o.get_info(group.id).addr


def check_dataset(item: h5py.Dataset, key: str) -> None:
    """Check that a dataset is an array which the file itself holds; raises ContainerError."""
    plan = item.id.get_create_plist()
    layout = plan.get_layout()  # before all else: even to ask for a shape may open the files behind a virtual dataset
    where = f"dataset {shown(key)}"
    if layout == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise ContainerError(f"{where} lies in other files, and only the file itself is read")
    if any(plan.get_filter(number)[0] not in _FILTERS for number in range(plan.get_nfilters())):
        raise ContainerError(f"{where} is packed in a way that is not read; pack it with gzip, or not at all")
    _check_type(item.id.get_type(), where)
    chunk_bytes = prod(item.chunks or ()) * item.id.get_type().get_size()
    if chunk_bytes > _CHUNK_BYTES:
        raise ContainerError(f"{where} is in chunks of {chunk_bytes} bytes, and {_CHUNK_BYTES} are the most")


def check_written(item: h5py.Dataset, key: str, rows: int | None = None) -> None:
    """Check that a file has all elements of a dataset, or of its first rows.

    Those that were never written are made up, however many. Raises ContainerError.
    """
    if item.shape is None:
        return
    shape = item.shape if rows is None or not item.shape else (min(max(rows, 0), item.shape[0]), *item.shape[1:])
    wanted, there = prod(shape) * item.id.get_type().get_size(), item.id.get_storage_size()
    if item.chunks is not None:
        wanted = prod(-(-extent // chunk) for extent, chunk in zip(shape, item.chunks, strict=True))
        there = min(there, item.id.get_num_chunks())
    if wanted > there:
        raise ContainerError(f"dataset {shown(key)} has the shape {item.shape}, and not all of it was written")


def type_of(item: h5py.Dataset) -> np.dtype:
    """The type of a judged dataset; that of texts has no length."""
    return np.dtype(np.str_) if h5py.check_string_dtype(item.dtype) else item.dtype


def attribute(file: h5py.File, name: str) -> str | int | None:
    """An attribute of a file that is a single text or whole number; None for any other, and where there is none."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    item = h5py.h5a.open(file.id, name.encode())
    if item.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
        return None
    kind = item.get_type().get_class()
    value = file.attrs[name] if kind in (h5py.h5t.INTEGER, h5py.h5t.STRING) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else None if value is None else int(value)


def _check_type(kind: h5py.h5t.TypeID, where: str) -> None:
    """Check that elements are numbers, strings, or records of numbers."""
    if kind.get_class() not in _PLAIN:
        raise ContainerError(f"{where} holds no numbers")
    if kind.get_class() == h5py.h5t.COMPOUND:
        parts = [kind.get_member_type(number) for number in range(kind.get_nmembers())]
        for part in parts:
            if part.get_class() == h5py.h5t.COMPOUND or (
                part.get_class() == h5py.h5t.STRING and part.is_variable_str()
            ):
                raise ContainerError(f"{where} holds records of more than numbers")
            _check_type(part, where)
