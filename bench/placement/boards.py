"""Boards as the paper's evaluation has them: points in a square, joined pairwise, the nearer the faster."""

from __future__ import annotations

import numpy as np
from networks import Row

from flexpie_mpi.placement import Instance

SIDE = (1.0, 150.0)
NOISE = 283230.0
"""Signal over noise at distance 1: a link of length d has log2(1 + NOISE / d^2) Mbit/s."""

MIB = 2**20
SPEEDS = (1.0, 0.5, 0.25)
"""Of boards where computing counts: a third of them each, on average."""


def bandwidths(boards: int, seed: tuple[int, ...]) -> np.ndarray:
    """Mbit/s between boards, array (n, n); its diagonal means nothing."""
    places = np.random.default_rng((*seed, 0)).uniform(*SIDE, (boards, 2))
    squared = np.sum((places[:, None] - places[None, :]) ** 2, axis=2)
    np.fill_diagonal(squared, 1.0)
    return np.log2(1 + NOISE / squared)


def capacities(boards: int, levels: tuple[int, ...], seed: tuple[int, ...]) -> np.ndarray:
    """Bytes of every board, each drawn from the levels, array (n,)."""
    return np.random.default_rng((*seed, 1)).choice(np.array(levels, float), boards)


def instance(row: Row, boards: int, levels: tuple[int, ...], seed: tuple[int, ...], computing: float = 0.0) -> Instance:
    """Boards and links drawn from a seed: the same for every network, accounting and level of memory.

    With `computing`, that is what a board of speed 1 takes for the whole network, over what a tensor of mean size takes
    on a link of mean bandwidth; boards then have one of `SPEEDS`. Without it, computing takes no time.
    """
    rates = bandwidths(boards, seed) * row.megabit / 8
    pairs = np.full((boards, boards), -1)
    upper = np.triu_indices(boards, 1)
    pairs[upper] = np.arange(len(upper[0]))
    pairs = np.maximum(pairs, pairs.T)
    return Instance(
        crossing=row.crossing,
        compute_s=_compute_s(row, boards, seed, computing * _typical_s(row, rates[upper])),
        need_bytes=row.need_bytes,
        capacity=capacities(boards, levels, seed),
        routes=tuple(tuple((pair,) for pair in of_board) for of_board in pairs.tolist()),
        resource_s=1 / rates[upper],
        root=None,
    )


def _typical_s(row: Row, rates: np.ndarray) -> float:
    """Seconds of a tensor of mean size on a link of mean bandwidth; 0 where there is no link."""
    return float(row.crossing[1:-1].mean() / rates.mean()) if len(rates) else 0.0


def _compute_s(row: Row, boards: int, seed: tuple[int, ...], whole_s: float) -> np.ndarray:
    if not whole_s or row.flops is None:
        return np.zeros((boards, row.units + 1, row.units + 1))
    shares = np.concatenate([[0.0], np.cumsum(row.flops)]) / row.flops.sum()
    spans = np.maximum(shares[None, :] - shares[:, None], 0.0)
    speeds = np.random.default_rng((*seed, 2)).choice(np.array(SPEEDS), boards)
    return whole_s * spans[None, :, :] / speeds[:, None, None]
