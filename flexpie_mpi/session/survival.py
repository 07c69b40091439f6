"""What a rank keeps from one attempt at a job to the next, where the job outlives ranks that are lost.

Each attempt does the whole work with those that are left, and finds here what need not be done again. The root keeps
the model, its requests, and what has become of them; and every rank that works knows as much of the job as lets it
take the root's place. Engines and executors know nothing of all that: an attempt ends in the midst of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core.errors import TransportError, count_of
from ..core.plan import Plan
from ..model import Model
from ..runtime.mpi import Failure
from ..runtime.transport import Transport
from .choosing import Chosen
from .opening import ROOT, PlanChoice

if TYPE_CHECKING:
    from ..files.requests import Source
    from ..runtime.crew import Crew, Loss
    from .inputs import PredictionInputs
    from .streaming import StreamHandler, StreamRun
    from .timing import TimedRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """What all ranks that work know of a job that has begun."""

    plan: Plan
    places: tuple[int, ...]  # of the ranks that it is for; see :class:`flexpie_mpi.runtime.crew.Crew`
    inputs: PredictionInputs | None  # what it was chosen on; None where nothing had to be predicted
    is_stream: bool

    def known(self, places: tuple[int, ...]) -> PredictionInputs | None:
        """What the next plan is chosen on, when only the ranks in these places are left."""
        left = [self.places.index(place) for place in places]
        return self.inputs and replace(self.inputs, testbed=self.inputs.testbed.only(left))


@dataclass
class Kept:
    """What one rank keeps; as a context, of one attempt: what is open is closed at its end, unless by a loss.

    `model`, `source`, `request`, `handler`, `run` and `say` are the root's.
    """

    crew: Crew | None = None  # None where the job ends with the first rank that is lost
    course: Course | None = None  # None before the job begins
    chosen: Chosen | None = None
    model: Model | None = None
    source: Source | None = None
    request: Mapping[str, Any] | None = None
    handler: StreamHandler | None = None
    run: StreamRun | TimedRun | None = None  # that which is over
    say: Callable[[], None] | None = None  # tells the user of it; None where nothing is left to tell
    stack: ExitStack = field(default_factory=ExitStack)
    _told: int = 0  # losses

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.crew is not None and isinstance(error, Failure):
            return
        self.stack.close()
        if isinstance(error, (Failure, TransportError)) and self.handler is not None and self.handler.output:
            log.warning("--resume %s goes on behind the last request that was written", self.handler.output)

    @property
    def losses(self) -> list[Loss] | None:
        """Those so far; None where none is outlived."""
        return self.crew.losses if self.crew else None

    @property
    def places(self) -> tuple[int, ...]:
        """Those of the ranks that are left; empty while none is lost."""
        return self.crew.places if self.crew and self.course else ()

    def catch_up(self, transport: Transport) -> Course | None:
        """What is known of a job that has begun, also on ranks that come into it; None of one that begins now."""
        if self.crew is None:
            return None
        knowing = transport.all_gather(self.course is not None)
        if True in knowing:
            self.course = transport.broadcast(self.course, knowing.index(True))
        for loss in self.crew.losses[self._told :] if transport.rank == ROOT else ():
            log.warning("%s", sentence(loss))
        self._told = len(self.crew.losses)
        return self.course

    def set_out(self, transport: Transport, chosen: Chosen, *, is_stream: bool) -> None:
        """Keep what was chosen, on all ranks, before the first request."""
        if self.crew is not None:
            inputs = transport.broadcast(chosen.inputs, ROOT)
            planner = chosen.plan.provenance.get("planner", "a plan from outside")
            for loss in self.crew.losses[-1:]:
                loss.plan = f"{planner} on {count_of(chosen.plan.ranks, 'rank')}"
            self.course = Course(chosen.plan, self.crew.places, inputs, is_stream)
            self.chosen = chosen
            transport.barrier()  # no request is through before all know of it

    def same_plan(self) -> Chosen | None:
        """The plan as before, where spares have taken all places of those that were lost."""
        if self.course is None or self.course.places != self.places:
            return None
        known = self.chosen is not None and self.chosen.plan == self.course.plan
        return self.chosen if known else Chosen(self.course.plan)

    def choice(self, choice: PlanChoice) -> PlanChoice:
        """The same choice for the ranks that are left: what was given for each rank is given for these."""
        if self.course is None:
            return choice
        weights = choice.weights and [choice.weights[place] for place in self.places]
        return replace(choice, weights=weights, grid=None, autotune=1)


def sentence(loss: Loss) -> str:
    """A loss, for people."""
    lost = " and ".join(f"rank {rank} on '{host}'" for rank, host in zip(loss.ranks, loss.hosts, strict=True))
    left = ", ".join(f"{rank}{' (spare so far)' if rank in loss.spares else ''}" for rank in loss.left)
    were = "was" if len(loss.ranks) == 1 else "were"
    return f"{lost} {were} lost: " + (f"rank {left} goes on" if len(loss.left) == 1 else f"ranks {left} go on")
