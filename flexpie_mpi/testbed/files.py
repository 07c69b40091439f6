"""Testbed files: TOML as :mod:`flexpie_mpi.testbed` describes it, read with one clear sentence for every mistake."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import TestbedError
from .boards import MOST_DEVICES, Device, Testbed
from .sketch import TOPOLOGIES, Sketch
from .units import BANDWIDTH, LATENCY, MEMORY, Quantity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1

_TOP = ("format", "name", "topology", "link", "device")
_PORT = ("bandwidth", "latency")
_DEVICE = ("name", "count", "slowdown", "threads", "memory", "host", "cores", *_PORT)


def read(path: str | PathLike[str]) -> Testbed:
    """The testbed of a TOML file.

    Raises
    ------
    TestbedError
        When the file cannot be read or says something that cannot be; the sentence names the file and the key.
    """
    sketch = read_sketch(path)
    try:
        return sketch.testbed()
    except TestbedError as error:
        raise TestbedError(f"{path}: {error}") from error


def read_sketch(path: str | PathLike[str]) -> Sketch:
    """The testbed of a TOML file, to be changed; errors as of :func:`read`."""
    try:
        with open(path, "rb") as file:
            record = tomllib.load(file)
    except OSError as error:
        raise TestbedError(f"cannot read the testbed {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise TestbedError(f"{path} is not TOML: {error}") from error
    try:
        return _sketch(record, Path(path).stem)
    except TestbedError as error:
        raise TestbedError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file, called `where` in sentences."""

    where: str
    record: Mapping[str, Any]

    def check(self, allowed: Sequence[str]) -> None:
        unknown = sorted(set(self.record) - set(allowed))
        if unknown:
            raise TestbedError(f"{self.where} has an unknown key '{unknown[0]}'; it may have {', '.join(allowed)}")

    def text(self, key: str, default: str | None = None) -> str:
        return self._get(key, str, default, "a text")

    def whole(self, key: str, default: int) -> int:
        found = self._get(key, int, default, "a whole number, at least 1")
        if found < 1:
            raise TestbedError(f"{self.where}: {key} = {found} must be a whole number, at least 1")
        return found

    def number(self, key: str, default: float) -> float:
        return float(self._get(key, (int, float), default, "a number above 0"))

    def quantity(self, key: str, quantity: Quantity) -> float | None:
        if key not in self.record:
            return None
        try:
            return quantity.parse(self.record[key])
        except TestbedError as error:
            raise TestbedError(f"{self.where}: {key} = {error}") from error

    def _get(self, key: str, kind: Any, default: Any, allowed: str) -> Any:
        found = self.record.get(key, default)
        if found is None:
            raise TestbedError(f"{self.where} lacks the key '{key}'")
        if not isinstance(found, kind) or isinstance(found, bool):
            raise TestbedError(f"{self.where}: {key} = {found!r} must be {allowed}")
        return found


def _sketch(record: Mapping[str, Any], stem: str) -> Sketch:
    top = _Table("the testbed", record)
    top.check(_TOP)
    if record.get("format", FORMAT) != FORMAT:
        raise TestbedError(f"format = {record['format']!r}, and this version reads format {FORMAT}")
    topology = top.text("topology")
    if topology not in TOPOLOGIES:
        raise TestbedError(f'topology = "{topology}" must be one of {", ".join(TOPOLOGIES)}')
    tables = _device_tables(record)
    devices, owners = _devices(tables)
    bandwidth, latency = _ports(_link_table(record), owners, needed=len(devices) > 1)
    return Sketch(top.text("name", stem), topology, tuple(devices), bandwidth, latency)


def _device_tables(record: Mapping[str, Any]) -> list[_Table]:
    found = record.get("device", [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TestbedError("each device must be a table of its own, headed [[device]]")
    if not found:
        raise TestbedError("there are no devices; write a table headed [[device]], with a name, for each")
    tables = [_Table(f"device {place}", item) for place, item in enumerate(found)]
    return [_Table(f"device '{table.text('name')}'", table.record) for table in tables]


def _link_table(record: Mapping[str, Any]) -> _Table:
    found = record.get("link", {})
    if not isinstance(found, dict):
        raise TestbedError("link must be one table, headed [link]")
    table = _Table("[link]", found)
    table.check(_PORT)
    return table


def _devices(tables: Sequence[_Table]) -> tuple[list[Device], list[_Table]]:
    """Every device, and the table it came from."""
    devices: list[Device] = []
    owners: list[_Table] = []
    for table in tables:
        table.check(_DEVICE)
        count = table.whole("count", 1)
        if len(devices) + count > MOST_DEVICES:
            raise TestbedError(
                f"{table.where}: count = {count} makes more than {MOST_DEVICES} devices, the most allowed"
            )
        stem = table.text("name")
        names = [f"{stem}{number}" for number in range(count)] if count > 1 else [stem]
        devices += [_device(table, name) for name in names]
        owners += [table] * count
    return devices, owners


def _device(table: _Table, name: str) -> Device:
    memory = table.quantity("memory", MEMORY)
    return Device(
        name,
        slowdown=table.number("slowdown", 1.0),
        threads=table.whole("threads", 1),
        memory_bytes=None if memory is None else round(memory),
        host=table.text("host", ""),
        cores=table.whole("cores", 1),
    )


def _ports(
    link: _Table, owners: Sequence[_Table], needed: bool
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Bandwidth and latency of each device's port: its own, or that of the link table."""
    shared = (link.quantity("bandwidth", BANDWIDTH), link.quantity("latency", LATENCY))
    bandwidths: list[float | None] = []
    latencies: list[float | None] = []
    for table in owners:
        own = (table.quantity("bandwidth", BANDWIDTH), table.quantity("latency", LATENCY))
        bandwidth, latency = (mine if mine is not None else default for mine, default in zip(own, shared, strict=True))
        if needed and (bandwidth is None or latency is None):
            key = "bandwidth" if bandwidth is None else "latency"
            raise TestbedError(f"{link.where} lacks the key '{key}', and {table.where} has none of its own")
        bandwidths.append(bandwidth)
        latencies.append(latency)
    return tuple(bandwidths), tuple(latencies)
