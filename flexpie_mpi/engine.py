"""The engine: a model laid over the ranks of a job by a plan, ready to run requests."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .cache import Cache
from .errors import DataError, FlexPieError, PlanError, ProgramError
from .lower import digest, lower
from .model import Model, load
from .plan import Plan
from .program import Program
from .runtime.executor import Executor
from .runtime.kernels import KernelOptions, make_kernel
from .runtime.pacing import Pacer, settle
from .runtime.transport import Transport, agree, on_root
from .runtime.weights import WeightTraffic, distribute
from .timeline import Timeline


@dataclass(frozen=True, slots=True)
class RankFacts:
    """What one rank holds and sends, in bytes; messages and sent bytes are per request."""

    rank: int
    weight_bytes: int
    arena_bytes: int
    peak_rss_bytes: int
    sent_bytes: int
    messages: int
    traffic: WeightTraffic


def load_shared(
    transport: Transport,
    source: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    cache: Cache | None = None,
    batch: int = 1,
) -> Model:
    """The model of a file or ``builtin:NAME``, on every rank: the root reads it, the others get it without weights.

    Parameters as of :func:`flexpie_mpi.model.load`.

    Raises
    ------
    ModelError
        On every rank, when the root cannot read it.
    """
    model = on_root(transport, lambda: load(source, shapes or {}, cache, batch))
    skeleton = transport.broadcast(model.skeleton() if model else None)
    return model or Model.from_skeleton(skeleton)


class Engine:
    """A model spread over the ranks of a job; made, run and closed by all of them together.

    Parameters
    ----------
    transport : Transport
    model : Model
        As :func:`load_shared` gives it: with its weights on the root.
    plan : Plan
        The root's counts; it is broadcast.
    cache : Cache, optional
        Where this rank keeps its slices of the weights.
    threads : int
        onnxruntime threads of this rank.
    slowdown : float
        How many times slower this rank computes than it could, to stand for a slower board.

    Raises
    ------
    PlanError
        When the plan does not fit the model or the job.
    ModelError
        When onnxruntime refuses a segment on any rank.
    TestbedError
        When the slowdown of any rank is not a number above 0.
    """

    def __init__(
        self,
        transport: Transport,
        model: Model,
        plan: Plan,
        *,
        cache: Cache | None = None,
        threads: int = 1,
        slowdown: float = 1.0,
    ) -> None:
        self.transport = transport
        self.model = model
        self.plan = Plan.from_json(transport.broadcast(plan.to_json()))
        self.programs = _lower_alike(transport, self.plan, model)
        self.program = self.programs[transport.rank]
        cache = cache or Cache.default()
        self._weights, self.traffic = distribute(transport, model, self.program.weights, cache)
        self._executor, self.pacer = self._prepare(KernelOptions(threads), slowdown)

    def run(self, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Outputs of one request by name, on the root; empty elsewhere. The next run overwrites them.

        Parameters
        ----------
        inputs : mapping of str to array
            Every input of the graph with its shape and type, on the root; ignored elsewhere.

        Raises
        ------
        DataError
            On the root, when an input is missing or of another shape or type.
        """
        is_root = self.transport.rank == self.plan.root
        return self._executor.run(self._checked(inputs or {}) if is_root else {})

    def stream(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Outputs of each request in turn, on the root; empty dictionaries elsewhere, as many.

        Only the root's `requests` are read; the others' may be empty.
        """
        source = iter(requests)
        is_root = self.transport.rank == self.plan.root
        while True:
            request = next(source, None) if is_root else None
            if not self.transport.broadcast(request is not None, self.plan.root):
                return
            yield self.run(request)

    def close(self) -> None:
        """Give sessions, buffers and channels back; only `facts` can be asked then."""
        self._executor.close()

    @property
    def began_s(self) -> float:
        """When the last request began on this rank, by its ``time.perf_counter``."""
        return self._executor.began_s

    def timeline(self) -> Timeline:
        """Where the last request's time went on this rank."""
        return self._executor.timeline()

    def facts(self) -> RankFacts:
        """Memory and traffic of this rank."""
        sends = self.program.sends
        return RankFacts(
            rank=self.program.rank,
            weight_bytes=weight_bytes(self.model, self.program),
            arena_bytes=self.program.arena.nbytes,
            peak_rss_bytes=peak_rss_bytes(),
            sent_bytes=sum(message.nbytes for message in sends),
            messages=len(sends),
            traffic=self.traffic,
        )

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's inputs, each a tensor of its shape and type; numpy would stretch or convert others silently."""
        graph = self.model.graph
        missing = [name for name in graph.inputs if name not in inputs]
        if missing:
            raise DataError(f"input '{missing[0]}' is missing: the model needs {', '.join(graph.inputs)}")
        for name in graph.inputs:
            value, array = graph.value(name), inputs[name]
            if value.is_opaque:
                continue
            shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
            if shape != value.shape or str(dtype) != value.dtype:
                raise DataError(
                    f"input '{name}' is {type(array).__name__} of shape {shape} and type {dtype}: "
                    f"the model takes {value.shape} {value.dtype}"
                )
        return dict(inputs)

    def _prepare(self, options: KernelOptions, slowdown: float) -> tuple[Executor, Pacer]:
        executor, pacer, error = None, None, None
        try:
            pacer = Pacer(partial(make_kernel, self.model, self.program, self._weights, options), slowdown)
            executor = Executor(self.program, self.transport, pacer)
        except FlexPieError as raised:
            error = raised
        agree(self.transport, error)
        assert executor is not None and pacer is not None, "agree raises every rank's error"
        return executor, pacer


def settle_pace(engines: Sequence[Engine]) -> None:
    """Measure what every step takes by itself, to pace slower boards evenly; called by all ranks together.

    What is measured of several engines is measured in turn: none of them gets a bad moment of the machine for good.
    Buffers hold nothing of use afterwards. Without it, a step is paced by what it takes in each request.
    """
    settle(engines[0].transport, [engine.pacer for engine in engines])


def _lower_alike(transport: Transport, plan: Plan, model: Model) -> tuple[Program, ...]:
    """Programs of the plan, after making sure that every rank has the same."""
    if plan.ranks != transport.size:
        raise PlanError(
            f"the plan is for {plan.ranks} ranks and the job has {transport.size}: "
            f"start it with mpirun -n {plan.ranks}, or make a plan for {transport.size}"
        )
    programs = lower(plan, model.graph)
    digests = transport.all_gather(digest(programs))
    odd = [rank for rank, found in enumerate(digests) if found != digests[0]]
    if odd:
        raise ProgramError(
            f"rank {odd[0]} lowered the plan differently from rank 0: install the same version everywhere"
        )
    return programs


def weight_bytes(model: Model, program: Program) -> int:
    """Bytes of constants one rank's program reads."""
    return sum(
        (model.graph.value(name).size if region is None else region.size) * model.graph.value(name).itemsize
        for name, region in program.weights
    )


def peak_rss_bytes() -> int:
    """Largest resident memory this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
