"""A stream of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.plan import Plan
from ..measure.referee import Findings
from ..measure.throughput import Throughput
from ..model import Model
from ..simulate.occupancy import Occupancy


@dataclass(frozen=True)
class StreamRun:
    """Everything there is to say about a stream, on the root.

    Attributes
    ----------
    source : str
        Of the model.
    data : str
        Where the requests came from.
    stopped_by : str
        The signal that ended it; empty where it ended by itself.
    left : int
        Requests that were read, but not run, because of that signal.
    written : int or None
        Requests in the output file, earlier ones among them.
    occupancy : Occupancy or None
        What is predicted; `basis` says on what grounds, or why nothing is.
    findings : Findings or None
        Of ``--verify``.
    """

    source: str
    model: Model
    plan: Plan
    measured: Throughput
    data: str
    hosts: Mapping[str, Sequence[int]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    basis: str
    stopped_by: str = ""
    left: int = 0
    written: int | None = None
    occupancy: Occupancy | None = None
    findings: Findings | None = None
