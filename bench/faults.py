"""What becomes of a stream when something goes wrong: fault by fault, how it ends, who says so and when, what is lost.

``python bench/faults.py [--runs 10] [--only WORD] [--output faults.jsonl]`` in an environment with MPICH, and again in
one with Open MPI; ``python bench/faults.py --page PAGE.md --output faults.jsonl`` then writes the table between the
markers of a page.

Each run streams requests over three ranks into a file, waits until some are written, and does harm. Where the job
ended, one process goes on with the file (``--resume``); then every request is held against those of an undisturbed job.
*Named after* counts from the fault to the line that gives the reason, and of what is wrong from the start, from the
moment at which it can be seen; a wait has a deadline of four seconds. Faults of links and of the memory of one rank
need root: they happen on emulated boards, and in a control group.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from faulty import (
    RANKS,
    Job,
    Place,
    board_space,
    ending_jobs,
    judged,
    limit_link,
    on_ranks,
    rows,
    slow_board,
    undisturbed,
)

from flexpie_mpi.emulate.cleanup import new_prefix
from flexpie_mpi.emulate.system import MemoryGroups, memory_here
from tests.arrays import written
from tests.launch import REPOSITORY

BEGIN, END = "<!-- faults -->", "<!-- /faults -->"
TITLES = {"mpich": "MPICH", "openmpi": "Open MPI"}
PATIENCE_S = 120.0
"""A job that has said nothing for so long hangs."""

REQUESTS, LONG, LONGEST = 140, 240, 360
"""Of a stream; of one in which boards or links change; where another plan is taken up as well."""

BEFORE, LONG_BEFORE = 40, 110
"""Requests written before harm is done; where the root has to see first how long boards and links usually take."""

SLOWDOWN = 500
"""Of the boards: a request takes some 40 ms."""

SLOW_S, ADAPT_S = 12.0, 15.0
"""A board is slow for so long; the same where another plan is to be taken up meanwhile."""

Throw = Callable[[Job, Place], None]
Command = Callable[[Place, Path], Sequence[object]]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    name: str
    reason: str  # what is looked for in what the job says
    throw: Throw | None = None  # done to a job in the middle of its stream; None where it is wrong from the start
    command: Command = Place.plain
    needs_root: bool = False
    seen: str = ""  # the job says so when it gets to where what is wrong from the start can be seen
    requests: int = REQUESTS
    before: int = BEFORE


def to_rank(rank: int, *numbers: int, pause_s: float = 0.0) -> Throw:
    """Send signals to a rank, with a pause between two."""

    def throw(job: Job, place: Place) -> None:
        for number in numbers:
            job.signal(rank, number)
            time.sleep(pause_s)

    return throw


def to_launcher(number: int, *, group: bool = False) -> Throw:
    """Send a signal to mpirun, or to all that a terminal would send it to."""

    def throw(job: Job, place: Place) -> None:
        (os.killpg if group else os.kill)(job.process.pid, number)

    return throw


def slowed(seconds: float) -> Throw:
    """Let rank 1 have a tenth of its time for a while."""

    def throw(job: Job, place: Place) -> None:
        with slow_board(job, 1):
            time.sleep(seconds)

    return throw


def cut(job: Job, place: Place) -> None:
    """Take the cable of the last board away."""
    space = board_space(job, RANKS - 1)
    subprocess.run(["ip", "-n", space, "link", "set", "eth0", "down"], check=True)


def narrowed(job: Job, place: Place) -> None:
    """Let the cable of the last board carry a thousandth, less than half of what the stream wants."""
    limit_link(job, RANKS - 1, "1mbit")


def adapting(place: Place, out: Path) -> Sequence[object]:
    """A job of emulated boards that takes up another plan when they change."""
    return [*place.emulated(out), "--adapt"]


def elastic(place: Place, out: Path) -> Sequence[object]:
    """A job that is to outlive ranks, where the MPI library can do that."""
    switches = ["--with-ft", "ulfm"] if place.library == "openmpi" else []
    return on_ranks((RANKS, [*place.program(out), "--elastic"]), switches=switches)


def without_room(job: Job, place: Place) -> None:
    """Let no file of the root become larger than its results are now: what it writes beyond fails."""
    resource.prlimit(job.pids()[0], resource.RLIMIT_FSIZE, (job.out.stat().st_size,) * 2)


def with_flipped_bit(place: Place, out: Path) -> Sequence[object]:
    """A job in whose cache one bit of the largest slice of weights is another one."""
    slices = [path for path in (place.cache / "weights").iterdir() if path.suffix != ".sum"]
    largest = max(slices, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    return place.plain(out)


def with_rank_1(place: Place, out: Path, theirs: Sequence[object]) -> Sequence[object]:
    """A job whose rank 1 is started in another way."""
    ours = place.program(out)
    return on_ranks((1, ours), (1, theirs), (RANKS - 2, ours))


def with_other_model(place: Place, out: Path) -> Sequence[object]:
    """A job one of whose ranks is given another model."""
    return with_rank_1(place, out, place.program(out, "builtin:tiny_vgg"))


def with_other_version(place: Place, out: Path) -> Sequence[object]:
    """A job one of whose ranks has another version of this package."""
    copy = place.folder / "other"
    if not copy.exists():
        shutil.copytree(REPOSITORY / "flexpie_mpi", copy / "flexpie_mpi", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "flexpie_mpi-0.0.1.dist-info").mkdir()
        about = "Metadata-Version: 2.1\nName: flexpie-mpi\nVersion: 0.0.1\n"
        (copy / "flexpie_mpi-0.0.1.dist-info" / "METADATA").write_text(about)
    return with_rank_1(place, out, ["env", "-C", copy, f"PYTHONPATH={copy}", *place.program(out)])


def on_wrong_interface(place: Place, out: Path) -> Sequence[object]:
    """A job that is told to use a network interface that is not there."""
    switches = ["-iface", "nosuch0"]
    if place.library == "openmpi":
        switches = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "nosuch0"]
    return on_ranks((RANKS, place.program(out)), switches=switches)


GROUP = new_prefix()
"""Of one rank's memory; a next emulation removes it when this program is killed."""


