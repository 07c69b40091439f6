"""Weights for plans that are tried: the real ones where their values matter, synthetic ones everywhere else.

What a large matrix holds does not show in the time of its product, and to bring it to every rank for every plan that is
tried would take longer than to try it. But numbers found with it may be counted, compared or used as indices::

    image --Conv--> features --MatMul--> scores --NonZero--> places --Gather--> ...
              w1                w2               of unknown number: w1 and w2 steer

Synthetic weights are files of the right sizes: nothing is read from the model and nothing is sent. Their numbers are of
the size that real ones have, so that what is computed from them neither vanishes nor overflows: denormal numbers would
take longer than others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from math import log2, prod
from pathlib import Path

import numpy as np

from ..core.graph import BoundNode, Graph, Value
from ..core.program import Program
from ..core.region import Region
from ..files.cache import Cache
from ..lower.facts import slice_bytes
from ..model import Model
from ..model.shard import Slice, WeightFiles
from ..model.weights import byte_length
from ..runtime.transport import Transport
from ..runtime.weights import KIND, distribute
from .agreement import together

_BRANCHING = frozenset(("If", "Loop", "Scan"))

_PASSING = frozenset(("Cast", "Shape", "Size"))
"""Operators that no number steers: what they make may steer others."""

_BYTES = frozenset(("int8", "uint8", "int4", "uint4", "int2", "uint2"))
"""Types of quantised numbers, which are neither indices nor lengths."""

_FLOATS = ("float16", "float32", "float64")
_PATTERN = 1 << 17
"""Numbers after which a file repeats itself."""

_NO_LIMIT = 1 << 62


class TrialWeights:
    """Weight files of one rank, in a folder of its own that the caller removes; made and asked by all ranks together.

    One of the ranks has the model's store.
    """

    def __init__(self, transport: Transport, model: Model, folder: Path) -> None:
        self._transport = transport
        self._model = model
        self._folder = folder / KIND
        self._cache = Cache(folder, _NO_LIMIT)  # what several plans need is brought here once
        self._made = SyntheticWeights(self._folder)
        self._steering = frozenset(name for name in steering(model.graph) if model.is_stored(name))

    def files(self, program: Program) -> WeightFiles:
        """Files of everything that this rank's program reads and the skeleton does not hold.

        Raises UntriedError on every rank, when any has no room for them.
        """
        real = [piece for piece in program.weights if piece[0] in self._steering]
        rest = [piece for piece in program.weights if piece[0] not in self._steering]

        def make() -> WeightFiles:
            self._folder.mkdir(exist_ok=True)
            files = self._made.files(self._model, rest)
            needed = slice_bytes(self._model.graph, real)
            # room for the real ones as well, also if all ranks share a disk
            if real and shutil.disk_usage(self._folder).free < needed * self._transport.size:
                raise OSError(f"{needed} bytes do not fit into {self._folder}")
            return files

        made = together(self._transport, make, "for made-up weights")
        if not self._steering:
            return made
        brought, _ = distribute(self._transport, self._model, real, self._cache)

        def join() -> WeightFiles:
            if brought.names and brought.folder != self._folder:
                raise OSError(f"{self._folder} is full")
            return WeightFiles(self._folder, {**made.names, **brought.names})

        return together(self._transport, join, "for weights")


class SyntheticWeights:
    """Weight files in a folder that the caller removes, made as they are asked for.

    Constants of one magnitude share a file, as long as the longest of them: onnxruntime reads what it needs of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}

    def files(self, model: Model, needed: Iterable[Slice]) -> WeightFiles:
        """Files for every slice in `needed` whose data is not in the model's skeleton.

        Raises OSError when the folder has no room left.
        """
        names = {piece: self._file(model, *piece) for piece in needed if model.is_stored(piece[0])}
        return WeightFiles(self._folder, names)

    def _file(self, model: Model, constant: str, region: Region | None) -> str:
        value = model.graph.value(constant)
        whole = value.shape or ()
        nbytes = byte_length(model.element_type(constant), whole if region is None else region.shape)
        assert nbytes is not None, "strings stay in the skeleton"
        exponent = magnitude(whole)
        name = f"{value.dtype}{exponent:+d}" if value.dtype in _FLOATS else "zeros"
        size = self._sizes.get(name, 0)
        if size < nbytes:
            pattern = _numbers(value, exponent)
            with (self._folder / name).open("ab") as file:
                while size < nbytes:
                    size += file.write(pattern)
            self._sizes[name] = size
        return name


def magnitude(shape: tuple[int, ...]) -> int:
    """Power of two of a weight's typical number: as many inputs as are summed up keep about their size.

    >>> magnitude((64, 64, 3, 3)), magnitude((1000, 4096)), magnitude((64,))
    (-5, -6, -3)
    """
    summed = max(shape) if len(shape) == 2 else prod(shape[1:])
    return round(-log2(max(1, summed)) / 2) if len(shape) > 1 else -3


def _numbers(value: Value, exponent: int) -> bytes:
    """One length of the pattern: normal numbers, positive ones for vectors, which may be scales or variances."""
    if value.dtype not in _FLOATS:
        return bytes(_PATTERN)
    numbers = np.random.default_rng(0).standard_normal(_PATTERN)
    numbers = np.abs(numbers) + 0.1 if len(value.shape or ()) < 2 else numbers
    return (numbers * 2.0**exponent).astype(value.dtype).tobytes()


def steering(graph: Graph) -> frozenset[str]:
    """Constants whose values matter for whether a plan can run, and for how much it computes.

    These are all constants of integers wider than a byte and of truth values, and, of whatever type, all those from
    which a value is computed that steers: one that an operator reads whose output's shape is not known before the run,
    that branches, or that takes integers or truth values.
    """
    wanted: set[str] = set()
    for node in reversed(graph.bound):
        is_wanted = any(name in wanted for name in node.node.writes) and node.op not in ("Shape", "Size")
        wanted.update(node.node.reads if is_wanted or _is_steered(node) else _signs(node))
    return frozenset(value.name for value in graph.constants if value.name in wanted or _is_sign(value))


def _is_steered(node: BoundNode) -> bool:
    """Whether everything that a node reads may decide how much it computes."""
    return node.op in _BRANCHING or any(value is not None and value.shape is None for value in node.outputs)


def _signs(node: BoundNode) -> Iterator[str]:
    """Values that a node may read as indices, lengths or conditions."""
    if node.op not in _PASSING:
        yield from (value.name for value in node.inputs if value is not None and _is_sign(value))


def _is_sign(value: Value) -> bool:
    return value.dtype not in _BYTES and value.dtype.startswith(("int", "uint", "bool"))
