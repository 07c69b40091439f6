"""Weights for plans that are tried: the real ones where their values matter, made-up ones everywhere else."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..core.program import Program
from ..files.cache import Cache
from ..lower.facts import slice_bytes
from ..model import Model
from ..model.shard import Slice, WeightFiles
from ..runtime.madeup import MadeUpWeights
from ..runtime.transport import Transport
from ..runtime.weights import KIND, distribute
from .steering import steering
from .together import together

_NO_LIMIT = 1 << 62


class TrialWeights:
    """Weight files of one rank, in a folder that the caller removes; made and asked by all ranks together.

    Parameters
    ----------
    transport : Transport
    model : Model
        With its store on one rank.
    folder : Path
        This rank's own.
    """

    def __init__(self, transport: Transport, model: Model, folder: Path) -> None:
        self._transport = transport
        self._model = model
        self._folder = folder / KIND
        self._cache = Cache(folder, _NO_LIMIT)  # what several plans need is brought here once
        self._made = MadeUpWeights(self._folder)
        self._steering = frozenset(name for name in steering(model.graph) if model.is_stored(name))

    def files(self, program: Program) -> WeightFiles:
        """Files of everything that this rank's program reads and the skeleton does not hold.

        Raises
        ------
        UntriedError
            On every rank, when any has no room for them.
        """
        real = [piece for piece in program.weights if piece[0] in self._steering]
        rest = [piece for piece in program.weights if piece[0] not in self._steering]
        made = together(self._transport, partial(self._make, rest, real), "for made-up weights")
        if not self._steering:
            return made
        brought, _ = distribute(self._transport, self._model, real, self._cache)
        return together(self._transport, partial(self._joined, made, brought), "for weights")

    def _make(self, pieces: Sequence[Slice], real: Sequence[Slice]) -> WeightFiles:
        """Made-up files, when there is room for the real ones as well, also if all ranks share a disk."""
        self._folder.mkdir(exist_ok=True)
        files = self._made.files(self._model, pieces)
        needed = slice_bytes(self._model.graph, real)
        if real and shutil.disk_usage(self._folder).free < needed * self._transport.size:
            raise OSError(f"{needed} bytes do not fit into {self._folder}")
        return files

    def _joined(self, made: WeightFiles, brought: WeightFiles) -> WeightFiles:
        if brought.names and brought.folder != self._folder:
            raise OSError(f"{self._folder} is full")
        return WeightFiles(self._folder, {**made.names, **brought.names})
