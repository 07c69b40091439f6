"""A plan with what it is predicted to take, and what it took when it was run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..planner import PricedPlan, Search
from ..testbed import Testbed


@dataclass(frozen=True, slots=True)
class Prediction:
    """Plans with what they are predicted to take, and what the prediction stands on.

    Attributes
    ----------
    planner : str
    search : Search
    testbed : Testbed
    boards, source : str
        Where the testbed and the cost model came from.
    is_measured : bool
        Whether the cost model comes from measurements.
    prices, extrapolated : int
        Prices that the cost model was asked for, and those of them beyond what was measured.
    chosen : int
        The plan that is used, among those of the search.
    """

    planner: str
    search: Search
    testbed: Testbed
    boards: str
    source: str
    is_measured: bool
    prices: int
    extrapolated: int
    chosen: int = 0

    @property
    def best(self) -> PricedPlan:
        """The plan that is used."""
        return self.search.plans[self.chosen]

    @property
    def is_searched(self) -> bool:
        """Whether there was anything to choose; rules choose nothing."""
        return self.search.problem is not None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan's run, segment by segment.

    Attributes
    ----------
    compute_s : sequence of float
        Of the slowest rank of every segment.
    exchange_s : sequence of float
        Of the exchange before every segment, and of the one that brings the outputs to the root.
    latency_s : float
    added : str
        Where the measurements were added to, or why they were not.
    """

    compute_s: Sequence[float]
    exchange_s: Sequence[float]
    latency_s: float
    added: str
