"""The comparison behind ``--verify``: the job's outputs against one plain session of the whole model on the root.

Where they differ, both are run again with everything that leaves a segment as an output of its own, and the first
segment, in the plan's order, whose values differ is the one to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .cache import Cache
from .engine import Engine
from .graph import Graph
from .model import Model
from .plan import Plan
from .planner import layout_plan
from .region import Region
from .runtime.kernels import WholeFile
from .runtime.loopback import alone
from .runtime.transport import on_root
from .shards import leaving, shard_region

TOLERANCE = 1e-4
"""Largest difference between floats, as a part of the value's largest magnitude. A type that is coarser than this
(float16) may be off by one unit in its last place instead. Everything else must be equal."""


@dataclass(frozen=True, slots=True)
class Check:
    """A value compared with the reference.

    Attributes
    ----------
    value : str
    largest : float
        Largest difference; infinite where no difference can be taken (another shape, a NaN on one side, text).
    allowed : float
    region : Region or None
        The smallest box that holds every element that differs by more than is allowed; None when none does, or when
        the two are not of one shape.
    problem : str
        What is wrong, for the end of a sentence; empty when the two agree.
    """

    value: str
    largest: float = 0.0
    allowed: float = 0.0
    region: Region | None = None
    problem: str = ""


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


def verify(
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
        with closing(Reference(engine.model, cache, threads)) as reference:
            return reference.compare(inputs, outputs)

    checks = transport.broadcast(on_root(transport, check, root), root)
    verdict = Verdict(checks, random_node=random_node(graph))
    if verdict.is_equal:
        return verdict
    return replace(verdict, first=_first_divergence(engine, inputs, cache, threads))


class Reference:
    """The model's own file in a plain session, which shares nothing with the job it is to judge.

    Parameters
    ----------
    model : Model
        As the root has it.
    cache : Cache, optional
    threads : int

    Raises
    ------
    ModelError
        When onnxruntime cannot run the whole model.
    """

    def __init__(self, model: Model, cache: Cache | None, threads: int) -> None:
        assert model.source is not None, "the root loaded the model"
        self._model = model
        self._file = WholeFile(model.source, threads)
        self._make_engine = partial(_whole_engine, model, cache, threads)
        self._engine: Engine | None = None

    def outputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of a request; one that the file names differently (an input as well) as of :func:`run_whole`."""
        outputs = self._file.run(inputs)
        missing = [name for name in self._model.graph.outputs if name not in outputs]
        if missing:
            self._engine = self._engine or self._make_engine()
            whole = self._engine.run(inputs)
            outputs |= {name: deepcopy(whole[name]) for name in missing}
        return outputs

    def compare(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Check, ...]:
        """A check of every output of a request."""
        expected = self.outputs(inputs)
        return tuple(compare(name, outputs[name], expected[name]) for name in self._model.graph.outputs)

    def close(self) -> None:
        """Give back what was made on the way."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def run_whole(model: Model, inputs: Mapping[str, Any], cache: Cache | None, threads: int) -> dict[str, Any]:
    """Outputs of the model as one session in this process, which must have its weights."""
    return _whole_engine(model, cache, threads).run(inputs)


def _whole_engine(model: Model, cache: Cache | None, threads: int) -> Engine:
    plan = layout_plan(model.graph, 1, "single", fusion="all-legal")
    return Engine(alone(), model, plan, cache=cache, threads=threads)


def random_node(graph: Graph) -> str:
    """The first node that draws random numbers; empty where none does."""
    return next((node.node.name for node in graph.bound if node.is_random), "")


def _first_divergence(
    engine: Engine, inputs: Mapping[str, Any], cache: Cache | None, threads: int
) -> Divergence | None:
    """The first segment whose values differ when both sides give them all away; None when none does."""
    transport, plan = engine.transport, engine.plan
    model, graph = with_boundaries(engine.model, plan), engine.model.graph
    found = Engine(transport, model, replace(plan, model=model.graph.digest), cache=cache, threads=threads).run(inputs)

    def search() -> Divergence | None:
        expected = run_whole(model, inputs, cache, threads)
        for index, name in _boundaries(graph, plan):
            check = compare(name, found[name], expected[name])
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
        yield from ((index, name) for name in leaving(graph, first, end))


def _ranks_in(graph: Graph, plan: Plan, index: int, check: Check) -> tuple[int, ...]:
    """Ranks whose shard of a value overlaps the region that differs."""
    layout = plan.segments[index].layout
    if check.region is None:
        return layout.ranks
    shards = {rank: shard_region(graph, check.value, layout, rank) for rank in layout.ranks}
    return tuple(rank for rank, shard in shards.items() if shard and not shard.intersect(check.region).is_empty)


def compare(name: str, found: Any, expected: Any) -> Check:
    """A value against its reference: a tensor, a sequence of values, or a mapping to values."""
    if isinstance(expected, Mapping):
        keys = list(expected)
        if not isinstance(found, Mapping) or list(found) != keys:
            return Check(name, np.inf, problem=f"its keys are not the {len(keys)} expected")
        return _worst(name, [compare(name, found[key], expected[key]) for key in keys])
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(found, Sequence) or len(found) != len(expected):
            return Check(name, np.inf, problem=f"it is not a sequence of {len(expected)}")
        return _worst(name, [compare(name, *pair) for pair in zip(found, expected, strict=True)])
    return _compare_arrays(name, np.asarray(found), np.asarray(expected))


def _worst(name: str, checks: Sequence[Check]) -> Check:
    bad = [check for check in checks if check.problem]
    worst = max(bad or checks, key=lambda check: check.largest, default=Check(name))
    return replace(worst, region=None)


def _compare_arrays(name: str, found: np.ndarray, expected: np.ndarray) -> Check:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        what = f"{found.dtype.name} of shape {found.shape}, not {expected.dtype.name} of shape {expected.shape}"
        return Check(name, np.inf, problem=f"it is {what}")
    if expected.size == 0:
        return Check(name)
    allowed = _allowed(expected)
    difference = _difference(found, expected)
    largest, wrong = float(difference.max()), difference > allowed
    if not wrong.any():
        return Check(name, largest, allowed)
    problem = (
        f"{int(wrong.sum())} of {wrong.size} elements differ, by up to {largest:.3g} where {allowed:.3g} is allowed"
    )
    return Check(name, largest, allowed, _box(wrong), problem)


def _allowed(expected: np.ndarray) -> float:
    """Largest difference that counts as equal."""
    if expected.dtype.kind not in "fc":
        return 0.0
    finite = np.abs(expected[np.isfinite(expected)])
    magnitude = float(finite.max()) if finite.size else 0.0
    return max(TOLERANCE, float(np.finfo(expected.dtype).eps)) * magnitude


def _difference(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Elementwise distance in float64: 0 where both are the same, NaN or infinity included."""
    if expected.dtype.kind in "biu":
        apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        return np.maximum(apart, found != expected)  # float64 takes neighbouring large integers for equal
    if expected.dtype.kind not in "fc":
        return np.where(found == expected, 0.0, np.inf)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(found.astype(np.complex128) - expected.astype(np.complex128))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _box(wrong: np.ndarray) -> Region:
    """The smallest region that holds every true element."""
    places = np.argwhere(wrong)
    if not wrong.ndim:
        return Region(())
    return Region(tuple((int(lo), int(hi) + 1) for lo, hi in zip(places.min(0), places.max(0), strict=True)))
