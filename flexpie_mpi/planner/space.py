"""The search problem as numbers: what a planner chooses from, with everything about models and boards left behind.

A plan is a path over *cuts* 0 .. n. Each step is a segment ``[i, j)`` in one layout. Values that are alive at a cut
(made before it, read behind it) have a *state*: how the ranks hold them, which is the layout they were made in until a
segment fetches all of them. Entering a segment costs an exchange for every value that it reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Options:
    """The M segments that may begin at one cut, where K values are alive.

    Attributes
    ----------
    end : int array (M,)
        The cut each ends at.
    layout : int array (M,)
    seconds : float array (M,)
        Compute and session call of the slowest rank.
    needs : int array (K, M)
        Column of each alive value's exchange tables; 0 where the segment does not read the value.
    fetches : bool array (K, M)
        Whether all ranks of the segment's layout then hold all of the value.
    weights : float array (M, R)
        Bytes of constants that each rank must hold for the segment; without columns where memory does not count.
    """

    end: np.ndarray
    layout: np.ndarray
    seconds: np.ndarray
    needs: np.ndarray
    fetches: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Space:
    """A search problem with n cuts behind the first, H states, and V values.

    The price of a path is the sum over its segments of `seconds` and of the entry exchange, and the exit exchange. An
    exchange of several values costs the largest of their latencies and the sum of their volumes.

    Attributes
    ----------
    options : tuple of Options
        By cut, 0 .. n - 1.
    alive : tuple of tuple of int
        Values alive at each cut, 0 .. n, in the order of the rows of `needs`. Those alive at a segment's end and not at
        its beginning are made by it, and held in its layout.
    start : tuple of int
        States of the values alive at cut 0.
    latency, volume : by value, float array (H, U)
        Seconds of fetching a value held in a state, by column of `needs`; column 0 is zero.
    exit_latency, exit_volume : by value, float array (H,)
        The same for bringing the outputs, those alive at cut n, to the root.
    upgrade : int array (H, L)
        State of a value held in a state, once all ranks of a layout have fetched all of it.
    capacity : float array (R,)
        Most bytes of constants that each rank may hold over all segments; empty where memory does not count.
    """

    options: tuple[Options, ...]
    alive: tuple[tuple[int, ...], ...]
    start: tuple[int, ...]
    latency: tuple[np.ndarray, ...]
    volume: tuple[np.ndarray, ...]
    exit_latency: tuple[np.ndarray, ...]
    exit_volume: tuple[np.ndarray, ...]
    upgrade: np.ndarray
    capacity: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def cuts(self) -> int:
        """Number of cuts behind the first."""
        return len(self.options)


Path = tuple[tuple[int, int, int], ...]
"""(cut, end cut, layout) of every segment of a plan."""
