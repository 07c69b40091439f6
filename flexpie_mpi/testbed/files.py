"""What people write of testbeds, read with one clear sentence for every mistake.

Files are TOML as :mod:`flexpie_mpi.testbed` describes it; changes are ``"bandwidth=2Gb/s,slowdown=4"``; quantities are
``"512MiB"`` or ``"1Gb/s"``, here in bytes and seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.document import DocumentTable, is_number, is_whole, printable, read_toml, shown
from ..core.errors import TestbedError
from .boards import MOST_DEVICES, Device, Sketch, Testbed
from .topologies import TOPOLOGIES

FORMAT = 1
MOST_BYTES = 1 << 18

_TOP = ("format", "name", "topology", "link", "device")

_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?) *([A-Za-z/]+)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is measured, an example of it, its units, and the least it may be."""

    noun: str
    example: str
    units: Mapping[str, float]
    above: float = 0.0

    def parse(self, text: object) -> float:
        """The number in bytes, bytes per second, or seconds.

        Raises TestbedError when it has no unit, another one, or is not above `above`.

        >>> MEMORY.parse("512 MiB"), BANDWIDTH.parse("1Gb/s"), LATENCY.parse("250us")
        (536870912.0, 125000000.0, 0.00025)
        """
        match = _WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
        if not match or match[2] not in self.units:
            raise TestbedError(
                f"{_quoted(text)} is no {self.noun}: write it like {_quoted(self.example)}, "
                f"a number and one of the units {' '.join(self.units)}"
            )
        number, unit = float(match[1]), self.units[match[2]]
        number = number * unit if unit >= 1 else number / round(1 / unit)  # 50us is then the float 5e-5
        if not self.above < number < float("inf"):
            raise TestbedError(f"{_quoted(text)} is no {self.noun} that can exist: it must be above 0 and finite")
        return number


def _quoted(value: object) -> str:
    return f'"{printable(value, 80)}"' if isinstance(value, str) else shown(value)


_BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_BITS = {"b/s": 1 / 8, "kb/s": 1e3 / 8, "Mb/s": 1e6 / 8, "Gb/s": 1e9 / 8}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

MEMORY = Quantity("size of a memory", "512MiB", _BYTES, above=0.5)  # less than a byte rounds to none
BANDWIDTH = Quantity("bandwidth", "1Gb/s", _BITS | {f"{unit}/s": size for unit, size in _BYTES.items()})
LATENCY = Quantity("latency", "50us", _SECONDS, above=-1.0)

_PORT = {"bandwidth": BANDWIDTH, "latency": LATENCY}
_DEVICE = ("name", "count", "slowdown", "threads", "memory", "host", "cores", "block", *_PORT)


def read(path: str | PathLike[str]) -> Testbed:
    """The testbed of a TOML file.

    Raises TestbedError when the file cannot be read or says something that cannot be; the sentence names the file and
    the key.
    """
    sketch = read_sketch(path)
    try:
        return sketch.testbed()
    except TestbedError as error:
        raise TestbedError(f"{path}: {error}") from error


def read_sketch(path: str | PathLike[str]) -> Sketch:
    """The testbed of a TOML file, to be changed; errors as of :func:`read`."""
    return read_toml(path, MOST_BYTES, "testbed", lambda record: _sketch(record, Path(path).stem), TestbedError)


def _whole(table: DocumentTable, key: str) -> int:
    return int(table.get(key, partial(is_whole, least=1), "a whole number, at least 1", 1))


def _quantity(table: DocumentTable, key: str, quantity: Quantity, default: float | None = None) -> float | None:
    if key not in table.record:
        return default
    try:
        return quantity.parse(table.record[key])
    except TestbedError as error:
        raise TestbedError(f"{table.where}: {key} = {error}") from error


