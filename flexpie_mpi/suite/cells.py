"""Cells: what a suite asks to be measured, one model and batch on the first ranks of one testbed at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ..testbed import Testbed
from .results import Result

HOSTS = "hosts"
"""The testbed that is the job itself: the ranks that mpirun started, as they are."""

BUILTIN = "builtin:"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a cell is measured."""

    # `repeats` and `warmup`: rounds that count, at least, and those before them that do not
    repeats: int = 10
    warmup: int = 2
    most_repeats: int = 0  # rounds that count, at most; between the two, as many as `seconds` allow
    seconds: float = 0.0
    seed: int = 0  # of the inputs
    threads: int = 1  # onnxruntime threads of a rank of `HOSTS`; the devices of a testbed's file have their own


@dataclass(frozen=True, slots=True)
class Site:
    """A testbed as a suite names it; `path` and `testbed` are of its file, and `HOSTS` has none."""

    name: str
    path: str = ""
    testbed: Testbed | None = None

    @property
    def digest(self) -> str:
        """Of the testbed; empty where only the job can tell."""
        return self.testbed.digest if self.testbed else ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model and batch on the first ranks of one testbed, and the planners to compare there.

    `model` is as the suite names it and `source` what can be loaded; `ranks` is None for all that the job has.
    """

    model: str
    source: str
    batch: int
    site: Site
    ranks: int | None
    planners: tuple[str, ...]
    terms: Terms = Terms()

    @property
    def label(self) -> str:
        """What patterns match: ``resnet18/flexpie-ring4-1g/4/1`` (model, testbed, ranks, batch)."""
        ranks = "all" if self.ranks is None else self.ranks
        return f"{self.model.removeprefix(BUILTIN)}/{self.site.name}/{ranks}/{self.batch}"

    def matches(self, pattern: str | None) -> bool:
        """Whether the label begins as a pattern says, such as ``resnet*/*ring*``; all do without one.

        >>> cell = Cell("builtin:vgg16", "builtin:vgg16", 1, Site("hosts"), 2, ("auto",))
        >>> cell.matches("vgg*"), cell.matches("*/hosts/2"), cell.matches("*/hosts/3")
        (True, True, False)
        """
        return pattern is None or fnmatchcase(self.label, f"{pattern}*")

    def on(self, ranks: int) -> Cell:
        """The cell of a job of so many ranks."""
        return replace(self, ranks=ranks)


@dataclass(frozen=True, slots=True)
class Suite:
    """Cells under a name, and how long to measure for the cost model first, in seconds."""

    name: str
    cells: tuple[Cell, ...]
    trace_budget_s: float

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every testbed once, in order."""
        return tuple({cell.site.name: cell.site for cell in self.cells}.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """Every model once, in order, as it can be loaded."""
        return tuple(dict.fromkeys(cell.source for cell in self.cells))


def merged(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each model, batch, testbed and number of ranks once, with the planners of all its cells and the first's terms."""
    by_key: dict[tuple[str, int, str, int | None], Cell] = {}
    for cell in cells:
        key = (cell.model, cell.batch, cell.site.name, cell.ranks)
        known = by_key.get(key, cell)
        by_key[key] = replace(known, planners=tuple(dict.fromkeys((*known.planners, *cell.planners))))
    return tuple(by_key.values())


def planners_done(
    results: Iterable[Result],
    suite: str,
    cell: Cell,
    model_digest: str,
    testbed_digest: str,
    *,
    is_emulated: bool = True,
) -> set[str]:
    """Planners that a suite's rows have for a cell, of this very model and testbed, on boards or emulated ones."""
    return {
        row.planner
        for row in results
        if (row.suite, row.is_emulated) == (suite, is_emulated)
        and row.cell == (cell.model, cell.batch, cell.site.name, cell.ranks)
        and (row.model_digest, row.testbed_digest) == (model_digest, testbed_digest)
    }


def is_done(results: Sequence[Result], suite: str, cell: Cell, model_digest: str, testbed_digest: str) -> bool:
    """Whether every planner of a cell has its row."""
    return planners_done(results, suite, cell, model_digest, testbed_digest) >= set(cell.planners)
