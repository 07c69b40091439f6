"""Messages under way: how far each has come while others share its route.

Messages that pass the same link or port get *max-min fair* shares of it: no message can be given more without taking
from one that has no more than it. Connections that adapt to each other end up close to this, and a port that has work
is never idle::

    a to b, c to b   |  the receiving side of b is full: half of it each
    a to d           |  shares only the sending side of a: what a to b leaves of it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import repeat
from math import inf
from operator import itemgetter

import numpy as np

from ..core.program import Message
from ..testbed import Route, Testbed

_DONE = 1e-9
"""Share of a message that may be left when it counts as sent: rounding, not bytes."""

_CLOSE = 1 + 1e-9
"""Shares that differ by less are taken for equal."""

Sent = tuple[Route, float]
"""The route of a message, and its bytes."""


def sent(message: Message, testbed: Testbed) -> Sent:
    """A message as the links see it."""
    route = testbed.routes[message.source][message.target]
    assert route is not None, "no rank sends to itself"
    return route, message.nbytes


class Flows:
    """Messages on the links of a testbed, from when they start to when their last byte has left."""

    def __init__(self, testbed: Testbed) -> None:
        self._capacity = np.array([resource.bandwidth for resource in testbed.resources])
        self._now_s = 0.0
        self._new: list[tuple[int, Sent]] = []
        self._number = np.zeros(0, int)
        self._size, self._left, self._rate, self._end_s = np.zeros((4, 0))
        self._flow, self._resource = np.zeros((2, 0), int)
        self._next_s: float | None = inf

    def start(self, number: int, sent: Sent) -> None:
        """Start a message now; :meth:`advance` gives its `number` when it has left."""
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
        renumbered = np.cumsum(kept) - 1
        stays = kept[self._flow]
        self._flow, self._resource = renumbered[self._flow[stays]], self._resource[stays]
        self._number, self._size, self._left = self._number[kept], self._size[kept], self._left[kept]
        self._next_s = None


def together_s(testbed: Testbed, messages: Iterable[Sent], begins_s: Iterable[float] = repeat(0.0)) -> float:
    """When the last of some messages has arrived, on links that are free, each of which starts at its time, or at 0."""
    starts = deque(sorted(zip(begins_s, messages, strict=False), key=itemgetter(0)))
    known: list[Sent] = []
    flows, last_s = Flows(testbed), 0.0
    while (now_s := min(starts[0][0] if starts else inf, flows.next_s())) < inf:
        last_s = max(last_s, *(now_s + known[number][0].latency_s for number in flows.advance(now_s)), 0.0)
        while starts and starts[0][0] <= now_s:
            flows.start(len(known), starts[0][1])
            known.append(starts.popleft()[1])
    return last_s


def fair_rates(capacity: np.ndarray, flow: np.ndarray, resource: np.ndarray, flows: int) -> np.ndarray:
    """Bytes per second of every flow, float array (flows,); infinite for one that passes nothing.

    All resources none of whose flows has a tighter one elsewhere are filled at once, then what is left of the others.

    Parameters
    ----------
    capacity : float array (resources,)
        Bytes per second.
    flow, resource : int array (n,)
        Each resource that each flow passes.
    flows : int

    Examples
    --------
    >>> fair_rates(np.array([6.0, 1.0]), np.array([0, 1, 1, 2]), np.array([0, 0, 1, 0]), 3).tolist()
    [2.5, 1.0, 2.5]
    """
    rates = np.full(flows, np.inf)
    left = capacity.astype(float)
    while flow.size:
        users = np.bincount(resource, minlength=len(left))
        share = left / np.maximum(users, 1)
        tightest = np.full(flows, np.inf)
        np.minimum.at(tightest, flow, share[resource])
        least = np.full(len(left), np.inf)
        np.minimum.at(least, resource, tightest[flow])
        is_full = share <= least * _CLOSE
        settled = np.zeros(flows, bool)
        settled[flow[is_full[resource]]] = True
        rates[settled] = tightest[settled]
        leaving = settled[flow]
        taken = np.bincount(resource[leaving], weights=rates[flow[leaving]], minlength=len(left))
        left = np.maximum(left - taken, 0.0)
        flow, resource = flow[~leaving], resource[~leaving]
    return rates
