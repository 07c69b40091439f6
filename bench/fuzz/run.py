"""Damaged and hostile files of every kind, read as the program reads them: each is used, or refused in a sentence.

``python bench/fuzz/run.py [--kind K ...] [--cases N] [--seed S] [--seconds T] [--workers W] [--keep DIR]``
``python bench/fuzz/run.py --kind K --seed S --case C [--keep DIR]``: one case again, with its traceback

Case C of a kind and seed is always the same files. Whatever is no answer and no FlexPieError is an escape:

- traceback, signal, hang (over 5 s of processor time, or 30 s in all), memory (over 1 GiB, or asked for);
- outside (a file opened that is not the case's own), leak (with its content in an answer, a sentence or the cache);
- left behind (files of a case that was refused), sentence (a refusal that is not one printable line).

Ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from math import inf
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before numpy

from arrays import KINDS_OF_ARRAYS
from cases import Kind
from costs import KINDS_OF_COST
from driver import Driver, Tally
from hdf5s import KINDS_OF_HDF5
from models import KINDS_OF_MODEL
from texts import KINDS_OF_TEXT
from worker import Limits, Worker

KINDS = {
    kind.name: kind for kind in (*KINDS_OF_MODEL, *KINDS_OF_TEXT, *KINDS_OF_COST, *KINDS_OF_HDF5, *KINDS_OF_ARRAYS)
}
_SHOWN = 12
"""Lines of a traceback that are shown."""


def main() -> int:
    """Run cases and tell what became of them."""
    options = _options()
    kinds = [KINDS[name] for name in options.kind or KINDS]
    limits = Limits(options.limit, options.memory)
    keep = Path(options.keep).absolute() if options.keep else None
    with tempfile.TemporaryDirectory(prefix="flexpie-fuzz-") as folder:
        if options.case is not None:
            return _one(kinds[0], options, Worker(Path(folder), limits), keep)
        until_s = time.monotonic() + options.seconds
        jobs = [(kind, options.first, options.first + options.cases) for kind in kinds]
        begin_s = time.monotonic()
        tallies = Driver(Path(folder), options.seed, limits, keep, options.workers, until_s).run(jobs)
    print(_table(tallies))
    defects = [(name, key, *found) for name, tally in tallies.items() for key, found in tally.defects.items()]
    for name, (outcome, key), number, text, count in defects:
        shown = "\n  ".join(text.strip().splitlines()[-_SHOWN:])
        first = f"--kind {name} --seed {options.seed} --case {number}"
        print(f"\n{outcome}: {key}\n  {count} times, first: {first}\n  {shown}")
    print(f"\n{len(defects)} kinds of escape in {time.monotonic() - begin_s:.0f} s")
    return int(bool(defects))


def _one(kind: Kind, options: argparse.Namespace, worker: Worker, keep: Path | None) -> int:
    verdict = worker.run(kind, options.seed, options.case, keep)
    print(f"{verdict.outcome} {verdict.key}\n{verdict.text}")
    return int(verdict.is_escape)


def _table(tallies: dict[str, Tally]) -> str:
    """Kinds by what became of their cases."""
    classes = sorted({name for tally in tallies.values() for name in tally.outcomes} - {"returned", "refused"})
    heads = ("kind", "cases", "returned", "refused", *classes, "ms/case")
    rows = []
    for name, tally in tallies.items():
        count = sum(tally.outcomes.values())
        each = 1e3 * tally.seconds / max(1, count)
        numbers = (tally.outcomes[item] for item in ("returned", "refused", *classes))
        rows.append((name, str(count), *map(str, numbers), f"{each:.1f}"))
    totals = [sum(int(row[column]) for row in rows) for column in range(1, len(heads) - 1)]
    rows.append(("all", *map(str, totals), ""))
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="of file (default: all)")
    parser.add_argument("--cases", type=int, default=200, help="of each kind (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one, in this process")
    parser.add_argument("--seconds", type=float, default=inf, help="begin no case after so long")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds of processor time of a case (default: 5)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB of a case (default: 1024)")
    parser.add_argument("--keep", metavar="DIR", help="where to put the files of cases that escape")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
