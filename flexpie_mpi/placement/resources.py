"""What the resources of an instance are: ports of boards, links of pairs, and what several pairs share.

A board takes part in one stage, so all its messages are those of that stage: what passes only its own port, or the
link of one pair, is known from the stage and its neighbours. What is left, such as the links of a forwarding ring,
adds up over the whole placement: it is *shared*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .instance import Instance

Shares = tuple[tuple[int, float], ...]
"""(index among the shared resources, seconds per byte) of the shared resources that a message passes."""


@dataclass(frozen=True, eq=False)
class Resources:
    """Seconds for which one byte occupies the slowest resource of each kind; 0 where there is none."""

    # `out_s`, `in_s` and `both_s`: array (n,). Ports that carry all that a board sends, all that it receives, and both.
    out_s: np.ndarray
    in_s: np.ndarray
    both_s: np.ndarray
    # Array (n, n). Resources that carry at most one message, ``[a, b]`` that from board a to board b.
    pair_s: np.ndarray
    shared: tuple[int, ...]  # all other resources, by number
    # Mapping of (a, b) to Shares. What a message from board a to board b does to them; pairs that pass none are left
    # out.
    shared_s: Mapping[tuple[int, int], Shares]


def resources(instance: Instance, *, plain: bool = False) -> Resources:
    """Sort the resources of an instance.

    Parameters
    ----------
    instance : Instance
    plain : bool
        Whether only the simplest cases count as ports and links: the ports of the root, which carry its inputs and
        outputs beside the messages of its stage, and ports for both ways, are counted as shared then.
    """
    n = instance.boards
    out_s, in_s, both_s, pair_s = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, n))
    shared: list[tuple[int, np.ndarray]] = []
    for number, users in _users(instance, pair_s):
        seconds = float(instance.resource_s[number])
        kind, owner = _kind(instance, users)
        if plain and (kind == "both" or (kind in ("out", "in") and owner == instance.root)):
            kind = "shared"
        if kind == "shared":
            shared.append((number, users))
        elif kind == "pair":
            a, b = users.T
            pair_s[a, b] = np.maximum(pair_s[a, b], seconds)
        else:
            port = {"out": out_s, "in": in_s, "both": both_s}[kind]
            port[owner] = max(port[owner], seconds)
    return Resources(out_s, in_s, both_s, pair_s, tuple(number for number, _ in shared), _shares(instance, shared))


def _users(instance: Instance, pair_s: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Resources and the (source, target) pairs they serve, but for links of one pair alone: these go into `pair_s`."""
    n, seconds = instance.boards, np.asarray(instance.resource_s, float)
    rows = [(a, b, q) for a, row in enumerate(instance.routes) for b, way in enumerate(row) if a != b for q in way]
    table = np.array(rows, int).reshape(-1, 3)
    table = table[np.argsort(table[:, 2], kind="stable")]
    numbers, starts, counts = np.unique(table[:, 2], return_index=True, return_counts=True)
    for count in (1, 2):
        which = np.flatnonzero((counts == count) & (n > 2))
        a, b, q = table[starts[which]].T
        if count == 1 and instance.teams:  # the root may send a team of its own both the inputs and its part
            is_link = (a != instance.root) & (b != instance.root)
            which, a, b, q = which[is_link], a[is_link], b[is_link], q[is_link]
        if count == 2:  # one link for both ways, of which a placement uses one, unless it is the root's
            back = table[starts[which] + 1]
            is_link = (back[:, 0] == b) & (back[:, 1] == a) & (a != instance.root) & (b != instance.root)
            which, a, b, q = which[is_link], a[is_link], b[is_link], q[is_link]
            np.maximum.at(pair_s, (b, a), seconds[q])
        np.maximum.at(pair_s, (a, b), seconds[q])
        numbers[which] = -1
    left = zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True)
    spans = [(number, start, count) for number, start, count in left if number >= 0]
    return [(number, table[start : start + count, :2]) for number, start, count in spans]


def _kind(instance: Instance, users: np.ndarray) -> tuple[str, int]:
    """What a resource is that serves these (source, target) pairs, and whose port where it is one."""
    n, count = instance.boards, len(users)
    (a, b), sources, targets = users[0].tolist(), users[:, 0], users[:, 1]
    if len({(x, y) for x, y in users.tolist()}) < count:
        return "shared", -1  # a route that passes it twice
    one_source, one_target = bool((sources == a).all()), bool((targets == b).all())
    if one_source and count == n - 1:
        return "out", a
    if one_target and count == n - 1:
        return "in", b
    for owner in (a, b):
        if count == 2 * (n - 1) and bool(((sources == owner) | (targets == owner)).all()):
            return "both", owner
    is_lone = instance.replicas == 1 and not instance.teams and (one_source or one_target)
    return ("pair" if is_lone and (a if one_source else b) != instance.root else "shared"), -1


def _shares(instance: Instance, shared: list[tuple[int, np.ndarray]]) -> dict[tuple[int, int], Shares]:
    by_pair: dict[tuple[int, int], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for index, (number, users) in enumerate(shared):
        for a, b in users.tolist():
            by_pair[a, b][index] += float(instance.resource_s[number])
    return {pair: tuple(sorted(shares.items())) for pair, shares in by_pair.items()}


def without_shares(instance: Instance) -> Instance:
    """The same without sharing: what several pairs share is a link of its own for each of them. Never slower."""
    shared_s = resources(instance).shared_s
    shared = set(resources(instance).shared)
    resource_s = list(np.asarray(instance.resource_s, float))
    routes = [[tuple(q for q in way if q not in shared) for way in row] for row in instance.routes]
    for (a, b), shares in shared_s.items():
        routes[a][b] += (len(resource_s),)
        resource_s.append(max(seconds for _, seconds in shares))
    return replace(instance, routes=tuple(tuple(row) for row in routes), resource_s=np.array(resource_s))
