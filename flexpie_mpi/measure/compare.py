"""The comparison behind ``--verify``: the job's outputs against one plain session of the whole model on the root.

In a stream every request is compared, beside the stream (:class:`StreamComparison`). Where outputs differ, the
file is asked how much of that is rounding (:class:`Rounding`). Where it is more, a single request is run again by both
with everything that leaves a segment as an output of its own, and the first segment, in the plan's order, whose values
differ is the one to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np

from ..core.errors import ModelError
from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..files.cache import Cache
from ..files.sources import put_while_wanted
from ..lower.growth import told, writable
from ..lower.shards import live_out, shard_region
from ..model import Model
from ..model.equality import Check, apart, compare, factors, nudged
from ..runtime.engine import Engine
from ..runtime.loopback import alone
from ..runtime.transport import on_root
from ..runtime.whole_file import LEVELS, WholeFile

DEPTH = 8
"""Requests that wait for their comparison; with more the stream waits."""

RULES = ("levels", "nudges")
"""Where rounding is looked for, in this order."""

_NUDGES = 6
"""Runs with nudged constants."""
_REQUESTS = 8
"""Requests of a stream that are looked at; what they show is taken for all."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first segment that differs."""

    segment: int  # its place in the plan
    check: Check  # of the value that it shows on
    ranks: tuple[int, ...]  # those whose shard of the value holds an element that differs


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found: a check per output, and where the trouble begins if there is any."""

    outputs: tuple[Check, ...]
    first: Divergence | None = None
    random_node: str = ""  # the first that draws random numbers, if one does: two runs of it may well differ

    @property
    def is_equal(self) -> bool:
        return not any(check.problem for check in self.outputs)


def compare_outputs(
    engine: Engine,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    *,
    cache: Cache | None = None,
    threads: int = 1,
) -> Verdict:
    """Compare what an engine computed with one session of the whole model; called by all ranks together.

    The root of the engine's plan must be the rank that loaded the model; inputs and outputs are there. The verdict is
    the same on every rank. Raises ModelError on every rank, when onnxruntime cannot run the whole model on the root.
    """
    transport, root, graph = engine.transport, engine.plan.root, engine.model.graph

    def check() -> tuple[Check, ...]:
        return Reference(engine.model, threads).compare(inputs, outputs)

    checks = transport.broadcast(on_root(transport, check, root), root)
    verdict = Verdict(checks, random_node=random_node(graph))
    if verdict.is_equal:
        return verdict
    return replace(verdict, first=_first_divergence(engine, inputs, cache, threads, max(c.rounding for c in checks)))


class Reference:
    """The file of a root's model in a plain session, which shares nothing with the job it is to judge.

    It is to see all requests, in order, where the model has states.

    Raises ModelError when onnxruntime cannot run the whole model.
    """

    def __init__(self, model: Model, threads: int) -> None:
        assert model.source is not None, "the root loaded the model"
        self._model = model
        self._file = WholeFile(model.source, threads, (*model.graph.outputs, *model.state_outputs.values()))
        self._rounding = Rounding(model.source, threads, model.graph.outputs)
        self._is_random = bool(random_node(model.graph))
        self._earlier = Remembered(model)

    def compare(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Check, ...]:
        """A check of every output of a request, as strict as can be: what rounding changes counts only if it must."""
        feeds, expected = self._run(inputs)
        checks = {name: compare(name, outputs[name], expected[name]) for name in self._model.graph.outputs}

        def allow(rule: str) -> bool:
            """Compare those that differ once more, with what is known of rounding; whether any differs still."""
            for name in [name for name, check in checks.items() if check.problem]:
                rounding = max(self._rounding.known(rule, name), checks[name].rounding)
                checks[name] = compare(name, outputs[name], expected[name], rounding, rule)
            return any(check.problem for check in checks.values())

        for rule in () if self._is_random else RULES:
            if allow(rule):
                self._rounding.look(rule, feeds, expected)
                allow(rule)
        return tuple(checks.values())

    def outputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the session makes of a request."""
        return self._run(inputs)[1]

    def _run(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the file is given for a request, and what the session makes of it."""
        feeds = self._earlier.feeds(self._model.file_inputs(inputs))
        expected = self._file.run(feeds)
        self._earlier.keep(expected)
        return feeds, expected


class Remembered:
    """The states that a model's file is given, request after request: those that grow are as long as what they hold.

    Requests leave all their positions. A model without states has nothing to remember.
    """

    def __init__(self, model: Model) -> None:
        self._graph, self._outputs = model.graph, model.state_outputs
        self._length = 0
        self._held: dict[str, Any] = {}
        for state in self._graph.states:
            value = self._graph.value(state.input)
            shape = (0 if axis == state.axis else size for axis, size in enumerate(value.shape or ()))
            self._held[state.input] = np.zeros(tuple(shape), value.dtype)

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the file takes for the next request."""
        return {**inputs, **writable(self._graph, self._held), **told(self._graph, self._length)}

    def keep(self, outputs: Mapping[str, Any]) -> None:
        """Take what the file has made of it."""
        self._held |= {name: outputs[own] for name, own in self._outputs.items()}
        growth = self._graph.growth
        self._length += growth.step if growth else 0


class Rounding:
    """What rounding was seen to change in the outputs of a model, as parts of their largest magnitudes.

    A fault and an unlucky rounding look alike in a model that is quantised on the way: one unit in the last place of a
    float, at the border between two steps, moves an 8-bit number by a whole step, and what follows by per cents. So the
    model's own file is run in plain sessions that round differently, in two ways: at onnxruntime's other optimisation
    levels, and, where these do not show it, with constants that are off by one unit in their last place.
    """

    def __init__(self, path: Path, threads: int, wanted: Sequence[str] = ()) -> None:
        def nudged_file(seed: int) -> WholeFile:
            return WholeFile(path, threads, wanted, constants=nudged(self._factors, seed))

        self._path = path
        self._openers: dict[str, list[Callable[[], WholeFile]]] = {
            "levels": [partial(WholeFile, path, threads, wanted, level=level) for level in LEVELS],
            "nudges": [partial(nudged_file, seed) for seed in range(_NUDGES)],
        }
        self._seen: dict[str, dict[str, float]] = {rule: {} for rule in RULES}
        self._looked = dict.fromkeys(RULES, 0)

    def known(self, rule: str, name: str) -> float:
        """What has been seen so far of an output."""
        return self._seen[rule].get(name, 0.0)

    def look(self, rule: str, inputs: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """See what another request shows, whose outputs in a plain session are `expected`; a few times at most.

        The sessions are open one at a time, so that they need no more memory than one.
        """
        if self._looked[rule] == _REQUESTS:
            return
        self._looked[rule] += 1
        seen = self._seen[rule]
        for opener in self._openers[rule]:
            with suppress(ModelError):  # a level that cannot run the model shows nothing
                outputs = opener().run(inputs)
                for name in outputs.keys() & expected.keys():
                    seen[name] = max(seen.get(name, 0.0), apart(outputs[name], expected[name]))

    @cached_property
    def _factors(self) -> dict[str, np.ndarray]:
        return factors(self._path)


def run_whole(model: Model, inputs: Mapping[str, Any], cache: Cache | None, threads: int) -> dict[str, Any]:
    """Outputs of the model as one session in this process, which must have its weights."""
    nodes = tuple(node.name for node in model.graph.nodes)
    plan = Plan((Segment(nodes, Layout("single", (0,))),) if nodes else (), 1, model.graph.digest)
    return Engine(alone(), model, plan, cache=cache, threads=threads, is_trusted=True).run(inputs)


def random_node(graph: Graph) -> str:
    """The first node that draws random numbers; empty where none does."""
    return next((node.node.name for node in graph.bound if node.is_random), "")


def _first_divergence(
    engine: Engine, inputs: Mapping[str, Any], cache: Cache | None, threads: int, rounding: float
) -> Divergence | None:
    """The first segment whose values differ when both sides give them all away; None when none does.

    One that differs by more than rounding changes in the outputs goes before one that differs by less.
    """
    transport, plan = engine.transport, engine.plan
    model, graph = with_boundaries(engine.model, plan), engine.model.graph
    open_plan, form = replace(plan, model=model.graph.digest), engine.boundaries
    ours = Engine(transport, model, open_plan, cache=cache, threads=threads, boundaries=form).run(inputs)

    def search() -> Divergence | None:
        expected = run_whole(model, inputs, cache, threads)
        for allowed in dict.fromkeys((rounding, 0.0)):
            for index, name in _boundaries(graph, plan):
                check = compare(name, ours[name], expected[name], allowed)
                if check.problem:
                    return Divergence(index, check, _ranks_in(graph, plan, index, check))
        return None

    return transport.broadcast(on_root(transport, search, plan.root), plan.root)


def with_boundaries(model: Model, plan: Plan) -> Model:
    """The model with every value that leaves a segment as one more output."""
    names = dict.fromkeys((*model.graph.outputs, *(name for _, name in _boundaries(model.graph, plan))))
    return replace(model, graph=replace(model.graph, outputs=tuple(names)))


def _boundaries(graph: Graph, plan: Plan) -> Iterator[tuple[int, str]]:
    """(segment, value) of everything that leaves a segment, in order."""
    for index, (_, first, end) in enumerate(plan.spans):
        yield from ((index, name) for name in live_out(graph, first, end))


def _ranks_in(graph: Graph, plan: Plan, index: int, check: Check) -> tuple[int, ...]:
    """Ranks whose shard of a value overlaps the region that differs; of one in parts all that have a part."""
    layout = plan.segments[index].layout
    if check.region is None:
        return layout.ranks
    shards = {rank: shard_region(graph, check.value, layout, rank) for rank in layout.ranks}
    return tuple(rank for rank, shard in shards.items() if shard and not shard.intersect(check.region).is_empty)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a comparison has found."""

    requests: int = 0  # that were compared
    different: int = 0  # those of them that differ
    # Of every output, the one with the largest difference among requests that do not differ
    worst: tuple[Check, ...] = ()
    first: int | None = None  # the first request that differs, counted from 0
    checks: tuple[Check, ...] = ()  # of that one

    @property
    def is_equal(self) -> bool:
        return self.different == 0

    def also(self, number: int, checks: tuple[Check, ...]) -> Findings:
        """With one more request."""
        if any(check.problem for check in checks):
            first = (number, checks) if self.first is None else (self.first, self.checks)
            return Findings(self.requests + 1, self.different + 1, self.worst, *first)
        pairs = zip(self.worst or checks, checks, strict=True)
        worst = tuple(max(pair, key=lambda check: check.largest) for pair in pairs)
        return Findings(self.requests + 1, self.different, worst, self.first, self.checks)


class StreamComparison:
    """Compares requests in a thread of its own, in the order they come, beside the stream."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._waiting: Queue[tuple[int, Mapping[str, Any], Mapping[str, Any]] | None] = Queue(DEPTH)  # None is the end
        self._findings = Findings()
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="comparison", daemon=True)
        self._thread.start()

    def add(self, number: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Take a request, whose outputs may be overwritten afterwards; waits while too many do.

        Raises ModelError when onnxruntime could not run an earlier one.
        """
        self._put((number, inputs, deepcopy(dict(outputs))))

    def close(self) -> Findings:
        """What was found, once all is compared.

        Raises ModelError when onnxruntime could not run a request.
        """
        self._put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._findings

    def _put(self, item: tuple[int, Mapping[str, Any], Mapping[str, Any]] | None) -> None:
        put_while_wanted(self._waiting, item, lambda: self._error is not None)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                number, inputs, outputs = item
                self._findings = self._findings.also(number, self._reference.compare(inputs, outputs))
        except Exception as error:  # raised again where it can be reported
            self._error = error
