"""What the doctor found: boards, links, and a verdict on each thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..core.versions import versions
from ..lower.memory import RankMemory
from ..measure.examination import Examination
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
    found, tables = diagnosis.found, []
    if found is not None:
        links = [("-".join(map(str, x.ends)), x.latency_s, x.bandwidth, _through(x.passed)) for x in found.links]
        tables = [Table(_BOARDS, [*_rows(found, diagnosis.needs)]).without_empty(), Table(_LINKS, links)]
    worst_first = sorted(diagnosis.verdicts, key=lambda verdict: -LEVELS.index(verdict.level))
    verdicts = [(v.level, v.check, v.finding, v.remedy) for v in worst_first]
    tables.append(Table(_VERDICTS, verdicts).without_empty())
    return [item for table in tables if table.rows for item in (table, "")][:-1]


def _rows(found: Examination, needs: Sequence[RankMemory]) -> Iterator[tuple[Any, ...]]:
    least_s = min(pace.seconds for pace in found.paces)
    needed: Sequence[int | None] = [need.total_bytes() for need in needs] or [None] * len(found.boards)
    facts = zip(found.boards, found.disks, found.offsets_s, found.paces, needed, strict=True)
    for rank, (board, disk, offset_s, pace, need) in enumerate(facts):
        yield (
            *(rank, board.host, board.architecture, len(board.cores), len(board.place[2]), board.block),
            *(board.clocking.governor, board.memory.free_bytes, disk, offset_s, pace.seconds / least_s),
            need,
        )


def health_record(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything in seconds and bytes."""
    found = diagnosis.found
    return {
        "boards": [*_board_records(found)] if found else [],
        "links": [asdict(link) for link in found.links] if found else [],
        "testbed": diagnosis.testbed and {"name": diagnosis.testbed.name, "digest": diagnosis.testbed.digest},
        "digests": diagnosis.digests,
        "needed_bytes": [need.total_bytes() for need in diagnosis.needs] or None,
        "verdicts": [asdict(verdict) for verdict in diagnosis.verdicts],
        "verdict": worst(diagnosis.verdicts),
        "versions": versions(),
    }


def _board_records(found: Examination) -> Iterator[dict[str, Any]]:
    facts = zip(found.boards, found.disks, found.offsets_s, found.paces, strict=True)
    for rank, (board, disk, offset_s, pace) in enumerate(facts):
        host, machine, threads = board.place
        own = {key: value for key, value in asdict(board).items() if key != "place"}
        counts = {"cores": len(board.cores), "threads": len(threads), "disk_bytes": disk}
        more = {"clock_offset_s": offset_s, "pace": asdict(pace)}
        yield {"rank": rank, "host": host, "machine": machine, **own, **counts, **more}


def _through(passed: tuple[Any, Any]) -> str:
    """The interface at either end that sent most; nothing where none sent much."""
    names = [max(counts, key=counts.__getitem__) if any(counts.values()) else "" for counts in passed]
    return names[0] if names[0] == names[1] else " - ".join(names)
