"""What predictions stand on: boards and a cost model, and where the two came from, in words for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import TestbedError
from ..cost.file import load_cost
from ..cost.learned import LearnedCost
from ..cost.model import CostModel, Origin
from ..cost.prior import AnalyticCost
from ..cost.traces import Traces, merged
from ..measure.cluster import testbed_of
from ..testbed import Device, Testbed, switch
from .opening import CostSources, boards_of, read_boards

GIGABIT, SWITCH_S = 125e6, 50e-6
"""Port of an assumed switch: bytes per second, and seconds of a message."""

UNMEASURED = "formulas only: no measurement stands behind the prediction"


@dataclass(frozen=True, slots=True)
class PredictionInputs:
    """What predictions stand on."""

    testbed: Testbed
    cost: CostModel
    testbed_source: str  # where the testbed came from, in words
    cost_source: str  # where the cost model came from, in words
    is_here: bool = False  # whether the testbed's links are those of this job, as measured


def read_traces(sources: CostSources) -> Traces | None:
    """All rows of the files of traces; None where there are no files.

    Raises CostError when one cannot be read.
    """
    return merged(*map(Traces.read, sources.traces)) if sources.traces else None


def given_cost(sources: CostSources, traces: Traces | None) -> tuple[CostModel, str] | None:
    """The cost model of a file, or else one fitted to `traces`, and where it came from; None without either.

    Raises CostError when the file cannot be used, or the traces hold no kernel.
    """
    if sources.cost is not None:
        return load_cost(sources.cost), sources.cost
    return None if traces is None else (fit_cost(traces), f"fitted to {sources.traced}")


def inputs_of_files(sources: CostSources, ranks: int | Sequence[int] | None = None) -> PredictionInputs:
    """What predictions stand on without a job: files, or what is assumed in their place.

    The first `ranks` boards take part, or those with these numbers; they are needed where no file shows any. Raises
    CostError, TestbedError when a file cannot be used, or its testbed has fewer boards.
    """
    traces = read_traces(sources)
    cost, source = given_cost(sources, traces) or (AnalyticCost(), UNMEASURED)
    if sources.testbed is not None:
        return PredictionInputs(read_boards(sources.testbed, ranks), cost, sources.testbed, source)
    if traces is not None:
        testbed, boards = traced_testbed(traces, cost), f"as measured in {sources.traced}"
    else:
        assert ranks is not None, "the caller knows how many boards there are"
        count = ranks if isinstance(ranks, int) else max(ranks) + 1
        testbed = switch([Device(f"board{rank}") for rank in range(count)], GIGABIT, SWITCH_S)
        boards = "equal ones on a switch of 1 Gb/s are assumed"
    return PredictionInputs(boards_of(testbed, ranks), cost, boards, source)


def fit_cost(traces: Traces, tell: Callable[[str], None] = lambda text: None) -> LearnedCost:
    """A cost model fitted to traces: LightGBM, which learns it, is large and slow to start, so few ranks load it.

    Raises CostError when the traces hold no kernel.
    """
    from ..cost.fit import fit

    return fit(traces, tell)


def traced_testbed(traces: Traces, cost: CostModel) -> Testbed:
    """The boards and links that traces show, each board as slow as the cost model knows it to be.

    Raises TestbedError when they show none.
    """
    job = job_of(traces)
    return with_speeds(testbed_of(job, links_of(traces, job)), job, cost)


def job_of(traces: Traces) -> tuple[Origin, ...]:
    """Ranks of the run whose links say most about a cluster: of the most ranks, and the last of these.

    Raises TestbedError when no rank has measured.
    """
    jobs: dict[str, list[Origin]] = {}
    for origin in traces.origins:
        jobs.setdefault(origin.job, []).append(origin)
    whole = [sorted(job, key=lambda origin: origin.rank) for job in jobs.values()]
    whole = [job for job in whole if [origin.rank for origin in job] == list(range(len(job)))]
    if not whole:
        raise TestbedError("the traces name no ranks that measured, so they show no boards: give --testbed")
    linked = {traces.origins[number].job for number in traces.tables["link"]["source"]}
    best = max(range(len(whole)), key=lambda index: (whole[index][0].job in linked, len(whole[index]), index))
    return tuple(whole[best])


def links_of(traces: Traces, job: Sequence[Origin]) -> np.ndarray:
    """Rows about the links of one run, whose `source` and `target` are its ranks."""
    rank = {origin: origin.rank for origin in job}
    ranks = np.array([rank.get(origin, -1) for origin in traces.origins], int)
    rows = traces.tables["link"].copy()
    for end in ("source", "target"):
        rows[end] = ranks[rows[end]]
    known: np.ndarray = rows[(rows["source"] >= 0) & (rows["target"] >= 0)]
    return known


def with_speeds(testbed: Testbed, origins: Sequence[Origin], cost: CostModel) -> Testbed:
    """The testbed, each device as much slower than the cost model's fastest as measurements show."""
    devices = [
        replace(device, slowdown=device.slowdown * (cost.device_factor(origin) or 1.0))
        for device, origin in zip(testbed.devices, origins, strict=True)
    ]
    return replace(testbed, devices=tuple(devices))
