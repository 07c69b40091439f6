"""The file of a cost model: one JSON text with everything in it, trees as LightGBM's own text.

Nothing in it is executed or unpickled. A digest over the content tells a damaged file from a whole one before anything
is built from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from ..core.document import DocumentError, dataclass_of, from_json, one_line, read_document, shown
from ..core.errors import CostError
from ..files.atomic import write_text
from .features import FEATURES
from .forest import Forest, ForestError
from .learned import HeldOut, LearnedCost, Ranges
from .model import DeviceFactor
from .prior import ANY, CALL_CONSTANTS, EXCHANGE_CONSTANTS, KERNEL_CONSTANTS, AnalyticCost
from .rows import LABELS, PRICED, WORK, unlike

FORMAT = "flexpie_mpi cost"
FORMAT_VERSION = 2
"""Version 2 names the features of forests; version 1 has others, and does not say so."""

MOST_BYTES = 8 << 20

_MOST_CONSTANT, _LEAST_RATE, _MOST_CROWDING, _MOST_EXPONENT = 1e30, 1e-30, 10.0, 500.0
"""Far beyond anything that is measured; within, no price overflows."""


def save_cost(cost: LearnedCost, path: str | Path) -> None:
    """Write a cost model; the file appears whole or not at all.

    Raises DataError when it cannot be written.
    """
    forests = {table: forest.text for table, forest in cost.forests.items()}
    content = record_of(cost) | {"features": {name: list(each) for name, each in FEATURES.items()}, "forests": forests}
    head = {"format": FORMAT, "version": FORMAT_VERSION, "digest": _digest(content)}
    write_text(path, json.dumps(head | content, indent=1, allow_nan=False) + "\n")


def load_cost(path: str | Path) -> LearnedCost:
    """Read a cost model.

    Raises CostError when there is no such file, it is damaged, holds no cost model, or one of another version of the
    format or with other features.
    """
    record = _read(path)
    try:
        return _cost(record)
    except (DocumentError, ForestError) as error:
        raise CostError(
            f"cost model '{path}' cannot be used ({one_line(error)}): make it anew with 'flexpie-mpi fit'"
        ) from error


def record_of(cost: LearnedCost) -> dict[str, Any]:
    """All of a cost model but its trees, as JSON can hold it; seconds and bytes."""
    prior = cost.prior
    return {
        "provenance": dict(cost.provenance),
        "models": list(cost.models),
        "devices": [asdict(device) for device in cost.devices],
        "held_out": {table: asdict(errors) for table, errors in cost.held_out.items()},
        "prior": {
            "crowding": prior.crowding,
            "kernels": {op: dict(zip(KERNEL_CONSTANTS, each, strict=True)) for op, each in prior.kernels.items()},
            "call": dict(zip(CALL_CONSTANTS, prior.call, strict=True)),
            "exchange": dict(zip(EXCHANGE_CONSTANTS, prior.exchange, strict=True)),
        },
        "ops": list(cost.ops),
        "ranges": {table: asdict(ranges) for table, ranges in cost.ranges.items()},
    }


def _read(path: str | Path) -> dict[str, Any]:
    """The content of a file that is whole and ours."""
    if not os.path.isfile(path):
        reason = "it is no file" if os.path.exists(path) else "it does not exist"
        raise CostError(f"'{path}' holds no cost model, {reason}: make one with 'flexpie-mpi fit TRACES --output FILE'")
    try:
        record = from_json(read_document(path, MOST_BYTES))
    except DocumentError as error:
        raise CostError(
            f"'{path}' cannot be read as a cost model ({one_line(error)}): give a file that 'flexpie-mpi fit' wrote"
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        has_one = isinstance(record, dict) and "format" in record
        problem = f"its format is {shown(record['format'])}" if has_one else "no format"
        raise CostError(f"'{path}' holds no cost model ({problem}): give a file that 'flexpie-mpi fit' wrote")
    version = record.get("version")
    if version != FORMAT_VERSION:
        raise CostError(
            f"cost model '{path}' is in version {shown(version)} of the format "
            f"and this program reads {FORMAT_VERSION}: use a newer flexpie-mpi, or make it anew with 'flexpie-mpi fit'"
        )
    content = {key: value for key, value in record.items() if key not in ("format", "version", "digest")}
    if record.get("digest") != _digest(content):
        raise CostError(f"cost model '{path}' is damaged or was edited: make it anew with 'flexpie-mpi fit'")
    return content


@dataclass(frozen=True, slots=True)
class _Prior:
    """The constants of a file, by name."""

    crowding: float
    kernels: Mapping[str, Mapping[str, float]]
    call: Mapping[str, float]
    exchange: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file holds, of the right types and not looked at further."""

    provenance: Mapping[str, Any]
    models: tuple[str, ...]
    devices: tuple[DeviceFactor, ...]
    held_out: Mapping[str, HeldOut]
    prior: _Prior
    ops: tuple[str, ...]
    ranges: Mapping[str, Ranges]
    features: Mapping[str, tuple[str, ...]]  # names, in order, of what the forests were trained on
    forests: Mapping[str, str]


