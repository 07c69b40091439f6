"""Where the time of R boards goes, network by network, one way of running against another: measured, and as a page.

``python bench/waterfall.py --output runs.jsonl [--models ...] [--variants "nchw=--boundaries nchw" "blocked="] ...``
``sudo python bench/waterfall.py --output runs.jsonl --testbed hostfiles/pi4x4.toml --infer "--cost cost.json"``
``python bench/waterfall.py --of runs.jsonl [more.jsonl] --report DIR``: the page alone

A variant is further words of ``flexpie-mpi infer``; without any there is one, as it is. Each run is a job of its own,
``infer --report`` on real ranks here or on emulated boards; variants take turns, forwards and backwards, round after
round, so that all share the machine's good and bad moments. The page has medians over rounds with quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flexpie_mpi.commands.output import Progress
from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.core.versions import machine
from flexpie_mpi.emulate import emulated
from flexpie_mpi.report.comparison import PARTS
from flexpie_mpi.report.figure import Draw, Figure, Patch, entitle, legend, panels, ticks
from flexpie_mpi.report.page import Page, summary_items, write_page
from flexpie_mpi.report.section import Part, Picture, Section
from flexpie_mpi.report.tables import Column, Item, Table, text_of
from flexpie_mpi.report.theme import Theme, mixed
from flexpie_mpi.report.units import milli, percent
from flexpie_mpi.testbed import read

MODELS = "mobilenet_v1,mobilenet_v2,resnet18,resnet50,inception_v1,vgg16"
HERE = "ranks of this machine"

KIND, FORMAT = "waterfall", 1
"""Of a line."""

Run = Mapping[str, Any]
"""One job: a line of the file."""

Start = Callable[[Sequence[str], int], int]
"""Starts a job of so many ranks, and gives its exit code."""

# Measuring


@contextmanager
def starter(testbed: str | None) -> Iterator[Start]:
    """What starts jobs: mpirun here, or on the boards of a testbed."""
    if testbed is not None:
        with emulated(read(testbed)) as cluster:
            yield lambda words, ranks: cluster.run(words, ranks=ranks)
        return
    mpirun = str(Path(sys.executable).with_name("mpirun"))
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    yield lambda words, ranks: subprocess.run([mpirun, "-n", str(ranks), *words], env=own, check=False).returncode


def measure(options: argparse.Namespace, path: Path) -> None:
    """Run every variant of every network, and append a line for each job."""
    cells = [(model, ranks) for model in options.models.split(",") for ranks in options.ranks]
    with starter(options.testbed) as start, TemporaryDirectory() as folder, Progress(sys.stderr) as progress:
        for number in range(options.rounds):
            for model, ranks in cells:
                for name in list(options.variants)[:: -1 if number % 2 else 1]:
                    progress.tell(f"round {number + 1} of {options.rounds}: {model}, {ranks} ranks, {name}")
                    run = job(options, start, Path(folder), (model, ranks, name))
                    with path.open("a") as file:
                        file.write(json.dumps(run, allow_nan=False) + "\n")


def job(options: argparse.Namespace, start: Start, folder: Path, cell: tuple[str, int, str]) -> Run:
    """One run of a variant; a cache that all share is in the folder."""
    model, ranks, variant = cell
    record = folder / "run.json"
    source = model if model.endswith(".onnx") else f"builtin:{model}"
    words = [sys.executable, "-m", "flexpie_mpi", "infer", "--model", source, "--report"]
    words += ["--repeat", str(options.repeat), "--json", str(record), "--cache", str(folder / "cache")]
    words += [*(("--testbed", options.testbed) if options.testbed else ()), *options.infer, *options.variants[variant]]
    with (folder / "said").open("w") as said, _output_to(said.fileno()):
        code = start(words, ranks)
    found = json.loads(record.read_text()) if code == 0 else {}
    if "shares" not in found.get("report", {}):
        raise ReportError(f"{shlex.join(words)} on {ranks} ranks ended with {code}:\n{(folder / 'said').read_text()}")
    shares = found["report"]["shares"]
    return {
        "kind": KIND,
        "format": FORMAT,
        "model": Path(model).stem,
        "ranks": ranks,
        "boards": read(options.testbed).name if options.testbed else HERE,
        "variant": variant,
        "words": shlex.join([*options.infer, *options.variants[variant]]),
        "latency_s": shares["latency_s"],
        "efficiency": shares["efficiency"],
        "inflation": shares["inflation"],
        "spent_s": {part["part"]: part["seconds"] for part in shares["spent"]},
        "versions": found["versions"],
        "machine": machine(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@contextmanager
def _output_to(file: int) -> Iterator[None]:
    """What jobs print goes to a file: it is of use only where one fails."""
    kept = os.dup(1)
    os.dup2(file, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# The page


def read_runs(paths: Iterable[str]) -> list[Run]:
    """All lines of files.

    Raises ReportError for a line that is none of this program's.
    """
    runs = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    if not runs or any((run.get("kind"), run.get("format")) != (KIND, FORMAT) for run in runs):
        raise ReportError(f"{', '.join(paths)}: every line must be of kind '{KIND}', format {FORMAT}")
    return runs


def make_page(runs: Sequence[Run], sources: Sequence[str]) -> Page:
    """A section about what was measured, and one for all networks on the same boards."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["boards"], run["ranks"]), []).append(run)
    return Page(
        "Where boards' time goes", (_made(runs, sources), *(_section(*key, its) for key, its in groups.items()))
    )