def groups() -> MemoryGroups:
    """Where memory is limited."""
    found = memory_here()
    assert found is not None, "memory can be limited here"
    return found


def in_group(place: Place, out: Path) -> Sequence[object]:
    """A job one of whose ranks is in a control group."""
    group = groups().group(GROUP)
    group.mkdir()
    enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    return with_rank_1(place, out, [*enter, *place.program(out)])


BALLOON = """
import sys, time
for file, text in ((sys.argv[1] + "/cgroup.procs", "0"), ("/proc/self/oom_score_adj", "-1000")):
    open(file, "w").write(text)
held = []
for _ in range(200):
    held.append(bytearray(b"x") * (1 << 20))
time.sleep(2)
"""


def exhausted(job: Job, place: Place) -> None:
    """Leave a rank's control group a little room, and let another process, which the kernel spares, take more."""
    group = groups().group(GROUP)
    is_first = groups().version == 1
    used, limit = ("memory.usage_in_bytes", "memory.limit_in_bytes") if is_first else ("memory.current", "memory.max")
    (group / limit).write_text(str(int((group / used).read_text()) + (64 << 20)))
    subprocess.Popen([sys.executable, "-c", BALLOON, str(group)])


DEAD = r"rank 1\b.*(dead|killed|gone)|KILLED BY SIGNAL|signal 9|exited on signal|lost connection"
BOARDS_SEEN = "looking at the boards"
SLOW = "sends to the root .* times as long as"
TURNED = r"\S+ s after the one before"
SEEN = {"requests": LONG, "before": LONG_BEFORE}
TAKEN_UP = {"requests": LONGEST, "before": LONG_BEFORE}
FAULTS = (
    Fault("a rank is killed", DEAD, to_rank(1, signal.SIGKILL)),
    Fault("the root is killed", DEAD.replace("rank 1", "rank 0"), to_rank(0, signal.SIGKILL)),
    Fault("a rank is killed, --elastic", "was lost|--elastic", to_rank(1, signal.SIGKILL), elastic),
    Fault("the root is killed, --elastic", "was lost|--elastic", to_rank(0, signal.SIGKILL), elastic),
    Fault("the launcher is killed", r"launcher|mpirun|lost|proxy", to_launcher(signal.SIGKILL)),
    Fault("a rank is stopped for 2 s", "", to_rank(1, signal.SIGSTOP, signal.SIGCONT, pause_s=2.0)),
    Fault("a rank is stopped for ever", r"rank 1 .*is stopped", to_rank(1, signal.SIGSTOP)),
    Fault(f"a board is slow for {SLOW_S:.0f} s", r"rank 1 .* computes .* times as long as", slowed(SLOW_S), **SEEN),
    Fault("a board is slow, --adapt", TURNED, slowed(ADAPT_S), adapting, True, **TAKEN_UP),
    Fault("a link is cut", "link is cut", cut, Place.emulated, needs_root=True),
    Fault("a link carries 1 Mb/s", SLOW, narrowed, Place.emulated, True, **SEEN),
    Fault("a link carries 1 Mb/s, --adapt", TURNED, narrowed, adapting, True, **TAKEN_UP),
    Fault("a rank is out of memory", "for want of memory|ran out of memory", exhausted, in_group, needs_root=True),
    Fault("the disk is full", r"cannot be written: (File too large|No space)", without_room),
    Fault("a bit of a cache flips", r"is damaged", None, with_flipped_bit, seen="making sessions"),
    Fault("one rank has another model", "", None, with_other_model),
    Fault("one rank has another version", "two versions", None, with_other_version, seen=BOARDS_SEEN),
    Fault("the interface is not there", r"nosuch0", None, on_wrong_interface),
    Fault("SIGUSR1 to the launcher", r"SIGUSR1|stopped", to_launcher(signal.SIGUSR1)),
    Fault("SIGTERM to the launcher", r"SIGTERM|stopped", to_launcher(signal.SIGTERM)),
    Fault("Ctrl-C", r"SIGINT|stopped|interrupt", to_launcher(signal.SIGINT, group=True)),
)


