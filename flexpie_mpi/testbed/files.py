"""Testbed files: TOML as :mod:`flexpie_mpi.testbed` describes it, read with one clear sentence for every mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.document import DocumentError, Table, from_toml, is_number, is_whole, printable, read_document, shown
from ..core.errors import TestbedError
from .boards import MOST_DEVICES, Device, Testbed
from .sketch import TOPOLOGIES, Sketch
from .units import BANDWIDTH, LATENCY, MEMORY, Quantity

FORMAT = 1
MOST_BYTES = 1 << 18

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
    name = printable(str(path), 1000)
    try:
        content = read_document(path, MOST_BYTES)
    except DocumentError as error:
        raise TestbedError(f"cannot read the testbed {name}: {error}") from error
    try:
        record = from_toml(content)
    except DocumentError as error:
        raise TestbedError(f"{name} is not TOML: {error}") from error
    try:
        return _sketch(record, Path(path).stem)
    except (DocumentError, TestbedError) as error:
        raise TestbedError(f"{name}: {error}") from error


def _whole(table: Table, key: str) -> int:
    return int(table.get(key, partial(is_whole, least=1), "a whole number, at least 1", 1))


def _quantity(table: Table, key: str, quantity: Quantity) -> float | None:
    if key not in table.record:
        return None
    try:
        return quantity.parse(table.record[key])
    except TestbedError as error:
        raise TestbedError(f"{table.where}: {key} = {error}") from error


def _sketch(record: Mapping[str, Any], stem: str) -> Sketch:
    top = Table("the testbed", record)
    top.check(_TOP)
    if record.get("format", FORMAT) != FORMAT:
        raise TestbedError(f"format = {shown(record['format'])}, and this version reads format {FORMAT}")
    topology = top.text("topology")
    if topology not in TOPOLOGIES:
        raise TestbedError(f'topology = "{printable(topology, 80)}" must be one of {", ".join(TOPOLOGIES)}')
    tables = _device_tables(record)
    devices, owners = _devices(tables)
    bandwidth, latency = _ports(_link_table(record), owners, needed=len(devices) > 1)
    return Sketch(top.text("name", stem), topology, tuple(devices), bandwidth, latency)


def _device_tables(record: Mapping[str, Any]) -> list[Table]:
    found = record.get("device", [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TestbedError("each device must be a table of its own, headed [[device]]")
    if not found:
        raise TestbedError("there are no devices; write a table headed [[device]], with a name, for each")
    tables = [Table(f"device {place}", item) for place, item in enumerate(found)]
    return [Table(f"device '{printable(table.text('name'), 80)}'", table.record) for table in tables]


def _link_table(record: Mapping[str, Any]) -> Table:
    found = record.get("link", {})
    if not isinstance(found, dict):
        raise TestbedError("link must be one table, headed [link]")
    table = Table("[link]", found)
    table.check(_PORT)
    return table


def _devices(tables: Sequence[Table]) -> tuple[list[Device], list[Table]]:
    """Every device, and the table it came from."""
    devices: list[Device] = []
    owners: list[Table] = []
    for table in tables:
        table.check(_DEVICE)
        count = _whole(table, "count")
        if len(devices) + count > MOST_DEVICES:
            raise TestbedError(
                f"{table.where}: count = {count} makes more than {MOST_DEVICES} devices, the most allowed"
            )
        stem = table.text("name")
        names = [f"{stem}{number}" for number in range(count)] if count > 1 else [stem]
        devices += [_device(table, name) for name in names]
        owners += [table] * count
    return devices, owners


def _device(table: Table, name: str) -> Device:
    memory = _quantity(table, "memory", MEMORY)
    return Device(
        name,
        slowdown=float(table.get("slowdown", is_number, "a number above 0", 1.0)),
        threads=_whole(table, "threads"),
        memory_bytes=None if memory is None else round(memory),
        host=table.text("host", ""),
        cores=_whole(table, "cores"),
    )


def _ports(
    link: Table, owners: Sequence[Table], needed: bool
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Bandwidth and latency of each device's port: its own, or that of the link table."""
    shared = (_quantity(link, "bandwidth", BANDWIDTH), _quantity(link, "latency", LATENCY))
    bandwidths: list[float | None] = []
    latencies: list[float | None] = []
    for table in owners:
        own = (_quantity(table, "bandwidth", BANDWIDTH), _quantity(table, "latency", LATENCY))
        bandwidth, latency = (mine if mine is not None else default for mine, default in zip(own, shared, strict=True))
        if needed and (bandwidth is None or latency is None):
            key = "bandwidth" if bandwidth is None else "latency"
            raise TestbedError(f"{link.where} lacks the key '{key}', and {table.where} has none of its own")
        bandwidths.append(bandwidth)
        latencies.append(latency)
    return tuple(bandwidths), tuple(latencies)
