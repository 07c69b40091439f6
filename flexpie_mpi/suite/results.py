"""Results: one self-contained row per planner and cell of a suite, kept as lines of JSON.

A *cell* is one model and batch on the first ranks of one testbed; its planners are measured together, request by
request in turn. A row says what was asked, what was planned, predicted, simulated and measured, and with what, so that
a table or a plot needs nothing but rows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import median
from typing import Any

from ..core.document import DocumentError, dataclass_of, from_json, read_lines, shown
from ..core.errors import SuiteError
from ..core.quartiles import quartiles
from ..lower.facts import redundant_share

FORMAT = 1
"""Of a row."""

MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RankResult:
    """One rank's share of a row: seconds are medians over the rounds, bytes and messages those of one request."""

    rank: int
    device: str
    slowdown: float
    compute_s: float
    send_s: float
    receive_s: float
    wait_s: float
    flops: int
    sent_bytes: int
    messages: int
    weight_bytes: int
    arena_bytes: int
    peak_rss_bytes: int
    needed_bytes: int  # what the plan was predicted to need
    memory_bytes: int | None = None  # what its device may use; None without a limit


@dataclass(frozen=True)
class Result:
    """One planner in one cell."""

    suite: str
    model: str  # as the suite names it
    model_digest: str
    batch: int
    testbed: str
    testbed_digest: str
    topology: str  # as of :class:`flexpie_mpi.testbed.Testbed`
    bandwidth: float  # bytes per second of the testbed's slowest link or port
    ranks: int
    planner: str
    is_emulated: bool  # whether the boards were emulated on one machine
    plan: Mapping[str, Any]  # as :meth:`flexpie_mpi.core.plan.Plan.to_json` writes it, parsed
    plan_digest: str  # rows of a cell with the same one share a measurement: their planners found the same plan
    planning_s: float
    lower_bound_s: float
    is_optimal: bool  # whether the planner proved its plan to be the best of what it chooses from
    # `predicted_s` and `simulated_s`: latency of one request by the planner's sum, and by the simulator's walk
    predicted_s: float
    simulated_s: float
    measured_s: tuple[float, ...]  # of each round, in order; round k of all rows of a cell and turn took place together
    flops: int  # work of one request on one board; ranks' own flops are more where work is redundant
    per_rank: tuple[RankResult, ...]
    # `repeats` and `warmup`: rounds asked for, at least, that count, and those before them that do not
    repeats: int
    warmup: int
    versions: Mapping[str, str]  # of packages and libraries
    machine: str  # where it was measured, in a line: processor, cores, system
    cost: str  # where the cost model came from
    date: str  # ISO 8601 in UTC, to the second; the same for all rows of a cell that were measured together
    turn: int = 0  # rows of a cell with another one were measured apart: memory did not hold all plans at once

    @property
    def cell(self) -> tuple[str, int, str, int]:
        """(model, batch, testbed, ranks): rows that were measured together."""
        return self.model, self.batch, self.testbed, self.ranks

    @property
    def key(self) -> tuple[str, int, str, int, str]:
        """The cell and the planner: a suite has one row of each."""
        return (*self.cell, self.planner)

    @cached_property
    def median_s(self) -> float:
        return median(self.measured_s)

    @cached_property
    def quartiles_s(self) -> tuple[float, float]:
        """Lower and upper quartile of the rounds; both the same for a single one."""
        low, _, high = quartiles(self.measured_s)
        return low, high

    @property
    def sent_bytes(self) -> int:
        return sum(rank.sent_bytes for rank in self.per_rank)

    @property
    def messages(self) -> int:
        return sum(rank.messages for rank in self.per_rank)

    @property
    def redundant(self) -> float:
        """Work done more than once, as a share of the work of one request on one board."""
        return redundant_share((rank.flops for rank in self.per_rank), self.flops)


def append_results(path: str | os.PathLike[str], results: Iterable[Result]) -> None:
    """Add rows to a file, all or, where the process dies meanwhile, all but the unfinished last line.

    Raises SuiteError when the file cannot be written.
    """
    lines = "".join(json.dumps({"format": FORMAT, **asdict(result)}) + "\n" for result in results)
    try:
        with open(path, "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # what an interrupted writer left of a row
            file.write(lines.encode())  # at the end: so the file was opened
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SuiteError(f"cannot write results to {path}: {error.strerror or error}") from error


def read_results(path: str | os.PathLike[str]) -> tuple[Result, ...]:
    """Rows of a file, in order; of rows with the same key the last. An unfinished last line is left out.

    Raises SuiteError when the file cannot be read, or a line of it is no row; the sentence names the line.
    """
    try:
        lines = read_lines(path, MOST_BYTES)
    except DocumentError as error:
        raise SuiteError(f"cannot read results from {path}: {error}") from error
    rows: dict[object, Result] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            result = _result(line, f"{path}, line {number}")
            rows[(result.suite, *result.key)] = result
    return tuple(rows.values())


def _result(line: str, where: str) -> Result:
    try:
        record = from_json(line, has_infinite=True)
    except DocumentError as error:
        raise SuiteError(f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        said = shown(record.get("format")) if isinstance(record, dict) else None
        raise SuiteError(f"{where} has format {said}, and this version reads format {FORMAT}")
    del record["format"]
    try:
        result = dataclass_of(Result, record, "a row")
    except DocumentError as error:
        raise SuiteError(f"{where} is no row of results: {error}") from error
    if not result.measured_s or not all(0 < seconds < math.inf for seconds in result.measured_s):
        raise SuiteError(f"{where} is no row of results: 'measured_s' must be times above 0, at least one")
    if not all(0 < rank.slowdown < math.inf for rank in result.per_rank):
        raise SuiteError(f"{where} is no row of results: the slowdown of every rank must be a number above 0")
    return result
