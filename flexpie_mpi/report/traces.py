"""Traces and the cost models fitted to them: what was measured, how steadily, and how far predictions are off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ..core.versions import versions
from ..cost.file import record_of
from ..cost.learned import Errors, LearnedCost
from ..cost.model import Origin
from ..cost.rows import TABLES
from ..cost.traces import Traces
from .tables import Column, Item, Table
from .units import count_of, mega, ms, percent

_KINDS = (
    Column("measured", key="table"),
    Column("of", "name", key="of"),
    Column("rows", "number", key="rows"),
    Column("median", "number", ms, "median_s"),
    Column("spread", "number", percent, "spread_share"),
)
_LINKS = (
    Column("bytes", "number", key="bytes"),
    Column("pairs at once", "number", key="pairs"),
    Column("rows", "number", key="rows"),
    Column("median", "number", ms, "median_s"),
    Column("slowest", "number", ms, "slowest_s"),
    Column("MB/s", "number", mega),
)
_PLANS = (
    Column("model", "name", key="model"),
    Column("plans", "number", key="plans"),
    Column("ranks", "text", lambda ranks: ",".join(map(str, ranks)), "ranks"),
    Column("fastest", "number", ms, "fastest_s"),
    Column("spread", "number", percent, "spread_share"),
)
_COUNTED = ("measured", "distinct", "combinations")
_FITTED = (Column(""), *(Column(count, "number") for count in _COUNTED), Column("trees", "number"))
_ERRORS = (
    Column("held out", "name"),
    Column("rows", "number"),
    Column("median", "number", percent),
    Column("90 %", "number", percent),
    Column("in total", "number", percent),
    Column("rank corr.", "number", "{:.3f}".format),
)
_DEVICES = (Column("device", "name"), Column("time", "number", "x {:.2f}".format))

_GROUPED = {"compute": "op", "exchange": "kind"}
"""The column by which the rows of a table are told apart."""


# Traces


def traces_items(traces: Traces) -> list[Item]:
    """The content of traces as lines and tables."""
    counts = ", ".join(f"{len(traces.tables[name])} {name}" for name in TABLES)
    items: list[Item] = [f"rows     {counts}", *_host_lines(traces.origins), *_version_lines(traces.origins)]
    for table in _tables(traces):
        items += ["", table] if table.rows else []
    return items


def traces_record(traces: Traces) -> dict[str, Any]:
    """The content of traces in seconds and bytes."""
    kinds, links, plans = _tables(traces)
    return {
        "rows": {name: len(rows) for name, rows in traces.tables.items()},
        "measured": kinds.records,
        "links": links.records,
        "plans": plans.records,
        "origins": [asdict(origin) for origin in traces.origins],
    }


def _tables(traces: Traces) -> tuple[Table, Table, Table]:
    """What was measured of parts of plans, of links, and of plans."""
    kinds = [(name, of, len(rows), _median(rows), _spread(rows)) for name, of, rows in _parts_of_plans(traces)]
    plans = [
        (model, len(rows), [*map(int, np.unique(rows["ranks"]))], float(rows["seconds"].min()), _spread(rows))
        for model, rows in _by(traces.tables["plan"], "model")
    ]
    return Table(_KINDS, kinds), Table(_LINKS, [*_links(traces)], "links, one way"), Table(_PLANS, plans, "plans")


def _parts_of_plans(traces: Traces) -> Iterator[tuple[str, str, np.ndarray]]:
    """(table, what the rows are of, rows), for the tables of parts of a plan."""
    for name in ("compute", "call", "exchange"):
        rows, column = traces.tables[name], _GROUPED.get(name)
        if column:
            yield from ((name, of, those) for of, those in _by(rows, column))
        elif len(rows):
            yield name, "", rows


def _links(traces: Traces) -> Iterator[tuple[Any, ...]]:
    """A row for every number of pairs and every size of message."""
    rows = traces.tables["link"]
    for pairs, nbytes in np.unique(rows[["pairs", "nbytes"]]).tolist():
        those = rows[(rows["pairs"] == pairs) & (rows["nbytes"] == nbytes)]
        median = _median(those)
        rate = int(nbytes / median) if median > 0 else None
        yield nbytes, pairs, len(those), median, float(those["seconds"].max()), rate


def _by(rows: np.ndarray, column: str) -> Iterator[tuple[str, np.ndarray]]:
    """Rows by a column of names, the most frequent name first."""
    names, counts = np.unique(rows[column], return_counts=True)
    for index in np.argsort(-counts, kind="stable"):
        yield names[index].decode(), rows[rows[column] == names[index]]


def _median(rows: np.ndarray) -> float:
    return float(np.median(rows["seconds"]))


def _spread(rows: np.ndarray) -> float:
    """Median distance of the quartiles, as a share of the time itself."""
    timed = rows[rows["seconds"] > 0]
    return float(np.median(timed["spread_s"] / timed["seconds"])) if len(timed) else 0.0


def _host_lines(origins: tuple[Origin, ...]) -> Iterator[Item]:
    """A line for every kind of host, with the ranks and runs that were there."""
    hosts = Counter((origin.host, origin.cpu, origin.cores, origin.threads, origin.slowdown) for origin in origins)
    for (host, cpu, cores, threads, slowdown), ranks in hosts.items():
        jobs = len({origin.job for origin in origins if (origin.host, origin.cpu) == (host, cpu)})
        measured = f"{count_of(ranks, 'rank')} in {count_of(jobs, 'run')}, {count_of(threads, 'thread')} each"
        paced = f", for boards {slowdown:g} times slower" if slowdown != 1 else ""
        yield f"host     {host} ({cpu}, {count_of(cores, 'core')}): {measured}{paced}"


def _version_lines(origins: tuple[Origin, ...]) -> list[Item]:
    sets = dict.fromkeys(
        (("flexpie-mpi", origin.package), ("onnxruntime", origin.onnxruntime), ("python", origin.python))
        for origin in origins
    )
    return ["made by  " + ", ".join(f"{name} {version}" for name, version in each if version) for each in sets]


# Cost models


def fit_items(cost: LearnedCost, path: str, *, everything: bool) -> list[Item]:
    """What a fit prints."""
    items: list[Item] = [f"cost model {path}, from {', '.join(cost.models) or 'none named'}"]
    counts = cost.provenance["rows"]
    trees = {table: cost.forests[table].rounds if table in cost.forests else 0 for table in counts}
    items += ["", Table(_FITTED, [(table, *map(counts[table].get, _COUNTED), trees[table]) for table in counts])]
    remarks = list(notes(cost))
    items += ["", *remarks] if remarks else []
    if cost.held_out:
        title = "absolute error on (op, channels) or (kind, ranks, bytes) that training had not seen"
        items += ["", Table(_ERRORS, [*_errors(cost)], title).folded(everything=everything)]
    if len(cost.devices) > 1:
        rows = [(device.label, device.factor) for device in cost.devices]
        items += ["", Table(_DEVICES, rows, "relative to the fastest device")]
    return items


def fit_record(cost: LearnedCost, path: str) -> dict[str, Any]:
    """All of a cost model but the trees; seconds, bytes, shares of one."""
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


def _errors(cost: LearnedCost) -> Iterator[tuple[Any, ...]]:
    """Errors of each table, and of its parts where there are several."""

    def row(name: str, errors: Errors) -> tuple[Any, ...]:
        return name, errors.rows, errors.median, errors.p90, errors.total, errors.rank

    for table, errors in cost.held_out.items():
        yield row(table, errors.overall)
        for part in (errors.by_length, errors.by_label, errors.by_device):
            if len(part) > 1:
                yield from (row(f"  {name}", each) for name, each in part.items())
