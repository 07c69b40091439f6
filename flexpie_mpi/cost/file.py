"""The file of a cost model: one JSON text with everything in it, trees as LightGBM's own text.

Nothing in it is executed or unpickled. A digest over the content tells a damaged file from a whole one before anything
is built from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data.files import one_line
from ..data.replacing import write_text
from ..errors import CostError
from .forest import Forest
from .heldout import Errors, HeldOut
from .learned import LearnedCost
from .prior import CALL_CONSTANTS, EXCHANGE_CONSTANTS, KERNEL_CONSTANTS, AnalyticCost
from .ranges import Ranges
from .samples import DeviceFactor

FORMAT = "flexpie_mpi cost"
FORMAT_VERSION = 1


def save_cost(cost: LearnedCost, path: str | Path) -> None:
    """Write a cost model; the file appears whole or not at all.

    Raises
    ------
    DataError
        When it cannot be written.
    """
    content = record_of(cost) | {"forests": {table: forest.text for table, forest in cost.forests.items()}}
    head = {"format": FORMAT, "version": FORMAT_VERSION, "digest": _digest(content)}
    write_text(path, json.dumps(head | content, indent=1, allow_nan=False) + "\n")


def load_cost(path: str | Path) -> LearnedCost:
    """Read a cost model.

    Raises
    ------
    CostError
        When there is no such file, it is damaged, holds no cost model, or one of a later version of the format.
    """
    record = _read(path)
    try:
        return _cost(record)
    except (CostError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
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
            "kernels": {op: _named(KERNEL_CONSTANTS, constants) for op, constants in prior.kernels.items()},
            "call": _named(CALL_CONSTANTS, prior.call),
            "exchange": _named(EXCHANGE_CONSTANTS, prior.exchange),
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
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CostError(
            f"'{path}' cannot be read as a cost model ({one_line(error)}): give a file that 'flexpie-mpi fit' wrote"
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = (
            f"its format is {record['format']!r}" if isinstance(record, dict) and "format" in record else "no format"
        )
        raise CostError(f"'{path}' holds no cost model ({found}): give a file that 'flexpie-mpi fit' wrote")
    version = record.get("version")
    if version != FORMAT_VERSION:
        raise CostError(
            f"cost model '{path}' is in version {version} of the format and this program reads {FORMAT_VERSION}: "
            "use a newer flexpie-mpi, or make it anew with 'flexpie-mpi fit'"
        )
    content = {key: value for key, value in record.items() if key not in ("format", "version", "digest")}
    if record.get("digest") != _digest(content):
        raise CostError(f"cost model '{path}' is damaged or was edited: make it anew with 'flexpie-mpi fit'")
    return content


def _cost(record: Mapping[str, Any]) -> LearnedCost:
    prior = record["prior"]
    forests = {table: Forest(text) for table, text in record["forests"].items()}
    for forest in forests.values():
        _ = forest.trees
    return LearnedCost(
        prior=AnalyticCost(
            kernels={op: _values(KERNEL_CONSTANTS, each) for op, each in prior["kernels"].items()},
            call=_values(CALL_CONSTANTS, prior["call"]),
            exchange=_values(EXCHANGE_CONSTANTS, prior["exchange"]),
            crowding=prior["crowding"],
        ),
        ops=tuple(record["ops"]),
        forests=forests,
        ranges={table: _ranges(each) for table, each in record["ranges"].items()},
        devices=tuple(DeviceFactor(**each) for each in record["devices"]),
        models=tuple(record["models"]),
        provenance=record["provenance"],
        held_out={table: _held_out(each) for table, each in record["held_out"].items()},
    )


def _named(names: tuple[str, ...], values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(names, values, strict=True))


def _values(names: tuple[str, ...], record: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(record[name] for name in names)


def _ranges(record: Mapping[str, Any]) -> Ranges:
    bounds = {label: (tuple(least), tuple(most)) for label, (least, most) in record["bounds"].items()}
    return Ranges(record["label"], tuple(record["columns"]), bounds)


def _held_out(record: Mapping[str, Any]) -> HeldOut:
    return HeldOut(
        record["combinations"],
        Errors(**record["overall"]),
        *({name: Errors(**each) for name, each in record[by].items()} for by in ("by_label", "by_device", "by_length")),
    )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
