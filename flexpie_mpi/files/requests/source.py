"""What all sources of requests have in common, and the two that need no other module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count as counting
from itertools import islice
from typing import Protocol

import numpy as np

from ...core.errors import DataError
from ...core.graph import Graph
from ..synthetic import random_inputs
from .stop import Stop

Request = Mapping[str, np.ndarray]
"""Every input of the graph by name."""


class Source(Protocol):
    """Where requests come from; ``str`` says it to people."""

    @property
    def count(self) -> int | None:
        """How many there are; None where that is not known."""

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """The requests in order, the first of them numbered `first`; whatever waits gives up once `stop` is set.

        Raises
        ------
        DataError
            At the first that cannot be had.
        """


@dataclass(frozen=True, slots=True)
class MadeUp:
    """Random requests: the same seed and number, the same request."""

    graph: Graph
    seed: int
    count: int

    def __str__(self) -> str:
        return f"random, seed {self.seed}"

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        for number in islice(counting(first), self.count):
            yield random_inputs(self.graph, self.seed, number)


def sample(source: Source, graph: Graph, seed: int = 0) -> Request | None:
    """A request like those of a source: its first, or, where it is not known when that comes, a random one.

    None when the first cannot be had, which whoever asks for it will be told, or none can be made up.
    """
    known = source if source.count is not None else MadeUp(graph, seed, 1)
    try:
        return next(known.requests(0, Stop()), None)
    except DataError:
        return None


@dataclass(frozen=True, slots=True)
class AtMost:
    """The first requests of another source."""

    source: Source
    limit: int

    def __str__(self) -> str:
        return f"{self.source}; at most {self.limit}"

    @property
    def count(self) -> int | None:
        known = self.source.count
        return None if known is None else min(known, self.limit)

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        return islice(self.source.requests(first, stop), self.limit)
