"""One engine after another in a stream: the next is made beside the one that runs, by threads of all ranks.

What takes time, programs, weights, sessions and channels, is there when the stream ends between two requests, and the
other engine goes on with what is left. Where memory does not hold both, the other one is made when the first is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..core.errors import FlexPieError, PlanError
from ..core.plan import Plan
from ..runtime.engine import Engine, settle_pace
from ..runtime.transport import Control, wait_for_work
from .choosing import Chosen
from .opening import ROOT

log = logging.getLogger(__name__)


class Succession:
    """One rank's end of it; made and closed by all ranks together.

    Parameters
    ----------
    engine : Engine
        The one that runs.
    chosen : Chosen
        What it was made for.
    make : callable
        Makes the engine of another plan, with the states of an engine, by a control plane if one is given.
    room : callable
        Raises PlanError on every rank where boards do not hold what was chosen beside so many bytes, by rank.
    turn : callable
        Ends the stream between two requests, on the root.
    """

    def __init__(
        self,
        engine: Engine,
        chosen: Chosen,
        make: Callable[..., Engine],
        room: Callable[..., int],
        turn: Callable[[], None],
    ) -> None:
        self.engine = engine
        self._chosen, self._make, self._room, self._turn = chosen, make, room, turn
        self._transport = engine.transport
        self._wanted: Plan | None = None  # on the root: it is being made, or waits to be taken
        self._made: Engine | Plan | None = None
        self._transport.listen(self._work)

    def ask(self, plan: Plan) -> None:
        """Have the engine of a plan made; by any thread of the root, in vain where another one is on its way."""
        if self._wanted is None:
            self._wanted = plan
            self._transport.call()

    def take(self) -> None:
        """Let the engine that was made be the one that runs."""
        wait_for_work(self._transport, self._is_there, "a turn to a plan")
        before, made = self.engine, self._made
        before.close()
        if isinstance(made, Plan):
            made = self._made_alone(made)
        assert made is not None, "it is there"
        self.engine, self._made, self._wanted = made, None, None
        self._transport.patience.predicted_s = None  # until all of it is warm

    def close(self) -> None:
        """Make no more."""
        self._transport.listen(None)
        if isinstance(self._made, Engine):
            self._made.close()

    def _work(self, control: Control) -> None:
        """Make the engine that the root has been asked for, beside the stream."""
        plan = control.broadcast(self._wanted, ROOT)
        try:
            self._made = self._made_beside(plan, control)
        except FlexPieError as error:  # the same on all ranks
            self._say("the other plan cannot be run: %s", error)
            self._wanted = None
            return
        if control.rank == ROOT:
            self._turn()

    def _made_beside(self, plan: Plan, control: Control) -> Engine | Plan:
        """The engine of a plan; the plan again where there is no room for both."""
        try:
            self._room(replace(self._chosen, plan=plan), beside=self.engine.held_bytes(), control=control)
        except PlanError as error:
            self._say("the stream pauses while the other plan is made ready, as memory does not hold both: %s", error)
            return plan
        made = self._make(plan, states=self.engine.states, control=control)
        if not made.model.graph.states:  # which are in use
            settle_pace([made], control)
        return made

    def _made_alone(self, plan: Plan) -> Engine:
        """The engine of a plan, or of the one before where it cannot be run."""
        before = self.engine
        try:
            self._room(replace(self._chosen, plan=plan))
            made = self._make(plan, states=before.states)
        except FlexPieError as error:  # the same on all ranks
            self._say("the other plan cannot be run: %s", error)
            made = self._make(before.plan, states=before.states)
        settle_pace([made])
        return made

    def _is_there(self) -> bool:
        self._transport.idle(lambda: None)
        return self._made is not None

    def _say(self, sentence: str, error: FlexPieError) -> None:
        if self._transport.rank == ROOT:
            log.warning(sentence, error)
