"""Made-up boards and links, well unless told otherwise."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

from flexpie_mpi.measure.board import Board
from flexpie_mpi.measure.clocking import Clocking
from flexpie_mpi.measure.examination import Examination, Link, Pace
from flexpie_mpi.measure.interfaces import Interface
from flexpie_mpi.measure.limits import Memory

GIGABIT = 1e9 / 8
ETH0 = Interface("eth0", True, False, GIGABIT)
WLAN0 = Interface("wlan0", False, True, None)
VERSIONS = {"python": "3.11.7", "flexpie-mpi": "0.2.0", "onnxruntime": "1.32.0", "mpi": "MPICH 5.0.2"}
SENT = 5 << 20


def board(host: str, **changes: Any) -> Board:
    """A Raspberry Pi."""
    well = Board(
        place=(host, f"kernel of {host}", (0, 1, 2, 3)),
        cores=(0, 1, 2, 3),
        architecture="aarch64",
        processor="Raspberry Pi 4",
        has_sme=False,
        versions=VERSIONS,
        block=0,
        memory=Memory(4 << 30, 3 << 30, "the host's memory"),
        processors=None,
        clocking=Clocking("performance", 1.0),
        interfaces=(ETH0,),
        shared_bytes=1 << 30,
    )
    return replace(well, **changes)


def cluster(count: int = 4, **changes: Any) -> list[Board]:
    """So many boards; `changes` by field are those of each rank, None for none."""
    boards = [board(f"pi{rank}") for rank in range(count)]
    for name, values in changes.items():
        boards = [
            each if value is None else replace(each, **{name: value})
            for each, value in zip(boards, values, strict=True)
        ]
    return boards


def link(a: int, b: int, bandwidth: float = 0.94 * GIGABIT, latency_s: float = 1e-4, through: str = "eth0") -> Link:
    passed = {through: SENT} if through else {"eth0": 1000}
    return Link((a, b), latency_s, bandwidth, SENT, (passed, passed))


def examination(boards: list[Board], **links: Any) -> Examination:
    """What is found of boards all of whose links are well, but for those given as ``_0_1=link(0, 1, ...)``."""
    count = len(boards)
    pairs = [links.get(f"_{a}_{b}", link(a, b)) for a, b in combinations(range(count), 2)]
    return Examination(tuple(boards), (0.0,) * count, (Pace(1e-3, 1.0),) * count, (1 << 35,) * count, tuple(pairs))
