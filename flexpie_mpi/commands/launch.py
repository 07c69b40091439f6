"""What a process knows of its job before MPI is started."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..core.errors import FlexPieError

WRONG_INPUT = 2
"""Exit code for everything that a FlexPieError says."""

_RANK = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def launcher_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's rank as the launcher gives it; None without a launcher.

    >>> launcher_rank({"PMI_RANK": "3"}), launcher_rank({})
    (3, None)
    """
    found = (environment.get(name, "") for name in _RANK)
    return next((int(rank) for rank in found if rank.isdecimal()), None)


def sentence(error: FlexPieError) -> str:
    """An error in one line, as the command prints it."""
    lines = Exception.__str__(error).split()  # onnxruntime breaks its own; what else cannot be shown is escaped
    return f"flexpie-mpi: error: {FlexPieError(' '.join(lines))}"