@dataclass(frozen=True)
class Row:
    """What one run of a fault gave; times in seconds from the fault, None where nothing came."""

    fault: str
    library: str
    outcome: str
    named_s: float | None
    ended_s: float | None
    lost: int
    doubled: int
    said: tuple[str, ...] = ()


def run(fault: Fault, place: Place, expected: np.ndarray, number: int) -> Row | None:
    """Do harm to one job, and go on with its file where it has ended; None where it was over before harm was done."""
    out, since_s = place.folder / f"{number}.h5", time.monotonic()
    with Job(fault.command(place, out), out) as job:
        is_missed = fault.throw is not None
        if fault.throw is not None and job.begun(fault.before):
            is_missed, since_s = written(out) == len(expected), time.monotonic()
            fault.throw(job, place)
        while (end_s := job.ended(5)) is None and time.monotonic() < max(since_s, job.heard_s) + PATIENCE_S:
            pass
        code, before = job.process.poll(), written(out)
    said, named_s = [line for _, line in job.said], named_after(fault, job, since_s)
    if is_missed and named_s is None:
        return None
    if before < len(expected):
        with Job(place.alone(out), out) as again:
            again.ended(120)
        said += ["resumed:", *(line for _, line in again.said)] if again.process.returncode else []
    found = judged(rows(out), expected)
    return Row(
        fault.name,
        place.library,
        outcome_of(code if end_s else None, before, len(expected)),
        named_s,
        end_s and end_s - since_s,
        found["lost"] + found["unequal"],
        found["doubled"],
        tuple(said[-40:]),
    )


