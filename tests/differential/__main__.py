"""Draw and run cases and print the table: ``python -m tests.differential [--operators N] [--graphs N] [--seed S]``."""

from __future__ import annotations

import argparse
import sys

import onnxruntime

from .cases import draw
from .report import report
from .running import judge
from .working import verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operators", type=int, default=100, metavar="N", help="models of one operator that run")
    parser.add_argument("--graphs", type=int, default=30, metavar="N", help="small graphs that run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", default="1,2,3", help="numbers of ranks, such as 1,2,3")
    parser.add_argument("--from", type=int, default=0, metavar="NUMBER", dest="first", help="the first number drawn")
    parser.add_argument("--only", default="", metavar="KIND/NUMBER", help="one case, such as operators/17")
    options = parser.parse_args()
    ranks = tuple(int(count) for count in options.ranks.split(","))
    if options.only:
        onnxruntime.set_default_logger_severity(4)
        kind, number = options.only.split("/")
        found = {kind: [judge(draw(kind, options.seed, int(number)), int(number), ranks)]}
    else:
        wanted = {"operators": options.operators, "graphs": options.graphs}
        found = {
            kind: list(verdicts(kind, options.seed, options.first, count, ranks)) for kind, count in wanted.items()
        }
    return report(found, options.seed)


if __name__ == "__main__":
    sys.exit(main())
