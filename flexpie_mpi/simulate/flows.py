"""Messages under way: how far each has come while others share its route."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

import numpy as np

from ..core.program import Message
from ..testbed import Route, Testbed
from .sharing import fair_rates

_DONE = 1e-9
"""Share of a message that may be left when it counts as sent: rounding, not bytes."""

Sent = tuple[Route, float]
"""The route of a message, and its bytes."""


def sent(message: Message, testbed: Testbed) -> Sent:
    """A message as the links see it."""
    route = testbed.routes[message.source][message.target]
    assert route is not None, "no rank sends to itself"
    return route, message.nbytes


class Flows:
    """Messages on the links of a testbed, from when they start to when their last byte has left.

    Parameters
    ----------
    testbed : Testbed
    """

    def __init__(self, testbed: Testbed) -> None:
        self._capacity = np.array([resource.bandwidth for resource in testbed.resources])
        self._now_s = 0.0
        self._new: list[tuple[int, Sent]] = []
        self._number = np.zeros(0, int)
        self._size, self._left, self._rate, self._end_s = np.zeros((4, 0))
        self._flow, self._resource = np.zeros((2, 0), int)
        self._next_s: float | None = inf

    def start(self, number: int, sent: Sent) -> None:
        """Let a message go, now; `number` is what it is called when it has left."""
        self._new.append((number, sent))
        self._next_s = None

    def next_s(self) -> float:
        """When the next message will have left, if none starts before; infinite when none is under way."""
        if self._next_s is None:
            self._take_in()
            self._rate = fair_rates(self._capacity, self._flow, self._resource, len(self._number))
            self._end_s = self._now_s + self._left / self._rate
            self._next_s = float(self._end_s.min(initial=inf))
        return self._next_s

    def advance(self, now_s: float) -> list[int]:
        """Go on to `now_s`, not beyond :meth:`next_s`; numbers of the messages that have left by then."""
        is_next = now_s >= self.next_s()
        elapsed_s, self._now_s = now_s - self._now_s, now_s
        if elapsed_s > 0:
            self._left -= np.minimum(self._rate * elapsed_s, self._left)
        if not is_next or not len(self._number):
            return []
        is_done = (self._end_s <= now_s) | (self._left <= _DONE * self._size)
        gone: list[int] = self._number[is_done].tolist()
        self._drop(is_done)
        return gone

    def _take_in(self) -> None:
        """Join the messages that have started to those under way."""
        if not self._new:
            return
        first = len(self._number)
        hops = [len(route.resources) for _, (route, _) in self._new]
        passed = [number for _, (route, _) in self._new for number in route.resources]
        sizes = np.array([nbytes for _, (_, nbytes) in self._new], float)
        self._flow = np.concatenate((self._flow, np.repeat(np.arange(first, first + len(hops)), hops)))
        self._resource = np.concatenate((self._resource, np.array(passed, int)))
        self._number = np.concatenate((self._number, np.array([number for number, _ in self._new], int)))
        self._size = np.concatenate((self._size, sizes))
        self._left = np.concatenate((self._left, sizes))
        self._new.clear()

    def _drop(self, is_done: np.ndarray) -> None:
        kept = ~is_done
        place = np.cumsum(kept) - 1
        stays = kept[self._flow]
        self._flow, self._resource = place[self._flow[stays]], self._resource[stays]
        self._number, self._size, self._left = self._number[kept], self._size[kept], self._left[kept]
        self._next_s = None


def together_s(testbed: Testbed, messages: Iterable[Sent]) -> float:
    """Seconds from when messages all start at once, on links that are free, to when the last has arrived."""
    known: Sequence[Sent] = list(messages)
    flows = Flows(testbed)
    for number, message in enumerate(known):
        flows.start(number, message)
    last_s = 0.0
    while (now_s := flows.next_s()) < inf:
        last_s = max(last_s, *(now_s + known[number][0].latency_s for number in flows.advance(now_s)))
    return last_s
