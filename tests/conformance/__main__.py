"""Run the whole suite and print the table: ``python -m tests.conformance [--part N] [--seed S] [--ranks 2,3]``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from .cases import passes_alone, suite, variants
from .run import CUTTING, LAYOUTS, PARTS, Tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, default=0, metavar="N", help="run N cases drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", default="2,3", help="numbers of ranks, such as 2,3")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    options = parser.parse_args()
    ranks = tuple(int(count) for count in options.ranks.split(","))
    everything = [case for case in suite() if options.match in case.name]
    cases = random.Random(options.seed).sample(everything, options.part) if options.part else everything
    given, frozen, refused = Tally(), Tally(), 0
    for number, case in enumerate(variants(tuple(cases)), 1):
        if not passes_alone(case):
            refused += 1
            continue
        folder = Path(tempfile.mkdtemp())
        (frozen if case.name.endswith("/frozen") else given).add(case, folder, ranks)
        shutil.rmtree(folder)
        if number % 50 == 0 and sys.stderr.isatty():
            print(f"\r{number} cases", end="", file=sys.stderr)
    report(given, frozen, refused, ranks)
    return 1 if given.failed or frozen.failed else 0


def report(given: Tally, frozen: Tally, refused: int, ranks: tuple[int, ...]) -> None:
    print(f"onnx node conformance suite through the engine on {' and '.join(map(str, ranks))} ranks")
    print(f"{refused} cases are left out: one onnxruntime session does not pass them\n")
    print(f"{'':26}{'as given':>12}{'parameters constant':>22}")
    for name in LAYOUTS:
        mark = "  (cuts)" if name in (*CUTTING, PARTS) else ""
        print(f"{name + mark:26}{given.passed[name]:>12}{frozen.passed[name]:>22}")
    for title, left, right in (
        ("cases", given.cases, frozen.cases),
        ("of these ran sharded", given.sharded, frozen.sharded),
        ("failed (case, layout)", len(given.failed), len(frozen.failed)),
    ):
        print(f"{title:26}{left:>12}{right:>22}")
    for line in (*given.failed, *frozen.failed):
        print("FAILED", line)


if __name__ == "__main__":
    sys.exit(main())
