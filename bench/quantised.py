"""What equality can be had of a quantised model? Forms x layouts x ranks, all ranks of a job in one process.

``python bench/quantised.py [FORM ...] [--ranks 1,2,3] [--layouts rows,...] [--fusions free,none] [--seeds 7]``

A form is one of those of ``tests/quantised.py``, such as ``"bert: QDQ, per channel"``, or a word for all that hold it,
such as ``QDQ``. A row is a form: the largest difference of any job to one plain onnxruntime session, that of
onnxruntime's own optimisation levels to its default, and that of biases and scales off by one unit in their last place,
all as parts of the output's largest magnitude; then the equality that held in every job: bitwise, within the tolerance
of ``--verify``, or within what rounding was seen to change in onnxruntime itself (levels, nudges). Layouts that show
the same equality share a row. The exit code is 1 when a job was not equal by any of these.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from flexpie_mpi import AnalyticCost, Engine, Model, Plan, Task, layout_plan, load, make_plans, one_host, run_ranks
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.measure.compare import RULES, Reference, Rounding
from flexpie_mpi.model.equality import apart
from tests.quantised import forms, inputs, write

EQUALITIES = ("bitwise", "tolerance", *RULES, "NONE")
"""From the strictest on."""


@dataclass
class Row:
    """What the jobs of a form showed, the worst of each."""

    difference: float = 0.0
    seen: dict[str, float] | None = None
    equality: int = 0
    jobs: int = 0

    def add(self, difference: float, equality: str) -> None:
        self.difference = max(self.difference, difference)
        self.equality = max(self.equality, EQUALITIES.index(equality))
        self.jobs += 1


def plans(model: Model, ranks: list[int], layouts: list[str], fusions: list[str]) -> Iterator[tuple[str, Plan]]:
    """(layout, plan) of every job; ``auto`` searches by the analytic cost model."""
    for layout in layouts:
        for count in ranks:
            if layout == "auto":
                task = Task(model.graph, one_host(count, count), AnalyticCost())
                yield layout, make_plans("auto", task).plans[0].plan
            else:
                yield from ((layout, layout_plan(model.graph, count, layout, fusion=each)) for each in fusions)


def outputs_of(model: Model, plan: Plan, feeds: dict[str, Any], cache: Cache) -> dict[str, np.ndarray]:
    """Outputs of a job."""

    def rank(transport: Any) -> dict[str, np.ndarray]:
        engine = Engine(transport, model, plan, cache=cache)
        return {name: np.array(value) for name, value in engine.run(feeds).items()}

    return run_ranks(plan.ranks, rank, deadline_s=600)[plan.root]


def equality(checks: Any, outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    """The strictest that holds for all outputs."""
    if all(np.array_equal(outputs[name], value, equal_nan=True) for name, value in expected.items()):
        return "bitwise"
    rules = ["NONE" if check.problem else check.rule or "tolerance" for check in checks]
    return max(rules, key=EQUALITIES.index)


def study(form: str, folder: Path, options: argparse.Namespace) -> dict[str, Row]:
    """A row per layout."""
    path, cache = write(form, folder), Cache(folder / "cache")
    model = load(str(path), cache=cache)
    rows: dict[str, Row] = {}
    seen = dict.fromkeys(RULES, 0.0)
    for seed in options.seeds:
        feeds = inputs(path, seed)
        reference, rounding = Reference(model, 1), Rounding(path, 1)
        expected = reference.outputs(feeds)
        for rule in RULES:
            rounding.look(rule, feeds, expected)
            seen[rule] = max(seen[rule], *(rounding.known(rule, name) for name in expected))
        for layout, plan in plans(model, options.ranks, options.layouts, options.fusions):
            outputs = outputs_of(model, plan, feeds, cache)
            difference = max(apart(outputs[name], value) for name, value in expected.items())
            found = equality(reference.compare(feeds, outputs), outputs, expected)
            rows.setdefault(layout, Row(seen=seen)).add(difference, found)
    return rows


def lines(form: str, rows: dict[str, Row]) -> Iterator[str]:
    """Rows of the table; layouts that show the same equality share one."""
    for place, name in enumerate(EQUALITIES):
        chosen = {layout: row for layout, row in rows.items() if row.equality == place}
        if chosen:
            seen = next(iter(chosen.values())).seen or {}
            worst = max(row.difference for row in chosen.values())
            cells = (form, ", ".join(chosen), number(worst), *(number(seen[rule]) for rule in RULES), name)
            yield f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """A cell; an exact 0 is said to be one."""
    return f"{value:.1e}" if value else "0"


def main() -> int:
    """Print the table; 1 when a job was not equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", nargs="*")
    parser.add_argument("--ranks", default="1,2,3", type=lambda text: [int(count) for count in text.split(",")])
    parser.add_argument(
        "--layouts", default="rows,columns,grid,channels,batch,single,auto", type=lambda t: t.split(",")
    )
    parser.add_argument("--fusions", default="free,none", type=lambda text: text.split(","))
    parser.add_argument("--seeds", default="7", type=lambda text: [int(seed) for seed in text.split(",")])
    options = parser.parse_args()
    print(
        f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}; seeds {options.seeds}, ranks {options.ranks}, fusions {options.fusions}.\n"
    )
    print("| form | layouts | largest difference | onnxruntime's levels | nudged constants | equality |")
    print("| :--- | :--- | ---: | ---: | ---: | :--- |")
    jobs, bad = 0, 0
    for form in forms():
        if options.forms and not any(word in form for word in options.forms):
            continue
        with TemporaryDirectory() as folder:
            try:
                rows = study(form, Path(folder), options)
            except Exception as error:  # a kernel or package that is missing: the table says so
                print(f"| {form} | - | - | - | - | skipped: {str(error).splitlines()[0][:120]} |", flush=True)
                continue
        for line in lines(form, rows):
            print(line, flush=True)
        jobs += sum(row.jobs for row in rows.values())
        bad += sum(EQUALITIES[row.equality] == "NONE" for row in rows.values())
    print(f"\n{jobs} jobs.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
