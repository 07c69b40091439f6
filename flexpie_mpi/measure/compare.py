"""The comparison behind ``--verify``: the job's outputs against one plain session of the whole model on the root.

Where they differ, the file is asked how much of that is rounding (:class:`Rounding`). Where it is more, both are run
again with everything that leaves a segment as an output of its own, and the first segment, in the plan's order,
whose values differ is the one to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError
from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..files.cache import Cache
from ..lower.shards import live_out, shard_region
from ..model import Model
from ..model.equality import Check, apart, compare, factors, nudged
from ..runtime.engine import Engine
from ..runtime.loopback import alone
from ..runtime.transport import on_root
from ..runtime.whole_file import LEVELS, WholeFile

RULES = ("levels", "nudges")
"""Where rounding is looked for, in this order."""

_NUDGES = 6
"""Runs with nudged constants."""
_REQUESTS = 8
"""Requests of a stream that are looked at; what they show is taken for all."""

Opener = Callable[[], WholeFile]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first segment that differs: its place in the plan, and the value it shows on.

    `ranks` are those whose shard of the value holds an element that differs.
    """

    segment: int
    check: Check
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found: a check per output, and where the trouble begins if there is any.

    `random_node` is the first node that draws random numbers, if one does: two runs of it may well differ.
    """

    outputs: tuple[Check, ...]
    first: Divergence | None = None
    random_node: str = ""

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

    Parameters
    ----------
    engine : Engine
        Its plan's root must be the rank that loaded the model.
    inputs, outputs : mapping of str to array
        Of one request, on the root; ignored elsewhere.

    Returns
    -------
    Verdict
        The same on every rank.

    Raises
    ------
    ModelError
        On every rank, when onnxruntime cannot run the whole model on the root.
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
    """The model's own file in a plain session, which shares nothing with the job it is to judge.

    Parameters
    ----------
    model : Model
        As the root has it.
    threads : int

    Raises
    ------
    ModelError
        When onnxruntime cannot run the whole model.
    """

    def __init__(self, model: Model, threads: int) -> None:
        assert model.source is not None, "the root loaded the model"
        self._model = model
        self._file = WholeFile(model.source, threads)
        self._rounding = Rounding(model.source, threads)
        self._is_random = bool(random_node(model.graph))

    def outputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of a request by name."""
        return self._file.run(inputs)

    def compare(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Check, ...]:
        """A check of every output of a request, as strict as can be: what rounding changes counts only if it must."""
        expected = self.outputs(inputs)
        checks = {name: compare(name, outputs[name], expected[name]) for name in self._model.graph.outputs}

        def allow(rule: str) -> bool:
            """Compare those that differ once more, with what is known of rounding; whether any differs still."""
            for name in [name for name, check in checks.items() if check.problem]:
                rounding = max(self._rounding.known(rule, name), checks[name].rounding)
                checks[name] = compare(name, outputs[name], expected[name], rounding, rule)
            return any(check.problem for check in checks.values())

        for rule in () if self._is_random else RULES:
            if allow(rule):
                self._rounding.look(rule, inputs, expected)
                allow(rule)
        return tuple(checks.values())


class Rounding:
    """What rounding was seen to change in the outputs of a model, as parts of their largest magnitudes.

    A fault and an unlucky rounding look alike in a model that is quantised on the way: one unit in the last place of a
    float, at the border between two steps, moves an 8-bit number by a whole step, and what follows by per cents. So the
    model's own file is run in plain sessions that round differently, in two ways: at onnxruntime's other optimisation
    levels, and, where these do not show it, with constants that are off by one unit in their last place.

    Parameters
    ----------
    path : Path
        The model's own file.
    threads : int
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._openers: dict[str, tuple[Opener, ...]] = {
            "levels": tuple(partial(WholeFile, path, threads, level=level) for level in LEVELS),
            "nudges": tuple(partial(self._nudged_file, seed) for seed in range(_NUDGES)),
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

    def _nudged_file(self, seed: int) -> WholeFile:
        return WholeFile(self._path, self._threads, constants=nudged(self._factors, seed))


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
    ours = Engine(transport, model, replace(plan, model=model.graph.digest), cache=cache, threads=threads).run(inputs)

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
    graph = model.graph
    names = dict.fromkeys((*graph.outputs, *(name for _, name in _boundaries(graph, plan))))
    return replace(model, graph=replace(graph, outputs=tuple(names)))


def _boundaries(graph: Graph, plan: Plan) -> Iterator[tuple[int, str]]:
    """(segment, value) of everything that leaves a segment, in order."""
    for index, (_, first, end) in enumerate(plan.spans):
        yield from ((index, name) for name in live_out(graph, first, end))


def _ranks_in(graph: Graph, plan: Plan, index: int, check: Check) -> tuple[int, ...]:
    """Ranks whose shard of a value overlaps the region that differs."""
    layout = plan.segments[index].layout
    if check.region is None:
        return layout.ranks
    shards = {rank: shard_region(graph, check.value, layout, rank) for rank in layout.ranks}
    return tuple(rank for rank, shard in shards.items() if shard and not shard.intersect(check.region).is_empty)
