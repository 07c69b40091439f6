"""What races of plans have shown, and what the cache keeps of it for the next start of the same job."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.document import DocumentError, dataclass_of, from_json, read_document
from ..core.graph import Graph
from ..core.plan import MOST_BYTES, Plan
from ..core.quartiles import Quartiles, quartiles
from ..files.atomic import write_text
from ..files.cache import Cache, NextStart
from ..measure.trial import Trial
from ..measure.verdict import ratios
from .opening import CostSources, PlanChoice

if TYPE_CHECKING:
    from ..planner import PricedPlan


RACES = "races"
"""Kind of cache entries."""

_MOST_BYTES = 1 << 30
"""Of a file on which a race depends: more than any that is read."""

VERSION = 3
"""Of what is kept, and of what `auto` can find: what an earlier version has chosen is not run."""

MOST = 8
"""So many races, and so many figures of what a plan took, are kept."""

WAIT_S = 600.0
"""After which a race that may say something else is held again; each time after four times as long."""

APART = 1.2
"""What a plan took is another figure where even the nearest quartiles are further apart."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A plan that was run to choose among several."""

    planner: str  # who made it
    seconds: float  # the median of its requests
    requests: int
    predicted_s: float
    quartiles_s: Quartiles
    ratio: Quartiles  # of its latency over that of the plan that is used, round by round


@dataclass(frozen=True, slots=True)
class Race:
    """Which plans were run before the one that is used, and when; or why none were, in words."""

    note: str
    entrants: tuple[Entrant, ...] = ()
    kept: int = 0  # place of the one that is used, where there are any
    is_clear: bool = True  # whether another race would most likely say the same
    held_s: float = 0.0  # when, in seconds since 1970

    @classmethod
    def of(cls, tried: Sequence[tuple[PricedPlan, Trial]], kept: int, *, is_clear: bool) -> Race:
        """The race of plans that were run just now, of which the one in place `kept` is used."""
        kept_s = tried[kept][1].latencies_s
        entrants = (
            Entrant(
                str(priced.plan.provenance.get("planner", "")),
                trial.median_s,
                len(trial.latencies_s),
                priced.seconds,
                quartiles(trial.latencies_s),
                ratios(trial.latencies_s, kept_s),
            )
            for priced, trial in tried
        )
        return cls("just now", tuple(entrants), kept, is_clear, time.time())

    @property
    def winner(self) -> Entrant:
        """The one that is used."""
        return self.entrants[self.kept]

    @property
    def is_sure(self) -> bool:
        """Whether it was clear, and said what was predicted."""
        return self.is_clear and all(each.predicted_s >= self.winner.predicted_s for each in self.entrants)


@dataclass(frozen=True, slots=True)
class Winner:
    """The plan that races have shown to be the fastest, as JSON text, and all that says whether it still is."""

    plan: str
    races: tuple[Race, ...]  # the newest first: it counts
    # What the plan took in races and afterwards, the newest first, and whether it was last seen to take another time
    taken_s: tuple[Quartiles, ...]
    is_doubted: bool = False

    @property
    def is_due(self) -> bool:
        """Whether the next start shall hold a race again, where it may.

        That is where the plan took another time since, and where the newest race was not clear, or has overruled the
        prediction, as a machine that is busy for a while lets a race do. Then each race waits four times as long as the
        one before it.
        """
        newest, wait_s = self.races[0], WAIT_S * 4 ** (len(self.races) - 1)
        return self.is_doubted or not (newest.is_sure or 0 <= time.time() - newest.held_s < wait_s)

    def after(self, race: Race, plan: Plan) -> Winner:
        """What is known after another race, from which on `plan` is used."""
        earlier_s = self.taken_s if plan.segments == Plan.from_json(self.plan).segments else ()
        taken_s = (race.winner.quartiles_s, *earlier_s)
        return Winner(plan.to_json(), (race, *self.races)[:MOST], taken_s[:MOST])

    def after_run(self, seconds: Quartiles) -> Winner:
        """What is known after the plan took so long; it is doubted where it has never been seen to do so."""
        if any(_is_near(seconds, each) for each in self.taken_s):
            return self
        return replace(self, taken_s=(seconds, *self.taken_s)[:MOST], is_doubted=True)


def _is_near(one: Quartiles, other: Quartiles) -> bool:
    return one[0] <= APART * other[2] and other[0] <= APART * one[2]


def race_key(cluster: str, library: str, graph: Graph, choice: PlanChoice, sources: CostSources) -> str:
    """Hex digest of all that a race's result holds for.

    These are the digest of the job's cluster, and its library of messages; the model; who plans, for which form between
    segments; and what files say of boards and costs. What the cache keeps of costs is not among them: it grows, and the
    plan shall stay.

    Raises DocumentError when a file cannot be read.
    """
    parts = (VERSION, cluster, library, graph.digest, replace(choice, autotune=1), sources.boundaries)
    state = hashlib.blake2b(repr(parts).encode(), digest_size=16)
    for path in (sources.testbed, sources.cost, *(sources.traces or ())):
        content = b"" if path is None else read_document(path, _MOST_BYTES)
        state.update(hashlib.blake2b(content).digest())
    return state.hexdigest()


class KeptRaces(NextStart):
    """The winners that the cache keeps; on the root only. What cannot be read or written is raced for anew."""

    def __init__(self, cache: Cache, key: str) -> None:
        super().__init__(cache, key, "the fastest plan", "plans are raced")

    def winner(self) -> Winner | None:
        """What earlier races have shown."""
        return self.read(RACES, _read_winner)

    def keep(self, plan: Plan, race: Race) -> None:
        """Put the plan that is used after a newer race in place of the older."""
        self._put((self.winner() or Winner(plan.to_json(), (), ())).after(race, plan))

    def ran(self, seconds: Quartiles) -> None:
        """Keep what the plan took in a run, where that was not known."""
        won = self.winner()
        if won is not None and (known := won.after_run(seconds)) != won:
            self._put(known)

    def _put(self, won: Winner) -> None:
        self.put(RACES, partial(write_text, text=json.dumps(asdict(won))))


def _read_winner(path: Path) -> Winner:
    won = dataclass_of(Winner, from_json(read_document(path, MOST_BYTES)), "the race")
    races = tuple(replace(race, note="at an earlier start") for race in won.races)
    if not races or not all(0 <= race.kept < len(race.entrants) for race in races):
        raise DocumentError("the race has no winner")
    Plan.from_json(won.plan)
    return replace(won, races=races)
