"""Suite files: TOML as :mod:`flexpie_mpi.suite` describes it, read with one clear sentence for every mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import islice, product
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.choices import PLANNERS
from ..core.document import DocumentTable, is_number, is_whole, printable, read_toml, shown
from ..core.errors import FlexPieError, SuiteError
from ..testbed import read as read_testbed
from .cells import BUILTIN, HOSTS, Cell, Site, Suite, Terms, merged

FORMAT = 1
TRACE_BUDGET_S = 120.0

MOST_BYTES, MOST_CELLS = 1 << 18, 100_000

_WHOLE = {"repeats": 1, "warmup": 0, "most_repeats": 1, "seed": 0, "threads": 1}
"""Terms that are whole numbers, and the least of each."""

_SHARED = ("planners", *_WHOLE, "seconds")
_TOP = ("format", "name", "trace_budget", "study", *_SHARED)
_STUDY = ("models", "testbeds", "ranks", "batch", *_SHARED)


def read(path: str | PathLike[str]) -> Suite:
    """The suite of a TOML file, the testbeds it names read with it.

    Raises SuiteError when the file, or a testbed it names, cannot be read or says something that cannot be; the
    sentence names the file and the key.
    """
    return read_toml(path, MOST_BYTES, "suite", lambda record: _suite(record, Path(path)), SuiteError)


def _texts(table: DocumentTable, key: str) -> list[str]:
    return _distinct(table.where, key, table.get(key, _are_texts, "a list of texts, with one at least"))


def _are_texts(given: object) -> bool:
    return isinstance(given, list) and bool(given) and all(isinstance(item, str) and item for item in given)


def _wholes(table: DocumentTable, key: str, default: list[int]) -> list[int]:
    """Whole numbers; `default` where there are none."""
    if key not in table.record:
        return default
    return _distinct(table.where, key, table.get(key, _are_wholes, "a list of whole numbers from 1 on"))


def _are_wholes(given: object) -> bool:
    return isinstance(given, list) and bool(given) and all(is_whole(item, 1) for item in given)


def _whole(table: DocumentTable, key: str, least: int, default: int) -> int:
    return int(table.get(key, partial(is_whole, least=least), f"a whole number from {least} on", default))


def _seconds(table: DocumentTable, key: str, default: float) -> float:
    return float(table.get(key, _is_time, "a number of seconds from 0 on", default))


def _is_time(given: object) -> bool:
    return is_number(given, 0.0) and given != float("inf")


def _distinct(where: str, key: str, given: list[Any]) -> list[Any]:
    seen: set[Any] = set()
    for item in given:
        if item in seen:
            raise SuiteError(f"{where}: {key} names {shown(item)} twice")
        seen.add(item)
    return given


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
    return Suite(name, merged(cells), _seconds(top, "trace_budget", TRACE_BUDGET_S))


def _cells(table: DocumentTable, folder: Path) -> Iterator[Cell]:
    """The cells of a study: testbed by testbed, and on each by ranks."""
    table.check(_STUDY)
    models, planners = _texts(table, "models"), _planners(table)
    sites = [_site(table, text, folder) for text in _texts(table, "testbeds")]
    ranks, batches = _wholes(table, "ranks", []), _wholes(table, "batch", [1])
    terms = _terms(table)
    for site in sites:
        for count, model, batch in product(_ranks(table, site, ranks), models, batches):
            yield Cell(model, _source(model, folder), batch, site, count, planners, terms)


def _planners(table: DocumentTable) -> tuple[str, ...]:
    names = _texts(table, "planners")
    for name in names:
        if name not in PLANNERS:
            close = get_close_matches(name, PLANNERS, 1)
            hint = f"did you mean '{close[0]}'" if close else f"choose from {', '.join(PLANNERS)}"
            raise SuiteError(f"{table.where}: there is no planner '{printable(name, 80)}'; {hint}")
    return tuple(names)


def _terms(table: DocumentTable) -> Terms:
    wholes = {key: _whole(table, key, least, getattr(Terms(), key)) for key, least in _given(table)}
    terms = Terms(**wholes, seconds=_seconds(table, "seconds", 0.0))
    if terms.most_repeats and terms.most_repeats < terms.repeats:
        raise SuiteError(
            f"{table.where}: most_repeats = {terms.most_repeats} must not be below repeats = {terms.repeats}"
        )
    return terms


def _given(table: DocumentTable) -> Iterator[tuple[str, int]]:
    """The whole numbers that a study, or the suite, gives; others keep what they are by default."""
    return ((key, least) for key, least in _WHOLE.items() if key in table.record or key in table.defaults)


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


def _source(model: str, folder: Path) -> str:
    return model if model.startswith(BUILTIN) else str(folder / model)


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
