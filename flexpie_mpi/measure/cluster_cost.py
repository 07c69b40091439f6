"""Measuring a job in a moment: as much of its links, exchanges and one model's plans as a budget allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.budget import memory_bytes
from ..cost.origins import Origin
from ..cost.rows import TABLES
from ..cost.traces import Traces
from ..runtime.transport import Transport
from ..testbed import Testbed
from .budget import Budget, with_time_left
from .campaign import Campaign, Subject
from .cluster import testbed_of


@dataclass(frozen=True, slots=True)
class Measured:
    """The job's boards and links, the same on every rank; and on the root all rows, elsewhere none."""

    testbed: Testbed
    traces: Traces


def measure_cluster(
    transport: Transport,
    origins: Sequence[Origin],
    budget_s: float,
    subject: Subject | None = None,
    testbed: Testbed | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Measured:
    """Measure what is not known yet; called by all ranks together.

    Parameters
    ----------
    transport : Transport
    origins : sequence of Origin
        Of all ranks, by rank.
    budget_s : float
    subject : Subject, optional
        The model whose plans are to be measured; without one, links alone are.
    testbed : Testbed, optional
        The job's boards and links where they are known: then plans alone are measured.
    tell : callable
        Is told what goes on, with the time that is left.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in TABLES}
    campaign = Campaign(
        transport,
        tuple(origins),
        Budget(transport, budget_s),
        lambda table, found: rows[table].append(found),
        with_time_left(tell, budget_s),
    )
    if subject is None:
        links = campaign.links()
        testbed = testbed_of(origins, links, transport.all_gather(memory_bytes()))
    elif testbed is None:
        testbed = campaign.run([lambda: subject])
    else:
        campaign.plans(testbed, [lambda: subject])
    tables = {name: np.concatenate(found) for name, found in rows.items() if found}
    return Measured(testbed, Traces(tables, tuple(origins)))
