"""Suites: what they ask to be measured, cell by cell, and their files, with one clear sentence for every mistake.

A cell is one model and batch on the first ranks of one testbed; files are TOML as :mod:`flexpie_mpi.suite` has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice, product
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from ..core.choices import PLANNERS
from ..core.document import DocumentTable, is_number, is_whole, printable, read_toml, shown
from ..core.errors import FlexPieError, SuiteError
from ..testbed import Testbed
from ..testbed import read as read_testbed
from .results import Result

Key = TypeVar("Key")
Thing = TypeVar("Thing")

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


@dataclass(frozen=True, slots=True)
class Suite:
    """Cells under a name, and how long to measure for the cost model first, in seconds."""

    name: str
    cells: tuple[Cell, ...]
    trace_budget_s: float

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


def grouped(things: Iterable[Thing], key: Callable[[Thing], Key]) -> dict[Key, list[Thing]]:
    """Things by a key, in the order of the first of each.

    >>> grouped(["one", "two", "three"], len)
    {3: ['one', 'two'], 5: ['three']}
    """
    groups: dict[Key, list[Thing]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups


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


# The file

FORMAT = 1
TRACE_BUDGET_S = 120.0

MOST_BYTES, MOST_CELLS = 1 << 18, 100_000

_WHOLE = {"repeats": 1, "warmup": 0, "most_repeats": 1, "seed": 0, "threads": 1}
"""Terms that are whole numbers, and the least of each."""


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


_TEXTS = (_list_of(lambda item: isinstance(item, str) and bool(item)), "a list of texts, with one at least")
_COUNTS = (_list_of(partial(is_whole, least=1)), "a list of whole numbers from 1 on")
_TIME = (lambda value: is_number(value, 0.0) and value != inf, "a number of seconds from 0 on")
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("models", "testbeds", "planners"), _TEXTS),
    **dict.fromkeys(("ranks", "batch"), _COUNTS),
    **dict.fromkeys(("seconds", "trace_budget"), _TIME),
    **{key: (partial(is_whole, least=least), f"a whole number from {least} on") for key, least in _WHOLE.items()},
}
"""What the value of a key must be, and how a sentence says so."""

_SHARED = ("planners", *_WHOLE, "seconds")
_TOP = ("format", "name", "trace_budget", "study", *_SHARED)
_STUDY = ("models", "testbeds", "ranks", "batch", *_SHARED)


def read(path: str | PathLike[str]) -> Suite:
    """The suite of a TOML file, the testbeds it names read with it.

    Raises SuiteError when the file, or a testbed it names, cannot be read or says something that cannot be; the
    sentence names the file and the key.
    """
    return read_toml(path, MOST_BYTES, "suite", lambda record: _suite(record, Path(path)), SuiteError)


def _value(table: DocumentTable, key: str, default: Any = None) -> Any:
    """The value of a key, which must be as `_VALUES` says; a list names nothing twice."""
    value = table.get(key, *_VALUES[key], default)
    repeated = [item for item, count in Counter(value).items() if count > 1] if isinstance(value, list) else []
    if repeated:
        raise SuiteError(f"{table.where}: {key} names {shown(repeated[0])} twice")
    return value


def _suite(record: Mapping[str, Any], path: Path) -> Suite:
    top = DocumentTable("the suite", record)
    top.check(_TOP)
    top.check_format(FORMAT)
    name = top.text("name", path.stem)
    studies = top.tables("study", "studies", "models and testbeds")
    shared = {key: value for key, value in record.items() if key in _SHARED}
    tables = [DocumentTable(f"study {number}", item, shared) for number, item in enumerate(studies, 1)]
    cells = list(islice((cell for table in tables for cell in _cells(table, path.parent)), MOST_CELLS + 1))
    if len(cells) > MOST_CELLS:
        raise SuiteError(f"its studies ask for more than {MOST_CELLS} cells, the most that a suite may have")
    _check_names(cells)
    return Suite(name, merged(cells), float(_value(top, "trace_budget", TRACE_BUDGET_S)))


def _cells(table: DocumentTable, folder: Path) -> Iterator[Cell]:
    """The cells of a study: testbed by testbed, and on each by ranks."""
    table.check(_STUDY)
    models, planners = _value(table, "models"), _planners(table)
    sites = [_site(table, text, folder) for text in _value(table, "testbeds")]
    ranks, batches = _value(table, "ranks") if "ranks" in table.record else [], _value(table, "batch", [1])
    terms = _terms(table)
    for site in sites:
        for count, model, batch in product(_ranks(table, site, ranks), models, batches):
            source = model if model.startswith(BUILTIN) else str(folder / model)
            yield Cell(model, source, batch, site, count, planners, terms)


def _planners(table: DocumentTable) -> tuple[str, ...]:
    names = _value(table, "planners")
    for name in names:
        if name not in PLANNERS:
            close = get_close_matches(name, PLANNERS, 1)
            hint = f"did you mean '{close[0]}'" if close else f"choose from {', '.join(PLANNERS)}"
            raise SuiteError(f"{table.where}: there is no planner '{printable(name, 80)}'; {hint}")
    return tuple(names)


def _terms(table: DocumentTable) -> Terms:
    wholes = {key: _value(table, key) for key in _WHOLE if key in table.record or key in table.defaults}
    terms = Terms(**wholes, seconds=float(_value(table, "seconds", 0.0)))
    if terms.most_repeats and terms.most_repeats < terms.repeats:
        raise SuiteError(
            f"{table.where}: most_repeats = {terms.most_repeats} must not be below repeats = {terms.repeats}"
        )
    return terms


def _site(table: DocumentTable, text: str, folder: Path) -> Site:
    if text == HOSTS:
        return Site(HOSTS)
    path = folder / text
    try:
        testbed = read_testbed(path)
    except FlexPieError as error:
        raise SuiteError(f"{table.where}: {error}") from error
    return Site(testbed.name, str(path), testbed)


def _ranks(table: DocumentTable, site: Site, ranks: list[int]) -> Sequence[int | None]:
    """Numbers of ranks on a testbed: those of the study, or else all its boards."""
    if site.testbed is None:
        return ranks or [None]
    boards = site.testbed.ranks
    too_many = [count for count in ranks if count > boards]
    if too_many:
        raise SuiteError(f"{table.where}: ranks = {too_many[0]}, and testbed '{site.name}' has {boards} boards")
    return ranks or [boards]


def _check_names(cells: Sequence[Cell]) -> None:
    """Results know testbeds by their names."""
    paths: dict[str, str] = {}
    for cell in cells:
        known = paths.setdefault(cell.site.name, cell.site.path)
        if known != cell.site.path:
            raise SuiteError(
                f"{known} and {cell.site.path} both describe a testbed called '{cell.site.name}': "
                "give one of them another name"
            )
