"""A verb's work inside an MPI job: all ranks begin together and end together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from ..core.errors import FlexPieError
from ..files.cache import Cache
from ..runtime.mpi import MPITransport, start, stop
from ..runtime.transport import on_every_rank
from ..session.opening import ROOT
from .options import cache_of, start_log
from .output import WRONG_INPUT, Progress, sentence


@dataclass
class RankPart:
    """One rank's part of a verb. Whatever only the root can find out is raised on every rank."""

    transport: MPITransport
    args: argparse.Namespace
    cache: Cache = field(init=False)
    progress: Progress = field(init=False)  # seen on the root only

    def __post_init__(self) -> None:
        start_log(self.args.verbose, self.transport.rank)
        self.cache = on_every_rank(self.transport, partial(cache_of, self.args))
        self.progress = Progress(sys.stderr if self.transport.rank == ROOT else None, self.transport.life.begins)


def run_job(deadline_s: float, work: Callable[[MPITransport], int]) -> NoReturn:
    """Start MPI, do `work` on every rank, and leave with the exit code it returns.

    An error that all ranks raise is printed once; one that a single rank raises ends the others. Raises TransportError
    when MPI cannot be started. Always raises SystemExit where it can.
    """
    transport = start(deadline_s)
    try:
        code = work(transport)
        transport.close()
    except FlexPieError as error:
        stop(transport, WRONG_INPUT, sentence(error))
    stop(transport, code)
