"""What every rank holds while a job is lowered: buffers, and when each may first be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..core.graph import Value
from ..core.program import Buffer
from ..core.region import Region


@dataclass(frozen=True, slots=True)
class Held:
    """A buffer that holds `region` of a value once segment `since` has run (-1: from the beginning)."""

    buffer: int
    region: Region | None
    since: int


@dataclass(slots=True)
class Holdings:
    """Buffers of every rank, and what they hold of which value."""

    ranks: int
    buffers: list[list[Buffer]] = field(init=False)
    _held: dict[str, dict[int, list[Held]]] = field(default_factory=dict)
    _carriers: dict[str, frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buffers = [[] for _ in range(self.ranks)]

    def add(self, rank: int, value: Value, region: Region | None, since: int) -> int:
        """A new buffer of `rank` for `region` of `value`; its number."""
        index = len(self.buffers[rank])
        nbytes = region.size * value.itemsize if region is not None else 0
        self.buffers[rank].append(Buffer(index, value.name, region, value.dtype, nbytes))
        self._held.setdefault(value.name, {}).setdefault(rank, []).append(Held(index, region, since))
        return index

    def of(self, value: str, rank: int) -> list[Held]:
        """Everything `rank` holds of a value."""
        return self._held.get(value, {}).get(rank, [])

    def exact(self, value: str, rank: int, region: Region | None) -> int | None:
        """A buffer of `rank` that holds exactly `region` of a value."""
        return next((held.buffer for held in self.of(value, rank) if held.region == region), None)

    def carry(self, value: str, ranks: Iterable[int]) -> None:
        """From now on only `ranks` give a value to others."""
        self._carriers[value] = frozenset(ranks)

    def is_carried(self, value: str) -> bool:
        """Whether only some of those who hold a value give it to others."""
        return value in self._carriers

    def regions(self, value: str, reader: int | None = None) -> dict[int, list[Region]]:
        """What each rank holds of a value; of one that is carried, its carriers, and a `reader` for itself."""
        ranks, givers = self._held.get(value, {}), self._carriers.get(value)
        return {
            rank: [held.region for held in items if held.region is not None]
            for rank, items in ranks.items()
            if givers is None or rank in givers or rank == reader
        }
