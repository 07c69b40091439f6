"""A fitted cost model in tables: what was measured, how far predictions are off, how devices compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.versions import versions
from ..cost.file import record_of
from ..cost.learned import Errors, LearnedCost
from .tables import Column, Item, Table, fold
from .units import count_of, percent

_ROWS = (
    Column(""),
    Column("measured", "number"),
    Column("distinct", "number"),
    Column("combinations", "number"),
    Column("trees", "number"),
)
_ERRORS = (
    Column("held out", "name"),
    Column("rows", "number"),
    Column("median", "number"),
    Column("90 %", "number"),
    Column("in total", "number"),
    Column("rank corr.", "number"),
)
_DEVICES = (Column("device", "name"), Column("time", "number"))


def fit_items(cost: LearnedCost, path: str, *, everything: bool) -> list[Item]:
    """What a fit prints."""
    models = ", ".join(cost.models) or "none named"
    devices = tuple((device.label, f"x {device.factor:.2f}") for device in cost.devices)
    items: list[Item] = [f"cost model {path}, from {models}", "", Table(_ROWS, tuple(_row_counts(cost))), ""]
    found = list(notes(cost))
    items += [*found, ""] if found else []
    if cost.held_out:
        title = "absolute error on (op, channels) or (kind, ranks, bytes) that training had not seen"
        items += [Table(_ERRORS, tuple(fold(list(_error_rows(cost)), len(_ERRORS), everything=everything)), title), ""]
    if len(devices) > 1:
        items += [Table(_DEVICES, devices, "relative to the fastest device")]
    return items[:-1] if items[-1] == "" else items


def fit_record(cost: LearnedCost, path: str) -> dict[str, Any]:
    """All of it but the trees; seconds, bytes, shares of one."""
    trees = {table: forest.rounds for table, forest in cost.forests.items()}
    return {"output": path, "trees": trees, "notes": list(notes(cost)), **record_of(cost), "versions": versions()}


def notes(cost: LearnedCost) -> Iterator[str]:
    """Sentences about the tables that formulas alone price."""
    for table, counts in cost.provenance["rows"].items():
        if not counts["distinct"]:
            yield f"{table}: nothing was measured; default constants price it"
        elif table not in cost.forests:
            counted = f"{count_of(counts['distinct'], 'row')} of {count_of(counts['combinations'], 'combination')}"
            yield f"{table}: a formula alone prices it; trees learned nothing more from {counted}"


def _row_counts(cost: LearnedCost) -> Iterator[tuple[str, ...]]:
    for table, counts in cost.provenance["rows"].items():
        trees = cost.forests[table].rounds if table in cost.forests else 0
        yield table, *(str(counts[name]) for name in ("measured", "distinct", "combinations")), str(trees)


def _error_rows(cost: LearnedCost) -> Iterator[tuple[str, ...]]:
    for table, errors in cost.held_out.items():
        yield _error_row(table, errors.overall)
        for part in (errors.by_length, errors.by_label, errors.by_device):
            if len(part) > 1:
                yield from (_error_row(f"  {name}", each) for name, each in part.items())


def _error_row(name: str, errors: Errors) -> tuple[str, ...]:
    shares = (percent(errors.median), percent(errors.p90), percent(errors.total))
    return name, str(errors.rows), *shares, f"{errors.rank:.3f}"