def _made(runs: Sequence[Run], sources: Sequence[str]) -> Section:
    days = sorted({run["date"][:10] for run in runs})
    versions = sorted({f"{name} {number}" for run in runs for name, number in run["versions"].items()})
    words = {run["variant"]: run["words"] for run in runs}
    machines = ", ".join(sorted({run["machine"] for run in runs}))
    facts = {
        "measured": f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, on {machines}",
        "versions": ", ".join(versions),
        **{f"variant {name}": f"`infer {text}`" if text else "`infer`" for name, text in words.items()},
        "runs": f"{len(runs)}, from {', '.join(sources)}",
    }
    about = (
        "A request on R boards takes what one board takes over R, which is the ideal, and what comes on top: work that "
        "several boards do; calls of sessions, with re-layouts at their ends; kernels that take more on a part "
        "than their share of the whole; exchange that no computing hides; waiting for the slowest board of a segment; "
        "and the rest. One board alone was measured in the same job, request by request in turn. Medians over rounds, "
        "in brackets quartiles; inflation is all boards' compute over one's, efficiency the ideal over the latency."
    )
    return Section("What was done", ["\n".join(f"- {name}: {text}" for name, text in facts.items()), about], {})


def _section(boards: str, ranks: int, runs: Sequence[Run]) -> Section:
    models = list(dict.fromkeys(run["model"] for run in runs))
    variants = list(dict.fromkeys(run["variant"] for run in runs))
    cells = {
        model: {name: [r for r in runs if (r["model"], r["variant"]) == (model, name)] for name in variants}
        for model in models
    }
    stem = f"waterfall-{''.join(letter if letter.isalnum() else '-' for letter in boards)}-{ranks}"
    heading = f"{ranks} {boards}" if boards == HERE else f"{ranks} boards of {boards}"
    about = f"What a request takes on {heading}, over the ideal: from one board's time over {ranks} to the latency"
    parts: list[Part] = [Picture(stem, about, waterfalls(cells))]
    for model, its in cells.items():
        parts += [f"### {model}", _table(its)]
    record = {stem: {model: {name: list(those) for name, those in its.items()} for model, its in cells.items()}}
    return Section(heading[0].upper() + heading[1:], parts, record, list(_summary(cells, heading)))


def _table(cell: Mapping[str, Sequence[Run]]) -> Table:
    """Milliseconds of every part, a column for each variant; of two, the ratio of their latencies too."""
    columns = [Column("a request takes (ms)"), *(Column(name, "number") for name in cell)]
    rows = [
        [part, *(_spread([run["spent_s"][part] for run in runs], milli) for runs in cell.values())] for part in PARTS
    ]
    for name, show in (("latency_s", milli), ("efficiency", percent), ("inflation", "{:.2f}".format)):
        rows.append([name.removesuffix("_s"), *(_spread([run[name] for run in runs], show) for runs in cell.values())])
    gained = gain(cell)
    return Table(columns, [*rows, ["times faster", "", _spread(gained, "{:.3f}".format)]] if gained else rows)