def named_after(fault: Fault, job: Job, since_s: float) -> float | None:
    """Seconds from when a fault could be seen, at this time at the earliest, until its reason was given."""
    named_s = job.named(fault.reason, since_s) if fault.reason else None
    if named_s is None or not fault.seen:
        return named_s
    seen = [when_s for when_s, line in job.said if re.search(fault.seen, line)]
    return since_s + named_s - max((when_s for when_s in seen if when_s <= since_s + named_s), default=since_s)


def outcome_of(code: int | None, before: int, requests: int) -> str:
    """What became of a job that left so many requests and an exit code, None where it did not end."""
    if code is None:
        return "hangs"
    if before == requests:
        return "goes on"
    if code == 0:
        return "ends in order"
    return "ends" if before else "is refused"


def table(found: Sequence[Row]) -> str:
    """The runs as lines of Markdown, a fault in each."""
    libraries = [name for name in TITLES if any(row.library == name for row in found)]
    heads = [f"{TITLES[name]} | named after, s" for name in libraries]
    lines = [
        f"| fault | {' | '.join(heads)} | runs | lost | doubled |",
        "| :--- |" + " :--- | ---: |" * len(libraries) + " ---: |" * 3,
    ]
    for name in dict.fromkeys(row.fault for row in found):
        of_fault = [row for row in found if row.fault == name]
        cells = [cell for library in libraries for cell in _cells([row for row in of_fault if row.library == library])]
        sums = len(of_fault), sum(row.lost for row in of_fault), sum(row.doubled for row in of_fault)
        lines.append(f"| {' | '.join([name, *cells, *map(str, sums)])} |")
    return "\n".join(lines)


def _cells(found: Sequence[Row]) -> tuple[str, str]:
    counts = Counter(row.outcome for row in found).most_common()
    outcome = ", ".join(what if len(counts) == 1 else f"{what} ({count})" for what, count in counts)
    times = sorted(row.named_s for row in found if row.named_s is not None)
    spread = "" if len(times) < 2 else f" ({times[0]:.1f} to {times[-1]:.1f})"
    return outcome, f"{statistics.median(times):.1f}{spread}" if times else ""


def write_page(page: Path, found: Sequence[Row]) -> None:
    """Put the table between the markers of a page."""
    text = page.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")


def read(path: Path) -> Iterator[Row]:
    """The runs of a file."""
    for line in path.read_text().splitlines() if path.exists() else ():
        yield Row(**json.loads(line))


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="of every fault (default 10)")
    parser.add_argument("--only", default="", metavar="REGEX", help="faults whose names match")
    parser.add_argument("--output", type=Path, default=Path("faults.jsonl"), help="runs are added to it")
    parser.add_argument("--page", type=Path, help="run nothing; write the table of the output into this page")
    options = parser.parse_args()
    if options.page:
        write_page(options.page, [*read(options.output)])
        return 0
    ending_jobs()
    faults = [fault for fault in FAULTS if re.search(options.only, fault.name)]
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, options.output.open("a") as output:
        place, out = Place(Path(folder), LONGEST, slowdown=SLOWDOWN), Path(folder, "undisturbed.h5")
        expected = undisturbed(place.alone(out), out)
        undisturbed(replace(place, requests=1).plain(warm := Path(folder, "warm.h5")), warm)  # as caches are then
        for number, fault in enumerate(faults * options.runs):
            if fault.needs_root and os.geteuid():
                continue
            try:
                row = run(fault, replace(place, requests=fault.requests), expected[: fault.requests], number)
            finally:
                if fault.command is in_group:
                    groups().remove(GROUP)
            if row is None:
                print(f"{fault.name}: the job was over before", flush=True)
                continue
            found.append(row)
            print({**vars(row), "said": ""}, flush=True)
            output.write(json.dumps(vars(row)) + "\n")
            output.flush()
    print(table(found))
    return 1 if any(row.lost or row.doubled for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
