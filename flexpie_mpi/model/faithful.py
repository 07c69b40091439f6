"""Whether a rewritten model computes what the untouched file computes: onnxruntime runs both, and the results decide.

Folding, inlining and tidying are meant to keep the meaning of a model. That is not believed: a rewriting whose results
differ is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from ..core.budget import Budget
from ..core.errors import ModelError
from .equality import TOLERANCE, compare
from .measure import time_limit
from .read import Source
from .session import RunError, Session, open_file
from .settled import is_random
from .tidy import all_nodes

log = logging.getLogger(__name__)

_UNITS = 8
"""A model with types that are coarser than the tolerance may differ by so many units in the last place instead."""


class Original:
    """The untouched file of a model, run in sessions of its own: without optimisations, and with the default ones.

    The second counts where the first differs: what an optimiser of onnxruntime does to every user's session is no
    fault of ours.

    Parameters
    ----------
    path : Path
    source : Source
        As it was read.
    budget : Budget
        A model with more weights than this is not loaded a second time.
    runs : bool
        Whether models may be run at all.
    """

    def __init__(self, path: Path, source: Source, budget: Budget, *, runs: bool = True) -> None:
        self.runs = runs
        self._path = path
        self._limit_s = time_limit(source.proto.graph)
        self._tolerance = max(TOLERANCE, _UNITS * _coarsest(source.proto))
        self._is_random = any(is_random(node) for node in all_nodes(source.proto.graph))
        self._nbytes = sum(stored.place.length for stored in source.stored.values())
        self._budget = budget
        self._opened: dict[bool, Session | None] = {}
        self._refusal = ""

    @cached_property
    def reason_to_skip(self) -> str:
        """Why nothing can be compared, for the end of a sentence; empty where it can."""
        if self._is_random:
            return "it draws random numbers"
        if self._is_large:
            return f"its {self._nbytes / 1e9:.3g} GB of weights would be in memory a second time"
        return ""

    def agrees(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any]) -> bool:
        """Whether a run of the file gives these outputs; also when it does not run with these inputs.

        Raises
        ------
        ModelError
            When onnxruntime does not accept the file.
        """
        could_run = False
        for session in self._sessions():
            try:
                expected = session.run(feeds, self._limit_s)
            except RunError:
                continue
            could_run = True
            checks = (compare(name, outputs.get(name), expected[name], tolerance=self._tolerance) for name in expected)
            if not any(check.problem for check in checks):
                return True
        return not could_run

    def check_accepted(self) -> None:
        """Check that onnxruntime accepts the file, where that takes no more memory than it may.

        Raises
        ------
        ModelError
            When it does not.
        """
        if not self._is_large:
            next(self._sessions())

    @property
    def _is_large(self) -> bool:
        return self._nbytes > self._budget.nbytes

    def _sessions(self) -> Iterator[Session]:
        """Sessions of the file, each made when it is first asked for."""
        for optimised in (False, True):
            if optimised not in self._opened:
                self._opened[optimised] = self._open(optimised)
            session = self._opened[optimised]
            if session is not None:
                yield session
        if not any(self._opened.values()):
            raise ModelError(self._refusal)

    def _open(self, optimised: bool) -> Session | None:
        try:
            return open_file(str(self._path), optimised=optimised)
        except ModelError as error:
            self._refusal = self._refusal or str(error)
            return None


def _coarsest(proto: onnx.ModelProto) -> float:
    """Unit in the last place, relative to 1, of the coarsest type of floats that a model speaks of."""
    types = onnx.TensorProto
    units: dict[int, float] = {types.FLOAT16: 2.0**-10, types.BFLOAT16: 2.0**-7}
    return max((units.get(kind, 0.0) for kind in _element_types(proto)), default=0.0)


def _element_types(proto: onnx.ModelProto) -> Iterable[int]:
    """Element types of inputs, outputs, initializers and casts."""
    graph = proto.graph
    yield from (value.type.tensor_type.elem_type for value in (*graph.input, *graph.output))
    yield from (tensor.data_type for tensor in graph.initializer)
    for node in all_nodes(graph):
        yield from (item.i for item in node.attribute if item.name == "to")
