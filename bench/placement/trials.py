"""Trials: what every solver found on one instance, kept as lines of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import Any

from flexpie_mpi.core.document import DocumentError, dataclass_of, from_json, read_document, read_lines, shown
from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.placement import Outcome

KIND, FORMAT = "placement", 1
"""Of a line."""

MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What one solver found, and what it proved.

    Attributes
    ----------
    seconds : float
        Bottleneck; infinite where nothing was found.
    lower_bound_s : float
        Proved; 0 where nothing was, infinite where it was proved that there is no placement.
    search_s : float
        Of processor time, which what else a machine does touches little.
    cuts : tuple of int
        From the first to the last; empty where nothing was found.
    crews : tuple of tuple of int
        Boards of each stage.
    """

    seconds: float
    lower_bound_s: float
    search_s: float
    cuts: tuple[int, ...] = ()
    crews: tuple[tuple[int, ...], ...] = ()

    @property
    def is_found(self) -> bool:
        return isfinite(self.seconds)

    @property
    def is_proved(self) -> bool:
        """Whether nothing better exists, up to a part in a billion."""
        return self.lower_bound_s >= self.seconds * (1 - 1e-9)


def answer(outcome: Outcome, search_s: float) -> Answer:
    """The outcome of a search as a line keeps it."""
    if outcome.placement is None:
        return Answer(inf, outcome.lower_bound_s, search_s)
    stages = outcome.placement.stages
    cuts = (0, *(stage.end for stage in stages))
    return Answer(outcome.seconds, outcome.lower_bound_s, search_s, cuts, tuple(stage.boards for stage in stages))


@dataclass(frozen=True)
class Cell:
    """What all trials of a cell have in common."""

    study: str
    accounting: str
    model: str
    boards: int
    memory: tuple[int, ...]  # bytes of a board; the levels that boards draw from where they differ
    setting: float  # what else the study varies; 0 where nothing

    @property
    def cell(self) -> tuple[str, str, str, int, tuple[int, ...], float]:
        """What tells it from other cells."""
        return self.study, self.accounting, self.model, self.boards, self.memory, self.setting


@dataclass(frozen=True)
class Trial(Cell):
    """One instance, and all solvers on it.

    Attributes
    ----------
    number : int
        Trials of one number have the same boards and links, whatever else differs.
    seed : tuple of int
        From which they are drawn.
    answers : mapping of str to Answer
        By solver.
    versions : mapping of str to str
    machine, date : str
    """

    number: int
    seed: tuple[int, ...]
    answers: Mapping[str, Answer]
    versions: Mapping[str, str]
    machine: str
    date: str


def append_trials(path: str | os.PathLike[str], trials: Iterable[Trial]) -> None:
    """Add lines to a file.

    Raises
    ------
    ReportError
        When the file cannot be written.
    """
    lines = "".join(json.dumps(_line(trial), allow_nan=False) + "\n" for trial in trials)
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(lines)
    except OSError as error:
        raise ReportError(f"cannot write trials to {path}: {error.strerror or error}") from error


def has_trials(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of trials, as far as its first line tells; False where it cannot be read."""
    try:
        record = from_json(read_document(path, MOST_BYTES).partition(b"\n")[0])
    except DocumentError:
        return False
    return isinstance(record, dict) and record.get("kind") == KIND


def check_kind(paths: Iterable[str]) -> None:
    """Check that files are of trials, all of them.

    Raises
    ------
    ReportError
        When some are and others are not.
    """
    held = {path: has_trials(path) for path in paths}
    if len(set(held.values())) > 1:
        one, other = (next(path for path, has in held.items() if has is wanted) for wanted in (True, False))
        raise ReportError(f"'{one}' holds trials of placements and '{other}' does not: report on each by itself")


def read_trials(path: str | os.PathLike[str]) -> tuple[Trial, ...]:
    """Trials of a file, in order. An unfinished last line is left out.

    Raises
    ------
    ReportError
        When the file cannot be read, or a line of it is no trial; the sentence names the line.
    """
    try:
        lines = read_lines(path, MOST_BYTES)
    except DocumentError as error:
        raise ReportError(f"cannot read trials from {path}: {error}") from error
    return tuple(_trial(line, f"{path}, line {number}") for number, line in enumerate(lines, 1))


def _line(trial: Trial) -> dict[str, Any]:
    """A trial as plain values; infinite times, which JSON has no word for, as None."""
    record = asdict(trial)
    for answered in record["answers"].values():
        answered.update((key, None) for key in ("seconds", "lower_bound_s") if answered[key] == inf)
    return {"kind": KIND, "format": FORMAT, **record}


def _trial(line: str, where: str) -> Trial:
    try:
        record = from_json(line)
        kind, version = record.pop("kind"), record.pop("format")
    except (DocumentError, AttributeError, KeyError, TypeError) as error:
        raise ReportError(f"{where} is no trial of placements: {error}") from error
    if (kind, version) != (KIND, FORMAT):
        raise ReportError(
            f"{where} is {shown(kind)} of format {shown(version)}, and this version reads '{KIND}' of {FORMAT}"
        )
    try:
        answers = record.get("answers")
        for answered in answers.values() if isinstance(answers, dict) else ():
            _with_infinite(answered)
        trial = dataclass_of(Trial, record, "it")
    except DocumentError as error:
        raise ReportError(f"{where} is no trial of placements: {error}") from error
    if not trial.memory or trial.boards < 1 or min(trial.memory) < 1:
        raise ReportError(f"{where} is no trial of placements: it must have boards, and levels of memory above 0")
    return trial


def _with_infinite(answer: Any) -> None:
    """Put infinite times, which JSON has no word for, back in their places."""
    for key in ("seconds", "lower_bound_s"):
        if isinstance(answer, dict) and key in answer and answer[key] is None:
            answer[key] = inf
