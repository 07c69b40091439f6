"""What predictions stand on: boards and a cost model, and where the two came from, in words for people."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from ..core.errors import TestbedError
from ..cost.model import CostModel
from ..cost.origins import Origin
from ..cost.prior import AnalyticCost
from ..cost.traces import Traces, merged
from ..measure.cluster import testbed_of
from ..report.units import count_of
from ..testbed import Device, Testbed, switch
from ..testbed import read as read_testbed
from .parser import UsageError

GIGABIT, SWITCH_S = 125e6, 50e-6
"""Port of an assumed switch: bytes per second, and seconds of a message."""

UNMEASURED = "formulas only: no measurement stands behind the prediction"


@dataclass(frozen=True, slots=True)
class Basis:
    """What predictions stand on.

    Attributes
    ----------
    testbed : Testbed
    cost : CostModel
    boards, source : str
        Where the testbed and the cost model came from.
    is_here : bool
        Whether the testbed's links are those of this job, as measured.
    """

    testbed: Testbed
    cost: CostModel
    boards: str
    source: str
    is_here: bool = False


def basis_of_files(args: argparse.Namespace) -> Basis:
    """The basis that a command line without a job gives: its files, or what is assumed in their place.

    Raises
    ------
    CostError, TestbedError
        When a file cannot be used, or its testbed has fewer boards than ``--ranks``.
    UsageError
        When nothing says for how many boards.
    """
    traces = read_traces(args.traces)
    cost, source = given_cost(args, traces) or (AnalyticCost(), UNMEASURED)
    if args.testbed is not None:
        testbed, boards = read_testbed(args.testbed), args.testbed
    elif traces is not None:
        testbed, boards = traced_testbed(traces, cost), f"as measured in {', '.join(args.traces)}"
    elif args.ranks is not None:
        testbed = switch([Device(f"board{rank}") for rank in range(args.ranks)], GIGABIT, SWITCH_S)
        boards = "equal ones on a switch of 1 Gb/s are assumed"
    else:
        raise UsageError("plan needs to know for how many boards: give --ranks, --testbed or --traces")
    return Basis(first_ranks(testbed, args.ranks or testbed.ranks), cost, boards, source)


def first_ranks(testbed: Testbed, ranks: int) -> Testbed:
    """The first `ranks` of a testbed.

    Raises
    ------
    TestbedError
        When it has fewer.
    """
    if ranks > testbed.ranks:
        raise TestbedError(
            f"testbed '{testbed.name}' has {count_of(testbed.ranks, 'board')} and {count_of(ranks, 'rank')} are asked "
            "for: take fewer ranks, or describe more boards"
        )
    return testbed.subset(ranks)


def read_traces(paths: Sequence[str] | None) -> Traces | None:
    """All rows of trace files; None when there are none.

    Raises
    ------
    CostError
        When one cannot be read.
    """
    return merged(*map(Traces.read, paths)) if paths else None


def given_cost(args: argparse.Namespace, traces: Traces | None) -> tuple[CostModel, str] | None:
    """The cost model of ``--cost``, or else one fitted to traces, and where it came from.

    Raises
    ------
    CostError
        When the file cannot be used, or the traces hold no kernel.
    """
    if args.cost is not None:
        return late("cost.file").load_cost(args.cost), args.cost
    if traces is not None:
        return late("cost.fit").fit(traces), f"fitted to {', '.join(args.traces)}"
    return None


def late(module: str) -> Any:
    """A module of this package that is imported only where it is needed.

    What learns costs loads LightGBM, which is slow to start and large; of a job's ranks only the root needs it.
    """
    return import_module(f"{__package__.rpartition('.')[0]}.{module}")


def job_of(traces: Traces) -> tuple[Origin, ...]:
    """Ranks of the run whose links say most about a cluster: of the most ranks, and the last of these.

    Raises
    ------
    TestbedError
        When no rank has measured.
    """
    jobs: dict[str, list[Origin]] = {}
    for origin in traces.origins:
        jobs.setdefault(origin.job, []).append(origin)
    whole = [sorted(job, key=lambda origin: origin.rank) for job in jobs.values()]
    whole = [job for job in whole if [origin.rank for origin in job] == list(range(len(job)))]
    if not whole:
        raise TestbedError("the traces name no ranks that measured, so they show no boards: give --testbed")
    linked = {traces.origins[number].job for number in traces.tables["link"]["source"]}
    best = max(range(len(whole)), key=lambda place: (whole[place][0].job in linked, len(whole[place]), place))
    return tuple(whole[best])


def traced_testbed(traces: Traces, cost: CostModel) -> Testbed:
    """The boards and links that traces show.

    Raises
    ------
    TestbedError
        When they show none.
    """
    job = job_of(traces)
    return with_speeds(testbed_of(job, links_of(traces, job)), job, cost)


def links_of(traces: Traces, job: Sequence[Origin]) -> np.ndarray:
    """Rows about the links of one run, `source` and `target` being its ranks."""
    rank = {origin: origin.rank for origin in job}
    ranks = np.array([rank.get(origin, -1) for origin in traces.origins], int)
    rows = traces.tables["link"].copy()
    for end in ("source", "target"):
        rows[end] = ranks[rows[end]]
    found: np.ndarray = rows[(rows["source"] >= 0) & (rows["target"] >= 0)]
    return found


def with_speeds(testbed: Testbed, origins: Sequence[Origin], cost: CostModel) -> Testbed:
    """The testbed, each board as much slower than the cost model's fastest as measurements show."""
    devices = [
        replace(device, slowdown=device.slowdown * (cost.device_factor(origin) or 1.0))
        for device, origin in zip(testbed.devices, origins, strict=True)
    ]
    return replace(testbed, devices=tuple(devices))
