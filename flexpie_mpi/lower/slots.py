"""Slots: how many requests of a stream a rank has room for at once.

Every slot is buffers and channels of its own, so the same rule decides what a rank makes and what its memory must hold.
"""

from __future__ import annotations

SLOTS_PER_TURN = 3
"""Of a rank that is not the root: a request that comes, one that is computed, one that leaves."""


def slots_of(is_root: bool, in_flight: int, turns: int) -> int:
    """Requests a rank has room for, a multiple of `turns`.

    >>> slots_of(True, 8, 1), slots_of(False, 8, 1), slots_of(True, 7, 2), slots_of(False, 1, 2)
    (8, 3, 8, 2)
    """
    per_turn = -(-in_flight // turns)
    return turns * (per_turn if is_root else min(SLOTS_PER_TURN, per_turn))