def _sketch(record: Mapping[str, Any], stem: str) -> Sketch:
    top = DocumentTable("the testbed", record)
    top.check(_TOP)
    top.check_format(FORMAT)
    topology = top.text("topology")
    if topology not in TOPOLOGIES:
        raise TestbedError(f'topology = "{printable(topology, 80)}" must be one of {", ".join(TOPOLOGIES)}')
    devices, ports = _devices(_device_tables(top), _link_table(record))
    bandwidth, latency = zip(*ports, strict=True)
    return Sketch(top.text("name", stem), TOPOLOGIES[topology], tuple(devices), bandwidth, latency)


def _device_tables(top: DocumentTable) -> list[DocumentTable]:
    records = top.tables("device", "devices", "a name")
    tables = [DocumentTable(f"device {index}", record) for index, record in enumerate(records)]
    return [DocumentTable(f"device '{printable(table.text('name'), 80)}'", table.record) for table in tables]


def _link_table(record: Mapping[str, Any]) -> DocumentTable:
    link = record.get("link", {})
    if not isinstance(link, dict):
        raise TestbedError("link must be one table, headed [link]")
    table = DocumentTable("[link]", link)
    table.check(tuple(_PORT))
    return table


def _devices(
    tables: Sequence[DocumentTable], link: DocumentTable
) -> tuple[list[Device], list[tuple[float | None, ...]]]:
    """Every device, and the (bandwidth, latency) of its port: its own, or those of the link table."""
    shared = {key: _quantity(link, key, quantity) for key, quantity in _PORT.items()}
    devices: list[Device] = []
    ports: list[tuple[float | None, ...]] = []
    owners: list[DocumentTable] = []
    for table in tables:
        table.check(_DEVICE)
        count = _whole(table, "count")
        if len(devices) + count > MOST_DEVICES:
            raise TestbedError(
                f"{table.where}: count = {count} makes more than {MOST_DEVICES} devices, the most allowed"
            )
        stem = table.text("name")
        devices += [_device(table, f"{stem}{number}" if count > 1 else stem) for number in range(count)]
        ports += [tuple(_quantity(table, key, quantity, shared[key]) for key, quantity in _PORT.items())] * count
        owners += [table] * count
    for table, port in zip(owners, ports, strict=True):
        if len(devices) > 1 and None in port:
            key = tuple(_PORT)[port.index(None)]
            raise TestbedError(f"{link.where} lacks the key '{key}', and {table.where} has none of its own")
    return devices, ports


def _device(table: DocumentTable, name: str) -> Device:
    memory = _quantity(table, "memory", MEMORY)
    return Device(
        name,
        slowdown=float(table.get("slowdown", is_number, "a number above 0", 1.0)),
        threads=_whole(table, "threads"),
        memory_bytes=None if memory is None else round(memory),
        host=table.text("host", ""),
        cores=_whole(table, "cores"),
        block=table.get("block", is_whole, "a whole number of channels, or 0", 0),
    )


def read_change(text: str) -> dict[str, Any]:
    """What :meth:`Sketch.changed` takes, as people write it: keys and values of a testbed file.

    Raises TestbedError when a key or a value is none.

    >>> read_change("bandwidth=2Gb/s,slowdown=4")
    {'bandwidth': 250000000.0, 'slowdown': 4.0}
    """
    given: dict[str, Any] = {}
    for item in text.split(","):
        key, equals, value = (word.strip() for word in item.partition("="))
        if not equals or key not in _KEYS:
            raise TestbedError(f"'{item}' is no change: write {' '.join(f'{key}=...' for key in _KEYS)}, with commas")
        field, parse = _KEYS[key]
        if field in given:
            raise TestbedError(f"{key} is changed twice: give it one value")
        try:
            given[field] = parse(value)
        except TestbedError as error:
            raise TestbedError(f"{key} = {error}") from error
    return given


def _slowdown(text: str) -> float:
    try:
        slowdown = float(text)
    except ValueError:
        slowdown = 0.0
    if not 0 < slowdown < inf:
        raise TestbedError(f'"{text}" is no slowdown: write a number above 0')
    return slowdown


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bandwidth": ("bandwidth", BANDWIDTH.parse),
    "latency": ("latency", LATENCY.parse),
    "slowdown": ("slowdown", _slowdown),
    "memory": ("memory_bytes", lambda text: round(MEMORY.parse(text))),
}
