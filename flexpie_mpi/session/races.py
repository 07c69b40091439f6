"""What races of plans have shown, and what the cache keeps of it for the next start of the same job."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from ..core.document import dataclass_of, from_json, read_document
from ..core.graph import Graph
from ..core.plan import MOST_BYTES, Plan
from ..files.atomic import write_text
from ..files.cache import Cache
from ..measure.trial import Trial
from .opening import CostSources, PlanChoice

log = logging.getLogger(__name__)

RACES = "races"
"""Kind of cache entries."""

_MOST_BYTES = 1 << 30
"""Of a file on which a race depends: more than any that is read."""

VERSION = 1
"""Of what is kept, and of what `auto` can find: what an earlier version has chosen is not run."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A plan that was run to choose among several."""

    planner: str  # who made it
    seconds: float  # the median of its requests
    requests: int


@dataclass(frozen=True, slots=True)
class Race:
    """Which plans were run before the one that is used, and when; or why none were, in words."""

    note: str
    entrants: tuple[Entrant, ...] = ()
    kept: int = 0  # place of the one that is used, where there are any

    @classmethod
    def of(cls, plans: Sequence[Plan], trials: Sequence[Trial], kept: int) -> Race:
        """The race of plans that were run just now, of which the one in place `kept` is used."""
        entrants = (
            Entrant(str(plan.provenance.get("planner", "")), trial.median_s, len(trial.latencies_s))
            for plan, trial in zip(plans, trials, strict=True)
        )
        return cls("just now", tuple(entrants), kept)


@dataclass(frozen=True, slots=True)
class Winner:
    """The plan that a race has shown to be the fastest, as JSON text, and that race."""

    plan: str
    race: Race


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


class KeptRaces:
    """The winners that the cache keeps; on the root only. What cannot be read or written is raced for anew."""

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache, self._key = cache, key

    def winner(self) -> tuple[Plan, Race] | None:
        """The plan that won an earlier race, and that race."""
        path = self._cache.find(RACES, self._key)
        try:
            if path is None:
                return None
            won = dataclass_of(Winner, from_json(read_document(path, MOST_BYTES)), "the race")
            return Plan.from_json(won.plan), replace(won.race, note="at an earlier start")
        except Exception as error:  # whatever is wrong with a file
            self.forget(error)
            return None

    def forget(self, error: Exception) -> None:
        """Remove a winner that is of no use."""
        log.warning("plans are raced anew: %s", error)
        self._cache.discard(RACES, self._key)

    def keep(self, plan: Plan, race: Race) -> None:
        """Put a newer winner in place of the older."""
        text = json.dumps(asdict(Winner(plan.to_json(), race)))
        try:
            self._cache.discard(RACES, self._key)
            self._cache.store(RACES, self._key, partial(write_text, text=text))
        except Exception as error:  # as above
            log.warning("the fastest plan is not kept for the next start: %s", error)
