"""A verb's work inside an MPI job: all ranks begin together and end together."""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from ..core.errors import FlexPieError
from ..files.cache import Cache
from ..runtime.crew import Crew, LostError, refusal
from ..runtime.mpi import Failure, MPITransport, start, stop
from ..runtime.transport import on_every_rank
from ..session.opening import ROOT
from .options import cache_of, start_log
from .output import WRONG_INPUT, Progress, sentence

log = logging.getLogger(__name__)


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
        self.progress = Progress(sys.stderr if self.transport.rank == ROOT else None, self._begins)

    def _begins(self, what: str) -> None:
        self.transport.life.begins(what)
        if what:
            log.info("%s", what)


def run_job(deadline_s: float, work: Callable[[MPITransport], int]) -> NoReturn:
    """Start MPI, do `work` on every rank, and leave with the exit code it returns.

    An error that all ranks raise is printed once; one that a single rank raises ends the others. Raises TransportError
    when MPI cannot be started. Always raises SystemExit where it can.
    """
    transport = start(deadline_s)
    try:
        _work(transport, work)
    except Failure:
        if refusal():
            raise
        transport.give_up(
            "a rank was lost: infer --elastic, started like this, would go on without it, and --resume goes on behind "
            "what was written"
        )


def run_elastic_job(crew: Crew, work: Callable[[MPITransport], int]) -> NoReturn:
    """As :func:`run_job`, in a job that outlives its ranks: after a loss those that are left do `work` anew.

    What need not be done again `work` knows by itself; see :mod:`flexpie_mpi.session.survival`.
    """
    while True:
        with suppress(LostError):
            _attempt(crew, work)
        crew.regroup()
        gc.collect()  # what was at work takes memory that the next attempt may need


def _attempt(crew: Crew, work: Callable[[MPITransport], int]) -> NoReturn:
    """Do the work to the end of the job; raises LostError where that is not to be."""
    with crew.noticing():
        transport = crew.assemble()
        if transport is None:
            crew.stand_by()
        if crew.code is not None:  # it was the end of the job that went wrong
            stop(transport, crew.code)
        _work(transport, partial(_worked, crew, work))


def _work(transport: MPITransport, work: Callable[[MPITransport], int]) -> NoReturn:
    try:
        code = work(transport)
        transport.close()
    except FlexPieError as error:
        stop(transport, WRONG_INPUT, sentence(error))
    stop(transport, code)


def _worked(crew: Crew, work: Callable[[MPITransport], int], transport: MPITransport) -> int:
    """The exit code, which the crew gets to know."""
    crew.code = work(transport)
    return crew.code
