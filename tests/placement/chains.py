"""Instances for tests of what makes chains: stages of one board each."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from flexpie_mpi.placement import Instance


def linked(crossing, speeds, *, capacity=np.inf, weights=None, compute=None, **others) -> Instance:
    """Boards joined pairwise, each pair by a link of its own.

    `crossing` are bytes at all cuts, `speeds` bytes per second of all pairs, `weights` bytes of memory of each unit,
    and `compute` seconds of each unit on each board, (n, m).
    """
    speeds = np.array(speeds, float)
    n, m = len(speeds), len(crossing) - 1
    pairs = [(a, b) for a in range(n) for b in range(n) if a < b]
    number = {pair: place for place, pair in enumerate(pairs)}
    routes = tuple(tuple((number[min(a, b), max(a, b)],) if a != b else () for b in range(n)) for a in range(n))
    return Instance(
        np.array(crossing, float),
        _spans(np.zeros((n, m)) if compute is None else np.array(compute, float)),
        _spans(np.zeros((1, m)) if weights is None else np.array([weights], float))[0],
        np.full(n, capacity, float) if np.isscalar(capacity) else np.array(capacity, float),
        routes,
        np.array([1 / speeds[pair] for pair in pairs]),
        **{"root": None, **others},
    )


def _spans(of_units: np.ndarray) -> np.ndarray:
    """Sums over the units ``[i, j)``; only ``i < j`` means anything."""
    sums = np.concatenate([np.zeros((len(of_units), 1)), np.cumsum(of_units, axis=1)], axis=1)
    return np.maximum(sums[:, None, :] - sums[:, :, None], 0.0)


@st.composite
def instances(draw) -> Instance:
    """Small ones of every kind: links or ports, root or none, compute or none, unequal memory, cuts that are barred."""
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    speeds = np.exp(numbers.normal(size=(n, n)))
    found = linked(
        numbers.integers(0, 6, m + 1),
        speeds + speeds.T,
        capacity=numbers.integers(m // n, 2 * m + 2, n) if draw(st.booleans()) else np.inf,
        weights=numbers.integers(0, 4, m),
        compute=numbers.integers(0, 5, (n, m)) if draw(st.booleans()) else None,
        root=draw(st.sampled_from([None, *range(n)])),
        cuttable=numbers.random(m + 1) < 0.7 if draw(st.booleans()) else None,
        most_boards=draw(st.one_of(st.none(), st.integers(1, n))),
    )
    return _through_ports(found, numbers) if draw(st.booleans()) else found


def _through_ports(instance: Instance, numbers: np.random.Generator) -> Instance:
    """The same boards behind a switch: a message passes the port of its sender and that of its receiver."""
    n = instance.boards
    routes = tuple(tuple((a, n + b) for b in range(n)) for a in range(n))
    parts = {name: getattr(instance, name) for name in ("crossing", "compute_s", "need_bytes", "capacity")}
    others = {name: getattr(instance, name) for name in ("root", "cuttable", "most_boards")}
    return Instance(**parts, routes=routes, resource_s=np.exp(numbers.normal(size=2 * n)), **others)
