"""A verb's work inside an MPI job: all ranks begin together and end together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from ..core.errors import FlexPieError
from ..report.progress import Progress
from ..runtime.mpi import MPITransport, start, stop
from ..runtime.transport import Transport, agree
from .launch import WRONG_INPUT, sentence

T = TypeVar("T")

ROOT = 0
"""The rank that reads and writes files."""


@dataclass
class RankPart:
    """One rank's part of a verb. Whatever only the root can find out is raised on every rank.

    Attributes
    ----------
    transport : MPITransport
    args : Namespace
    progress : Progress
        Seen on the root only.
    """

    transport: MPITransport
    args: argparse.Namespace
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(sys.stderr if self.transport.rank == ROOT else None)


def run_job(deadline_s: float, work: Callable[[MPITransport], int]) -> NoReturn:
    """Start MPI, do `work` on every rank, and leave with the exit code it returns.

    An error that all ranks raise is printed once; one that a single rank raises ends the others.

    Raises
    ------
    TransportError
        When MPI cannot be started.
    SystemExit
        Always when it can.
    """
    transport = start(deadline_s)
    try:
        code = work(transport)
        transport.close()
    except FlexPieError as error:
        stop(transport, WRONG_INPUT, sentence(error))
    stop(transport, code)


def on_every_rank(transport: Transport, function: Callable[[], T]) -> T:
    """Each rank's result of `function`; an error on any of them is raised on all.

    Raises
    ------
    FlexPieError
        What `function` raised on the lowest rank where it did.
    """
    result: list[T] = []
    error = None
    try:
        result.append(function())
    except FlexPieError as raised:
        error = raised
    agree(transport, error)
    return result[0]
