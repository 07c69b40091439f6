"""What the exchanges of a job move, as rows of a trace that wait for their seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.program import Program
from ..cost.links import job_transfers
from ..cost.rows import EXCHANGE_TRACE
from ..testbed import Testbed


def exchange_rows(programs: Sequence[Program], testbed: Testbed) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of a job's exchanges, and a row of `EXCHANGE_TRACE` for each with what it moves.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    testbed : Testbed
    """
    numbers, described = job_transfers(programs, testbed)
    rows = np.zeros(len(numbers), EXCHANGE_TRACE)
    for name in described.dtype.names or ():
        rows[name] = described[name]
    return numbers, rows
