"""What the doctor found: boards, links, and a verdict on each thing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..core.versions import versions
from ..lower.memory import RankMemory
from ..measure.board import Board
from ..session.doctor import Diagnosis
from ..session.verdicts import LEVELS, worst
from .tables import Column, Item, Table
from .units import digits, mb, milli

_BOARDS = (
    Column("rank", "number"),
    Column("host", "name"),
    Column("arch"),
    Column("cores", "number"),
    Column("threads", "number"),
    Column("block", "number"),
    Column("governor"),
    Column("free MB", "number", mb),
    Column("disk MB", "number", mb),
    Column("clock s", "number", digits),
    Column("pace", "number", digits),
    Column("need MB", "number", mb),
)
_LINKS = (
    Column("ranks"),
    Column("latency (ms)", "number", milli),
    Column("Mb/s", "number", lambda bandwidth: digits(bandwidth * 8e-6)),
    Column("through", "name"),
)
_VERDICTS = (
    Column("verdict"),
    Column("of"),
    Column("finding", "prose"),
    Column("what to do", "prose"),
)


def health_items(diagnosis: Diagnosis) -> list[Item]:
    """Tables of boards and links, then a line for each verdict, the worst first."""
    found = diagnosis.found
    needs: list[RankMemory | None] = [*diagnosis.needs] or [None] * len(found.boards)
    least_s = min(pace.seconds for pace in found.paces)
    facts = zip(found.boards, found.disks, found.offsets_s, found.paces, needs, strict=True)
    rows = [
        (
            *(
                rank,
                board.host,
                board.architecture,
                len(board.cores),
                len(board.place[2]),
                board.block,
                board.clocking.governor,
            ),
            *(board.memory.free_bytes, disk, offset_s, pace.seconds / least_s),
            need.total_bytes() if need else None,
        )
        for rank, (board, disk, offset_s, pace, need) in enumerate(facts)
    ]
    links = [("-".join(map(str, x.ends)), x.latency_s, x.bandwidth, _through(x.passed)) for x in found.links]
    worst_first = sorted(diagnosis.verdicts, key=lambda verdict: -LEVELS.index(verdict.level))
    verdicts = [(v.level, v.check, v.finding, v.remedy) for v in worst_first]
    tables = [Table(_BOARDS, rows).without_empty(), Table(_LINKS, links), Table(_VERDICTS, verdicts).without_empty()]
    return [item for table in tables if table.rows for item in (table, "")][:-1]


def health_record(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything in seconds and bytes."""
    found = diagnosis.found
    facts = zip(found.boards, found.disks, found.offsets_s, found.paces, found.sources, strict=True)
    return {
        "boards": [
            {"rank": rank, **_board(board), "disk_bytes": disk, "clock_offset_s": offset_s, "pace": asdict(pace)}
            | {"sources": source}
            for rank, (board, disk, offset_s, pace, source) in enumerate(facts)
        ],
        "links": [asdict(link) for link in found.links],
        "testbed": diagnosis.testbed and {"name": diagnosis.testbed.name, "digest": diagnosis.testbed.digest},
        "digests": diagnosis.digests,
        "needed_bytes": [need.total_bytes() for need in diagnosis.needs] or None,
        "verdicts": [asdict(verdict) for verdict in diagnosis.verdicts],
        "verdict": worst(diagnosis.verdicts),
        "versions": versions(),
    }


def _board(board: Board) -> dict[str, Any]:
    host, machine, threads = board.place
    record = {key: value for key, value in asdict(board).items() if key != "place"}
    return {"host": host, "machine": machine, **record, "cores": len(board.cores), "threads": len(threads)}


def _through(passed: tuple[Any, Any]) -> str:
    """The interface at either end that sent most; nothing where none sent much."""
    names = [max(counts, key=counts.__getitem__) if any(counts.values()) else "" for counts in passed]
    return names[0] if names[0] == names[1] else " - ".join(names)
