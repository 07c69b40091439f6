"""Placements: the paper's evaluation once more, and what it does not vary; a page of tables and pictures.

``python bench/placement/run.py --output results.jsonl --report DIR [--studies paper,memory] [--trials 5] [--quick]``
``python bench/placement/run.py --again results.jsonl``: repeat some of its trials, and say whether they come out alike
``python bench/placement/run.py --of results.jsonl [more.jsonl] --report DIR [--json FILE]``: the page alone

README.md beside this file says what is drawn, counted and varied.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from math import isclose
from pathlib import Path

from pages import make_page
from studies import STUDIES, cells
from trials import append_trials, check_kind, read_trials
from trying import again, attempt, circumstances

from flexpie_mpi.commands.output import Progress
from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.placement.solvers import SOLVERS
from flexpie_mpi.report.page import summary_items, write_page
from flexpie_mpi.report.tables import text_of

QUICK_BOARDS, QUICK_TRIALS = 12, 2
REPEATED = 100


def main() -> int:
    """Make trials and report on them, or repeat some."""
    options = _options()
    try:
        return _run(options)
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.again:
        return _repeat(options)
    if options.of:
        check_kind(options.of)
        _report(options, options.of)
        return 0
    path = Path(options.output)
    if path.exists() and path.stat().st_size:
        print(f"{path} exists: name another file, or remove it", file=sys.stderr)
        return 2
    _make(options, path)
    if options.report:
        _report(options, [str(path)])
    return 0


def _report(options: argparse.Namespace, paths: Sequence[str]) -> None:
    """Write the page about trials, and say what they come to."""
    if options.report is None:
        raise ReportError("the page needs a folder to write to: give --report DIR")
    folder = Path(options.report)
    folder.mkdir(parents=True, exist_ok=True)
    trials = [trial for path in paths for trial in read_trials(path)]
    page = make_page(trials, [Path(path).name for path in paths])
    with Progress(sys.stderr) as progress:
        write_page(page, folder, progress.tell)
    if options.json:
        Path(options.json).write_text(json.dumps(page.record, indent=2, allow_nan=False) + "\n")
    sys.stdout.write(text_of(summary_items(page, options.report), sys.stdout))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="placement.jsonl", help="lines of JSON, one per trial")
    parser.add_argument("--report", metavar="DIR", help="folder for the page")
    parser.add_argument("--studies", default=",".join(STUDIES))
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    parser.add_argument("--trials", type=int, help="of every cell; by default as studies.py says")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds for one search, where it can be limited")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TRIALS} trials, up to {QUICK_BOARDS} boards")
    parser.add_argument("--again", metavar="RESULTS", help="repeat trials of a file")
    parser.add_argument("--of", nargs="+", metavar="RESULTS", help="make no trials, but the page about those of files")
    parser.add_argument("--json", metavar="FILE", help="where the numbers of the page go, too")
    return parser.parse_args()


def _make(options: argparse.Namespace, path: Path) -> None:
    about, solvers = circumstances(), options.solvers.split(",")
    wanted = [cell for study in options.studies.split(",") for cell in cells(study)]
    if options.quick:
        wanted = [cell for cell in wanted if cell.boards <= QUICK_BOARDS and not cell.model.startswith("builtin:")]
    with Progress(sys.stderr) as progress:
        for done, cell in enumerate(wanted):
            progress.tell(f"{done} of {len(wanted)}: {cell.study}, {cell.model}, {cell.boards} boards")
            trials = options.trials or (QUICK_TRIALS if options.quick else STUDIES[cell.study])
            append_trials(path, [attempt(cell, number, solvers, options.limit, about) for number in range(trials)])


def _repeat(options: argparse.Namespace) -> int:
    """Trials spread over the file, once more; searches that ran out of time may come out otherwise."""
    trials = read_trials(options.again)
    differ = 0
    for trial in trials[:: max(1, len(trials) // REPEATED)]:
        solvers = [name for name in options.solvers.split(",") if name in trial.answers]
        for name, (then, now) in again(trial, solvers, options.limit).items():
            if not isclose(then, now):
                differ += 1
                print(f"{trial.study}, {trial.model}, trial {trial.number}, {name}: {then} s, and now {now} s")
    print(f"{differ} answers differ")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
