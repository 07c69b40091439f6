"""The seam between a rank's segments and what runs them.

A *provider* takes the ONNX model of a segment and gives back something that can be bound to the rank's buffers. To add
one, write a module with a class like :class:`Provider` (for an execution provider of onnxruntime a subclass of
:class:`.ort.OrtProvider`), and a row of :data:`.kernels.PROVIDERS`; engines are told its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..core.choices import BOUNDARIES
from ..core.errors import ModelError
from ..files.cache import Cache
from ..model import SegmentModel
from ..model.shard import WeightFiles
from .machine import threads_problem
from .transport import Control, agree

Action = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What a rank asks of its provider.

    Raises ModelError for threads that this machine cannot run.
    """

    threads: int = 1  # per rank
    cache: Cache | None = None  # where it keeps what it makes of segments
    shares_weights: bool = False  # with the provider of another engine: what is laid out of them has to be in files
    # Folder in which each segment writes what its nodes took, until it is told to end that
    profiles: Path | None = None

    def __post_init__(self) -> None:
        if problem := threads_problem(self.threads):
            raise ModelError(problem)


class OpenSegment(Protocol):
    """A segment that a provider has made ready to run, on any buffers."""

    def bind(self, inputs: Mapping[str, int], outputs: Mapping[str, int], values: dict[int, Any]) -> Action:
        """An action that computes the outputs from the inputs, each time it is called.

        Parameters
        ----------
        inputs, outputs : mapping of str to int
            Buffer numbers of the segment's values.
        values : dict
            The rank's values by buffer number. An array that is there keeps its memory: the action reads and writes it
            in place. Values without an array are opaque; the action takes them from here and puts them here.

        Notes
        -----
        The action raises a ModelError when what it computed is not what the buffers were made for.
        """

    def end_profiling(self) -> Path:
        """Complete the file of the segment's profile, in the format of onnxruntime's; where it is."""


class Provider(Protocol):
    """What runs the segments of one rank; it is made with the rank's :class:`ProviderOptions`.

    Attributes
    ----------
    names : sequence of str
        What computes, by preference, in onnxruntime's names of execution providers where it is one.
    block : int
        Channels to a block, where segments can have inputs and outputs in blocks of channels
        (:mod:`flexpie_mpi.core.blocks`); 0 where all must be row-major.
    """

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def block(self) -> int: ...

    def open(self, model: SegmentModel, weights: WeightFiles) -> OpenSegment:
        """Make a segment ready to run.

        Parameters
        ----------
        model : SegmentModel
            Its graph has the segment's name.
        weights : WeightFiles
            At least the files of what the model names as weights.

        Raises
        ------
        ModelError
            When the segment cannot be run; the sentence names it.
        """


def agreed_blocks(transport: Control, block: int, boundaries: str = "auto") -> tuple[int, ...]:
    """Channels to a block on every rank, by rank; called by all ranks together, each with its own (0: none).

    Raises ModelError when `boundaries` of any rank is none of `BOUNDARIES`.
    """
    known = boundaries in BOUNDARIES
    agree(transport, None if known else ModelError(f"there are no '{boundaries}' boundaries: choose of {BOUNDARIES}"))
    said: list[tuple[int, str]] = transport.all_gather((block if boundaries != "nchw" else 0, boundaries))
    is_common = len({block for block, _ in said}) == 1
    return tuple(block if is_common or wish == "blocked" else 0 for block, wish in said)