def gain(cell: Mapping[str, Sequence[Run]]) -> list[float]:
    """Latency of the first of two variants over the second one's, round by round; empty where there are not two."""
    if len(cell) != 2:
        return []
    first, second = cell.values()
    return [before["latency_s"] / after["latency_s"] for before, after in zip(first, second, strict=False)]


def _spread(samples: Sequence[float], show: Callable[[float], str]) -> str:
    low, middle, high = (show(float(number)) for number in np.percentile(samples, [25, 50, 75]))
    return f"{middle} ({low} to {high})"


def _summary(cells: Mapping[str, Mapping[str, Sequence[Run]]], heading: str) -> Iterator[Item]:
    for model, cell in cells.items():
        told = (f"{name} {percent(float(np.median([run['efficiency'] for run in its])))}" for name, its in cell.items())
        yield f"{model:14}{heading}: efficiency {', '.join(told)}"


def waterfalls(cells: Mapping[str, Mapping[str, Sequence[Run]]]) -> Draw:
    """A panel per network: every part of a request on top of those before it, over the ideal; variants side by side."""
    variants = list(next(iter(cells.values())))
    width = 0.8 / len(variants)

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.6 + 2.5 * -(-len(cells) // 2))
        shades = [1.0 if place == len(variants) - 1 else 0.45 for place in range(len(variants))]
        for axes, (model, cell) in zip(panels(figure, len(cells), 2), cells.items(), strict=True):
            for place, (runs, shade) in enumerate(zip(cell.values(), shades, strict=True)):
                left = [index - 0.4 + (place + 0.5) * width for index in range(len(PARTS) + 1)]
                bottoms, heights = _steps(runs)
                colours = [mixed(colour, theme.paper, shade) for colour in (*theme.series[: len(PARTS)], theme.ink)]
                axes.bar(left, heights, width * 0.94, bottoms, color=colours)
            ticks(axes.xaxis, range(len(PARTS) + 1), [part.replace(" ", "\n") for part in (*PARTS, "all")])
            axes.tick_params(axis="x", labelsize=6.5)
            axes.grid(visible=False, axis="x")
            entitle(axes, (model,), 3.6)
            axes.set_ylabel("times the ideal")
        if len(variants) > 1:
            legend(
                figure, [Patch(color=mixed(theme.ink, theme.paper, shades[n]), label=v) for n, v in enumerate(variants)]
            )

    return draw


def _steps(runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Where each bar begins and how high it is, the whole last: medians of what each run has over its ideal."""
    parts = [float(np.median([run["spent_s"][part] / run["spent_s"]["ideal"] for run in runs])) for part in PARTS]
    ends = np.cumsum(parts).tolist()
    return [0.0, *ends[:-1], 0.0], [*parts, ends[-1]]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", metavar="RUNS", help="file that a line of JSON is added to for each run")
    parser.add_argument("--models", default=MODELS, help="built-in ones and .onnx files")
    parser.add_argument("--ranks", default="4", help="numbers of ranks")
    parser.add_argument("--testbed", metavar="T.toml", help="emulate its boards; ranks of this machine without")
    parser.add_argument("--variants", nargs="+", default=["now="], metavar="NAME=WORDS")
    parser.add_argument(
        "--infer", type=shlex.split, default=[], metavar="WORDS", help="words of infer for all variants"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=20, help="requests of a run")
    parser.add_argument("--of", nargs="+", metavar="RUNS", help="measure nothing, but make the page about these files")
    parser.add_argument("--report", metavar="DIR", help="folder for the page")
    options = parser.parse_args()
    options.ranks = [int(ranks) for ranks in options.ranks.split(",")]
    options.variants = {
        name: shlex.split(words) for name, _, words in (text.partition("=") for text in options.variants)
    }
    if not (options.of or options.output):
        parser.error("one of --output and --of is needed")
    return options


def main() -> int:
    """Measure, and make the page."""
    options = arguments()
    try:
        if not options.of:
            measure(options, Path(options.output))
        if options.report:
            folder = Path(options.report)
            folder.mkdir(parents=True, exist_ok=True)
            paths = options.of or [options.output]
            page = make_page(read_runs(paths), [Path(path).name for path in paths])
            write_page(page, folder)
            sys.stdout.write(text_of(summary_items(page, options.report), sys.stdout))
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
