"""Programs: consequences only. What one rank does, in order, to carry out its part of a plan.

A program is derived from a plan by :mod:`flexpie_mpi.lower`; it is executed, verified and simulated, never stored.
Buffers are numbered per rank; regions are in global coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

from .region import Region

KINDS = ("local", "halo", "broadcast", "scatter", "gather", "allgather", "alltoall")
"""Patterns of an exchange."""

MESSAGES_ONLY = ("local", "halo", "alltoall")
"""Patterns that no MPI collective serves better than messages: an all-to-all moves as much either way, and its rounds
would wait for every rank to look in."""


Order = tuple[int, int, int]
"""(segment, order there, exchange): where a step stands among those of all ranks, which have one common order."""

_FINISH, _COMPUTE, _START = 0, 1, 2
"""Order at one segment: what the segment needs, the segment, what can leave after it."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of one rank that holds `region` of `value`; `region` is None for an opaque value.

    A buffer is row-major or, where `block` is not 0, in blocks of so many channels (:mod:`.blocks`). One that `is_part`
    holds this rank's part of the region: what its share of a sum makes there. One that `is_state` keeps what it holds
    from one request to the next.
    """

    index: int
    value: str
    region: Region | None
    dtype: str
    nbytes: int
    block: int = 0
    is_part: bool = False
    is_state: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Section of a message: `region` of `value`, read from or written to one of this rank's buffers.

    It travels row-major, or in the blocks that the buffers at both ends have. Where `combine` is not empty, what comes
    is combined with what the buffer has already, by numpy's function of that name.
    """

    value: str
    region: Region
    buffer: int
    block: int = 0
    combine: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Pieces that travel together from rank `source` to rank `target`, in this order."""

    source: int
    target: int
    tag: int
    pieces: tuple[Piece, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A region copied between two of this rank's own buffers, or combined as of :class:`Piece`."""

    source: int
    target: int
    region: Region
    combine: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One rank's part of an exchange."""

    # Number of the exchange in the job, the same on every rank: that of the segment it leads to. Also the tag of its
    # messages.
    index: int
    kind: str  # one of `KINDS`
    group: tuple[int, ...]  # every rank that sends or receives, ascending; the communicator of a collective
    # `sends` and `receives`: by target and by source, ascending
    sends: tuple[Message, ...]
    receives: tuple[Message, ...]
    copies: tuple[LocalCopy, ...]  # what this rank already has
    # Collectives with the same staging slot are never under way together on this rank, so their messages may share
    # memory; negative for an exchange that shares with none
    staging_slot: int = -1
    # The segment after which all that is sent is there, on every rank; -1 for the beginning of a request
    after: int = -1

    @property
    def is_collective(self) -> bool:
        return self.kind not in MESSAGES_ONLY


@dataclass(frozen=True, slots=True)
class NodeBlock:
    """A node as one rank computes it: the region of each output, and the region of each input that this needs.

    None stands for an absent input or output, one that this rank does not need, and an opaque value. Where the block
    `is_part`, its inputs make a part of the output only.
    """

    node: str
    outputs: tuple[Region | None, ...]
    inputs: tuple[Region | None, ...]
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class Compute:
    """Run one segment's nodes: one onnxruntime session from input buffers to output buffers."""

    segment: int
    blocks: tuple[NodeBlock, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def order(self) -> Order:
        return self.segment, _COMPUTE, 0


@dataclass(frozen=True, slots=True)
class Start:
    """Begin an exchange: pack what this rank sends and let it go."""

    exchange: Exchange

    @property
    def order(self) -> Order:
        return self.exchange.after, _START, self.exchange.index


@dataclass(frozen=True, slots=True)
class Finish:
    """End an exchange: wait for what this rank receives, unpack it, and make its own copies.

    That is done in the order of the ranks from which it comes, so that every sum is summed in one order.
    """

    exchange: Exchange

    @property
    def order(self) -> Order:
        return self.exchange.index, _FINISH, self.exchange.index


Step = Compute | Start | Finish


@dataclass(frozen=True, slots=True)
class Arena:
    """Where each buffer lies in one block of `nbytes` bytes; buffers that are never alive together may overlap."""

    offsets: tuple[int, ...] = ()
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a request leaves on a rank of a state: `region` of its output, which `source` holds when all steps are done.

    It goes into the buffer `target`, to its place there, or behind what that holds along `axis` (see
    :class:`.graph.State`).
    """

    source: int
    target: int
    region: Region
    axis: int = -1


@dataclass(frozen=True, slots=True)
class Program:
    """Everything rank `rank` of `size` does for one request.

    `inputs` are filled by the caller before the first step and `outputs` read after the last, both as
    (value, buffer); only the root has any, but for what every rank is told of the growth of states. `weights` are the
    regions of constants this rank's segments read, each once. `kept` is what is put away after the last step, for the
    next request.
    """

    rank: int
    size: int
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    weights: tuple[tuple[str, Region | None], ...]
    arena: Arena = Arena()
    kept: tuple[Kept, ...] = ()

    @property
    def state_bytes(self) -> int:
        """Bytes that stay from one request to the next, beside the arena."""
        return sum(buffer.nbytes for buffer in self.buffers if buffer.is_state)

    @property
    def computes(self) -> tuple[Compute, ...]:
        return tuple(step for step in self.steps if isinstance(step, Compute))

    @property
    def sends(self) -> tuple[Message, ...]:
        """Every message this rank sends for one request."""
        return tuple(message for exchange in self.exchanges for message in exchange.sends)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return tuple(step.exchange for step in self.steps if isinstance(step, Start))
