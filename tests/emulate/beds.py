"""Small testbeds."""

from __future__ import annotations

from flexpie_mpi.testbed import Device, Testbed, ring, star, switch

SHAPES = {"switch": switch, "ring": ring, "star": star}
GIGABIT = 1e9 / 8


def bed(shape: str, count: int, bandwidth: float | list[float] = GIGABIT, **device: object) -> Testbed:
    return SHAPES[shape]([Device(f"d{rank}", **{"slowdown": 16.0} | device) for rank in range(count)], bandwidth, 5e-5)
