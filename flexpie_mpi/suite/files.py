"""Suite files: TOML as :mod:`flexpie_mpi.suite` describes it, read with one clear sentence for every mistake."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import FlexPieError, SuiteError
from ..planner import PLANNERS
from ..testbed import read as read_testbed
from .cells import BUILTIN, HOSTS, Cell, Site, Suite, Terms, merged

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1
TRACE_BUDGET_S = 120.0

_WHOLE = {"repeats": 1, "warmup": 0, "most_repeats": 1, "seed": 0, "threads": 1}
"""Terms that are whole numbers, and the least of each."""

_SHARED = ("planners", *_WHOLE, "seconds")
_TOP = ("format", "name", "trace_budget", "study", *_SHARED)
_STUDY = ("models", "testbeds", "ranks", "batch", *_SHARED)


def read(path: str | PathLike[str]) -> Suite:
    """The suite of a TOML file, the testbeds it names read with it.

    Raises
    ------
    SuiteError
        When the file, or a testbed it names, cannot be read or says something that cannot be; the sentence names the
        file and the key.
    """
    try:
        with open(path, "rb") as file:
            record = tomllib.load(file)
    except OSError as error:
        raise SuiteError(f"cannot read the suite {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path} is not TOML: {error}") from error
    try:
        return _suite(record, Path(path))
    except FlexPieError as error:
        raise SuiteError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file, called `where` in sentences; what it lacks, `defaults` may have."""

    where: str
    record: Mapping[str, Any]
    defaults: Mapping[str, Any]

    def check(self, allowed: Sequence[str]) -> None:
        unknown = sorted(set(self.record) - set(allowed))
        if unknown:
            raise SuiteError(f"{self.where} has an unknown key '{unknown[0]}'; it may have {', '.join(allowed)}")

    def get(self, key: str, default: Any = None) -> Any:
        found = self.record.get(key, self.defaults.get(key, default))
        if found is None:
            raise SuiteError(f"{self.where} lacks the key '{key}'")
        return found

    def texts(self, key: str) -> list[str]:
        found = self.get(key)
        if not isinstance(found, list) or not found or not all(isinstance(item, str) and item for item in found):
            raise SuiteError(f"{self.where}: {key} = {found!r} must be a list of texts, with one at least")
        return _distinct(self.where, key, found)

    def wholes(self, key: str, default: list[int] | None) -> list[int] | None:
        found = self.record.get(key, default)
        if found is None:
            return None
        if not isinstance(found, list) or not found or not all(_is_whole(item, 1) for item in found):
            raise SuiteError(f"{self.where}: {key} = {found!r} must be a list of whole numbers from 1 on")
        return _distinct(self.where, key, found)

    def whole(self, key: str, least: int, default: int) -> int:
        found = self.get(key, default)
        if not _is_whole(found, least):
            raise SuiteError(f"{self.where}: {key} = {found!r} must be a whole number from {least} on")
        return int(found)

    def seconds(self, key: str, default: float) -> float:
        found = self.get(key, default)
        if not isinstance(found, (int, float)) or isinstance(found, bool) or not 0 <= found < float("inf"):
            raise SuiteError(f"{self.where}: {key} = {found!r} must be a number of seconds from 0 on")
        return float(found)


def _distinct(where: str, key: str, found: list[Any]) -> list[Any]:
    twice = [item for item in found if found.count(item) > 1]
    if twice:
        raise SuiteError(f"{where}: {key} names {twice[0]!r} twice")
    return found


def _is_whole(found: object, least: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= least


def _suite(record: Mapping[str, Any], path: Path) -> Suite:
    top = _Table("the suite", record, {})
    top.check(_TOP)
    if record.get("format", FORMAT) != FORMAT:
        raise SuiteError(f"format = {record['format']!r}, and this version reads format {FORMAT}")
    name = top.get("name", path.stem)
    if not isinstance(name, str) or not name:
        raise SuiteError(f"the suite: name = {name!r} must be a text")
    studies = record.get("study", [])
    if not isinstance(studies, list) or not all(isinstance(item, dict) for item in studies):
        raise SuiteError("each study must be a table of its own, headed [[study]]")
    if not studies:
        raise SuiteError("there are no studies; write a table headed [[study]], with models and testbeds, for each")
    shared = {key: value for key, value in record.items() if key in _SHARED}
    tables = [_Table(f"study {place}", item, shared) for place, item in enumerate(studies, 1)]
    cells = [cell for table in tables for cell in _cells(table, path.parent)]
    _check_names(cells)
    return Suite(name, merged(cells), top.seconds("trace_budget", TRACE_BUDGET_S))


def _cells(table: _Table, folder: Path) -> Iterator[Cell]:
    """The cells of a study: testbed by testbed, and on each by ranks."""
    table.check(_STUDY)
    models, planners = table.texts("models"), _planners(table)
    sites = [_site(table, text, folder) for text in table.texts("testbeds")]
    ranks, batches = table.wholes("ranks", None), table.wholes("batch", [1]) or [1]
    terms = _terms(table)
    for site in sites:
        for count, model, batch in product(_ranks(table, site, ranks), models, batches):
            yield Cell(model, _source(model, folder), batch, site, count, planners, terms)


def _planners(table: _Table) -> tuple[str, ...]:
    found = table.texts("planners")
    for name in found:
        if name not in PLANNERS:
            close = get_close_matches(name, PLANNERS, 1)
            hint = f"did you mean '{close[0]}'" if close else f"choose from {', '.join(PLANNERS)}"
            raise SuiteError(f"{table.where}: there is no planner '{name}'; {hint}")
    return tuple(found)


def _terms(table: _Table) -> Terms:
    wholes = {key: table.whole(key, least, getattr(Terms(), key)) for key, least in _given(table)}
    terms = Terms(**wholes, seconds=table.seconds("seconds", 0.0))
    if terms.most_repeats and terms.most_repeats < terms.repeats:
        raise SuiteError(
            f"{table.where}: most_repeats = {terms.most_repeats} must not be below repeats = {terms.repeats}"
        )
    return terms


def _given(table: _Table) -> Iterator[tuple[str, int]]:
    """The whole numbers that a study, or the suite, gives; others keep what they are by default."""
    return ((key, least) for key, least in _WHOLE.items() if key in table.record or key in table.defaults)


def _site(table: _Table, text: str, folder: Path) -> Site:
    if text == HOSTS:
        return Site(HOSTS)
    path = folder / text
    try:
        testbed = read_testbed(path)
    except FlexPieError as error:
        raise SuiteError(f"{table.where}: {error}") from error
    return Site(testbed.name, str(path), testbed)


def _ranks(table: _Table, site: Site, ranks: list[int] | None) -> Sequence[int | None]:
    """Numbers of ranks on a testbed: those of the study, or else all its boards."""
    if site.testbed is None:
        return ranks or [None]
    boards = site.testbed.ranks
    too_many = [count for count in ranks or () if count > boards]
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