def _cost(record: Mapping[str, Any]) -> LearnedCost:
    content = dataclass_of(_Content, record, "it")
    prior = content.prior
    _need(ANY in prior.kernels, f"'kernels' has no constants of '{ANY}'")
    _need(0 <= prior.crowding <= _MOST_CROWDING, f"'crowding' is {prior.crowding}")
    for op in (*content.ops, *prior.kernels):
        _need(
            op.isascii() and op.isprintable() and len(op) <= WORK["op"].itemsize, f"no operator is called {shown(op)}"
        )
    for device in content.devices:
        _need(0 < device.slowdown < inf and 0 < device.factor < inf, f"a device is {device.factor} times slower")
    _need(set(content.held_out) <= set(FEATURES), "'held_out' has an unknown table")
    return LearnedCost(
        prior=AnalyticCost(
            kernels={op: _values(KERNEL_CONSTANTS, each) for op, each in prior.kernels.items()},
            call=_values(CALL_CONSTANTS, prior.call),
            exchange=_values(EXCHANGE_CONSTANTS, prior.exchange),
            crowding=prior.crowding,
        ),
        ops=content.ops,
        forests={table: _forest(table, text, content.features.get(table)) for table, text in content.forests.items()},
        ranges={table: _ranges(table, each) for table, each in content.ranges.items()},
        devices=content.devices,
        models=content.models,
        provenance=content.provenance,
        held_out=content.held_out,
    )


def _need(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise DocumentError(otherwise)


def _forest(table: str, text: str, features: tuple[str, ...] | None) -> Forest:
    """A forest that was trained on this version's features, and gives a finite factor whatever it is asked."""
    _need(table in FEATURES, f"there is no table {shown(table)} to have a forest")
    _need(features is not None, f"it does not name the features of '{table}'")
    names = tuple(FEATURES[table])
    others = unlike(features or (), names) or ("" if features == names else "columns in another order")
    _need(not others, f"the forest of '{table}' was trained on other features than this version has: {others}")
    forest = Forest(text)
    _need(
        forest.columns == len(FEATURES[table]),
        f"the forest of '{table}' knows {forest.columns} columns of {len(FEATURES[table])}",
    )
    most = sum(max(map(abs, tree.values)) for tree in forest.trees)
    _need(most <= _MOST_EXPONENT, f"the forest of '{table}' multiplies by up to e^{most:.0f}")
    return forest


def _ranges(table: str, ranges: Ranges) -> Ranges:
    _need(table in LABELS and ranges.label == LABELS[table], f"there is no table {shown(table)} to have ranges")
    columns = tuple(name for name in PRICED[table].names or () if name != ranges.label)
    _need(ranges.columns == columns, f"the ranges of '{table}' are of other columns")
    lengths = {len(side) for both in ranges.bounds.values() for side in both}
    _need(lengths <= {len(columns)}, f"the ranges of '{table}' have bounds of other columns")
    return ranges


def _values(names: tuple[str, ...], record: Mapping[str, float]) -> tuple[float, ...]:
    _need(set(record) == set(names), f"there must be constants {', '.join(names)}, and no others")
    for name, value in record.items():
        least = _LEAST_RATE if name.endswith("_per_s") else 0.0
        _need(least <= value <= _MOST_CONSTANT, f"the constant '{name}' is {value}")
    return tuple(record[name] for name in names)


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
