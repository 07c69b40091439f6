"""One request that is run over and over, and everything that is known of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.plan import Plan
from ..core.program import Program
from ..core.timeline import Timeline
from ..core.versions import versions
from ..files.cache import Cache
from ..lower.facts import PlanFacts, facts_of
from ..measure.trial import Trial, held, measure
from ..model import Model
from ..runtime.engine import Engine
from .opening import ROOT, CostSources, PlanChoice, Tell

if TYPE_CHECKING:
    from ..files.requests import Source
    from ..measure.compare import Verdict
    from ..runtime.crew import Loss
    from .choosing import Chosen, Comparison
    from .planning import Prediction


@dataclass(frozen=True, slots=True)
class RunTerms:
    """What is asked of a run: of one request over and over, or of a stream."""

    model: str  # where the model came from
    sources: CostSources  # `threads` of the session to compare with; what the rates of a given plan are predicted on
    settings: Mapping[str, Any]  # what the user asked for, to be kept with the figures
    warmup: int | None = None  # requests that are in no statistics; of a stream as many as are in flight when None
    verifies: bool = False  # whether to compare outputs with one session of the whole model
    # Of one request:
    repeat: int = 1  # requests that count
    records: bool = False  # whether to keep what every rank did when
    # Of a stream:
    output: str | None = None  # file of the outputs
    appends: bool = False  # whether to add to that file
    resumes: bool = False  # whether to go on with the stream that has begun it
    reading: str = ""  # what decides the numbers of requests beside their source
    reads_stdin: bool = False  # whether the requests come through standard input
    adapts: PlanChoice | None = None  # who plans anew when boards or links change; None where nobody should


@dataclass(frozen=True)
class TimedRun:
    """A request that was run over and over, the same on every rank but for what only the root knows."""

    source: str  # of the model
    model: Model
    plan: Plan
    programs_by_turn: tuple[tuple[Program, ...], ...]  # what the engine has lowered it to
    facts: PlanFacts
    trial: Trial
    outputs: Mapping[str, Any]  # of the last request, on the root; empty elsewhere
    hosts: Mapping[str, Sequence[int]]  # ranks by the name of their host
    settings: Mapping[str, Any]  # what the user asked for, to be kept with the figures
    versions: Mapping[str, str]
    verdict: Verdict | None = None  # of a comparison with one session of the whole model, where it was asked for
    prediction: Prediction | None = None
    raced_s: tuple[float, ...] = ()  # medians of the plans of the prediction, where they were run to choose among them
    compared: Comparison | None = None
    boards: tuple[str, ...] = ()  # names of the testbed's boards by rank, where there is one
    timeline: Timeline | None = None  # of all ranks in the typical request of the trial, where it was recorded
    losses: tuple[Loss, ...] = ()  # ranks that the job has outlived

    @property
    def typical_turn(self) -> int:
        """Number of the turn that the typical request of the trial was, where replicas take turns."""
        return (int(self.settings["warmup"]) + self.trial.typical) % self.plan.period

    @property
    def is_wrong(self) -> bool:
        """Whether outputs were compared and differ."""
        return self.verdict is not None and not self.verdict.is_equal


def stream_provenance(model: Model, source: Source, reading: str) -> dict[str, str]:
    """What a file of outputs says of its model and requests, so that the same stream can go on in it.

    `reading` is what decides the numbers of requests beside their source.
    """
    identity = source.identity
    return {
        "model": model.name,
        "model_digest": model.file_digest,
        "stream": identity and f"{identity}{reading}",
    }


def time_request(
    engine: Engine, request: Mapping[str, Any], terms: RunTerms, cache: Cache, tell: Tell, chosen: Chosen
) -> TimedRun:
    """Run the root's request over and over, by the engine of a plan that is chosen; called by all ranks together.

    Raises ModelError on every rank, when a segment cannot be run on any, or the whole model on the root.
    """
    recorder = None
    if terms.records:
        from ..measure.observed import Recorder

        recorder = Recorder(engine.transport, ROOT)
    keep = recorder.keep if recorder else None
    trial, outputs = measure(engine, request, terms.repeat, terms.warmup or 0, tell, keep)
    timeline = recorder.merged(trial.typical) if recorder else None
    if engine.model.graph.states:  # what is compared and written has nothing before it
        engine.states.reset()
        outputs = held(engine.run(request))
    verdict = None
    if terms.verifies:
        from ..measure.compare import compare_outputs

        tell("comparing with one session")
        verdict = compare_outputs(engine, request, outputs, cache=cache, threads=terms.sources.threads)
    return TimedRun(
        source=terms.model,
        model=engine.model,
        plan=engine.plan,
        programs_by_turn=engine.programs_by_turn,
        facts=facts_of(engine.plan, engine.model.graph, engine.programs),
        trial=trial,
        outputs=outputs,
        hosts=engine.transport.host_ranks(),
        settings=terms.settings,
        versions=versions(engine.transport.library),
        verdict=verdict,
        prediction=chosen.prediction,
        raced_s=chosen.measured_s,
        timeline=timeline,
    )
