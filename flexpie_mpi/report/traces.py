"""Traces for people and for scripts: what was measured, how often, how steadily, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ..cost.origins import Origin
from ..cost.rows import TABLES
from ..cost.traces import Traces
from .tables import Column, Item, Table
from .units import count_of, mega, ms, percent

_KINDS = (
    Column("measured"),
    Column("of", "name"),
    Column("rows", "number"),
    Column("median", "number"),
    Column("spread", "number"),
)
_LINKS = (
    Column("bytes", "number"),
    Column("pairs at once", "number"),
    Column("rows", "number"),
    Column("median", "number"),
    Column("slowest", "number"),
    Column("MB/s", "number"),
)
_PLANS = (
    Column("model", "name"),
    Column("plans", "number"),
    Column("ranks"),
    Column("fastest", "number"),
    Column("spread", "number"),
)

_GROUPED = {"compute": "op", "exchange": "kind"}
"""The column by which the rows of a table are told apart."""


def traces_items(traces: Traces) -> list[Item]:
    """The content of traces as lines and tables."""
    counts = ", ".join(f"{len(traces.tables[name])} {name}" for name in TABLES)
    items: list[Item] = [f"rows     {counts}", *_host_lines(traces.origins), *_version_lines(traces.origins)]
    kinds = tuple(_kind_row(name, of, rows) for name, of, rows in _kinds(traces))
    links = tuple(_link_row(rows) for rows in _links(traces))
    plans = tuple(_plan_row(model, rows) for model, rows in _by(traces.tables["plan"], "model"))
    items += ["", Table(_KINDS, kinds)] if kinds else []
    items += ["", Table(_LINKS, links, "links, one way")] if links else []
    items += ["", Table(_PLANS, plans, "plans")] if plans else []
    return items


def traces_record(traces: Traces) -> dict[str, Any]:
    """The same in seconds and bytes."""
    return {
        "rows": {name: len(rows) for name, rows in traces.tables.items()},
        "measured": [
            {"table": name, "of": of, "rows": len(rows), "median_s": _median(rows), "spread_share": _spread(rows)}
            for name, of, rows in _kinds(traces)
        ],
        "links": [
            {
                "bytes": int(rows["nbytes"][0]),
                "pairs": int(rows["pairs"][0]),
                "rows": len(rows),
                "median_s": _median(rows),
                "slowest_s": float(rows["seconds"].max()),
            }
            for rows in _links(traces)
        ],
        "plans": [
            {
                "model": model,
                "plans": len(rows),
                "ranks": _ranks(rows),
                "fastest_s": float(rows["seconds"].min()),
                "spread_share": _spread(rows),
            }
            for model, rows in _by(traces.tables["plan"], "model")
        ],
        "origins": [asdict(origin) for origin in traces.origins],
    }


def _kinds(traces: Traces) -> Iterator[tuple[str, str, np.ndarray]]:
    """(table, what the rows are of, rows), for the tables of parts of a plan."""
    for name in ("compute", "call", "exchange"):
        rows, column = traces.tables[name], _GROUPED.get(name)
        if column:
            yield from ((name, of, found) for of, found in _by(rows, column))
        elif len(rows):
            yield name, "", rows


def _links(traces: Traces) -> Iterator[np.ndarray]:
    """Rows of the same size and number of pairs."""
    rows = traces.tables["link"]
    for pairs in np.unique(rows["pairs"]):
        for nbytes in np.unique(rows["nbytes"][rows["pairs"] == pairs]):
            yield rows[(rows["pairs"] == pairs) & (rows["nbytes"] == nbytes)]


def _by(rows: np.ndarray, column: str) -> Iterator[tuple[str, np.ndarray]]:
    """Rows by a column of names, the most frequent name first."""
    names, counts = np.unique(rows[column], return_counts=True)
    for place in np.argsort(-counts, kind="stable"):
        yield names[place].decode(), rows[rows[column] == names[place]]


def _kind_row(name: str, of: str, rows: np.ndarray) -> tuple[str, ...]:
    return name, of, str(len(rows)), ms(_median(rows)), percent(_spread(rows))


def _link_row(rows: np.ndarray) -> tuple[str, ...]:
    median = _median(rows)
    rate = mega(int(rows["nbytes"][0] / median)) if median > 0 else ""
    return (
        str(int(rows["nbytes"][0])),
        str(int(rows["pairs"][0])),
        str(len(rows)),
        ms(median),
        ms(float(rows["seconds"].max())),
        rate,
    )


def _plan_row(model: str, rows: np.ndarray) -> tuple[str, ...]:
    ranks = ",".join(map(str, _ranks(rows)))
    return model, str(len(rows)), ranks, ms(float(rows["seconds"].min())), percent(_spread(rows))


def _ranks(rows: np.ndarray) -> list[int]:
    return [int(ranks) for ranks in np.unique(rows["ranks"])]


def _median(rows: np.ndarray) -> float:
    return float(np.median(rows["seconds"]))


def _spread(rows: np.ndarray) -> float:
    """Median distance of the quartiles, as a share of the time itself."""
    timed = rows[rows["seconds"] > 0]
    return float(np.median(timed["spread_s"] / timed["seconds"])) if len(timed) else 0.0


def _host_lines(origins: tuple[Origin, ...]) -> list[Item]:
    """A line for every kind of host, with the ranks and runs that were there."""
    hosts = Counter((origin.host, origin.cpu, origin.cores, origin.threads, origin.slowdown) for origin in origins)
    jobs = {host: len({o.job for o in origins if (o.host, o.cpu) == host[:2]}) for host in hosts}
    return [_host_line(*host, count, jobs[host]) for host, count in hosts.items()]


def _host_line(host: str, cpu: str, cores: int, threads: int, slowdown: float, ranks: int, jobs: int) -> str:
    measured = f"{count_of(ranks, 'rank')} in {count_of(jobs, 'run')}, {count_of(threads, 'thread')} each"
    paced = f", for boards {slowdown:g} times slower" if slowdown != 1 else ""
    return f"host     {host} ({cpu}, {count_of(cores, 'core')}): {measured}{paced}"


def _version_lines(origins: tuple[Origin, ...]) -> list[Item]:
    found = dict.fromkeys(
        (("flexpie-mpi", origin.package), ("onnxruntime", origin.onnxruntime), ("python", origin.python))
        for origin in origins
    )
    return ["made by  " + ", ".join(f"{name} {version}" for name, version in each if version) for each in found]
