"""Documents of strangers: JSON and TOML, weighed and checked before anything is made of them.

What comes out of a document is plain: tables with text keys, lists, texts, numbers, true and false, not deep, without
half characters and without numbers that nothing could be done with. A :class:`DocumentTable` checks key by key which of
them belong where, and :func:`dataclass_of` does so for a whole dataclass.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .errors import FlexPieError, escaped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_DEPTH, MOST_VALUES = 32, 1_000_000
MOST_BITS = 1000
"""A whole number of more bits is refused: any float has more range."""

_MOST_DOTS = 200
"""Dots in a line of TOML: the time that its reader takes grows with the square of a key's parts."""

_Made = TypeVar("_Made")


class DocumentError(FlexPieError):
    """Says what is wrong with a document. Whoever reads that kind of document names the file in its own error."""


def read_document(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The content of a file that has no more than `most_bytes`.

    Raises DocumentError when it cannot be read, is larger, or is no file: a device never ends, and a pipe may never
    begin.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DocumentError("it is a pipe or a device, not a file")
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        raise DocumentError(getattr(error, "strerror", None) or str(error)) from error
    if len(content) > most_bytes:
        raise DocumentError(f"it is larger than {most_bytes / 2**20:g} MiB, the most that such a file may have")
    return content


def from_json(content: bytes | str, *, has_infinite: bool = False) -> Any:
    """What a JSON text says; with `has_infinite`, also Infinity and NaN, which JSON does not have and Python writes.

    Raises DocumentError when it is no JSON, gives a name twice, or holds what no document of this program does.
    """
    text = _text(content)
    _check_values(text)
    try:
        document = json.loads(text, object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise DocumentError(one_line(error)) from error
    _check(document, has_infinite=has_infinite)
    return document


def read_lines(path: str | os.PathLike[str], most_bytes: int) -> list[str]:
    """The lines of a file of JSON texts, one a line; the last one is left out where its writer did not end it.

    Raises DocumentError when :func:`read_document` does, or when they hold too many values.
    """
    text = _text(read_document(path, most_bytes))
    _check_values(text)
    whole, end, _ = text.rpartition("\n")
    return whole.split("\n") if end else []


def _check_values(text: str) -> None:
    """Check that a JSON text, or lines of such, hold no more values than can be looked at in a second or two.

    Raises DocumentError.
    """
    if sum(map(text.count, ",[{\n")) > MOST_VALUES:
        raise DocumentError(f"it holds more than {MOST_VALUES} values, the most that such a file may have")


def from_toml(content: bytes | str) -> dict[str, Any]:
    """What a TOML text says.

    Raises DocumentError when it is no TOML, or holds what no document of this program does.
    """
    text = _text(content)
    if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise DocumentError(f"a line of it has more than {_MOST_DOTS} dots, and no key has so many parts")
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(one_line(error)) from error
    _check(document, has_infinite=True)
    return document


def read_toml(
    path: str | os.PathLike[str],
    most_bytes: int,
    noun: str,
    make: Callable[[dict[str, Any]], _Made],
    error: type[FlexPieError],
) -> _Made:
    """What `make` makes of a TOML file.

    Parameters
    ----------
    most_bytes : int
        That the file may have.
    noun : str
        What the file describes, for the sentence when it cannot be read.
    make : callable
        Gets the content, and raises an error of this package when that says something that cannot be.
    error : type of error
        What is raised whatever is wrong: one sentence that names the file.
    """
    name = printable(str(path), 1000)
    what = f"cannot read the {noun} {name}"
    try:
        content = read_document(path, most_bytes)
        what = f"{name} is not TOML"
        record = from_toml(content)
        what = name
        return make(record)
    except FlexPieError as problem:
        raise error(f"{what}: {problem}") from problem


def one_line(error: BaseException) -> str:
    """What an error says, in one line that can be printed and without its full stop; its name when it says nothing."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    lines = str(error).strip().splitlines()
    return printable(lines[0].rstrip(".")) if lines else type(error).__name__


def reason(error: BaseException) -> str:
    """Why something failed, for the end of a sentence: what the system says of it, or what the error says itself."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


def printable(text: str, most: int = 300) -> str:
    """A stranger's text as a sentence can hold it: what cannot be printed is escaped, what is too long is cut."""
    return escaped(text if len(text) <= most else f"{text[: most - 3]}...")


def shown(value: object) -> str:
    """A stranger's value as a sentence can hold it: on one line and short."""
    return _SHORT.repr(value)


def is_whole(value: object, least: int = 0, most: int = 1 << 62) -> bool:
    """Whether a value is a whole number in a range; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether a value is a number in a range; NaN is in none, true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


@dataclass(frozen=True, slots=True)
class DocumentTable:
    """A table of a document, checked key by key. Sentences call it `where`; `defaults` stand in for keys it lacks."""

    where: str
    record: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def check(self, allowed: Sequence[str]) -> None:
        """Check that there are no other keys; raises DocumentError."""
        unknown = sorted(set(self.record) - set(allowed))
        if unknown:
            raise DocumentError(
                f"{self.where} has an unknown key {shown(unknown[0])}; it may have {', '.join(allowed)}"
            )

    def get(self, key: str, fits: Callable[[Any], bool], wanted: str, default: Any = None) -> Any:
        """The value of a key.

        Raises DocumentError when there is none, or one that does not fit; the sentence says what is `wanted`.
        """
        value = self.record.get(key, self.defaults.get(key, default))
        if value is None:
            raise DocumentError(f"{self.where} lacks the key '{key}'")
        if not fits(value):
            raise DocumentError(f"{self.where}: {key} = {shown(value)} must be {wanted}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """The text of a key; errors as of :meth:`get`."""
        return str(self.get(key, lambda value: isinstance(value, str), "a text", default))

    def check_format(self, known: int) -> None:
        """Check that the document names no other format than the one that is read; raises DocumentError."""
        if self.record.get("format", known) != known:
            raise DocumentError(f"format = {shown(self.record['format'])}, and this version reads format {known}")

    def tables(self, key: str, plural: str, parts: str) -> list[dict[str, Any]]:
        """The tables headed ``[[key]]``, one at least, each with the `parts` that the sentence of an error names."""
        tables = self.record.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(item, dict) for item in tables):
            raise DocumentError(f"each {key} must be a table of its own, headed [[{key}]]")
        if not tables:
            raise DocumentError(f"there are no {plural}; write a table headed [[{key}]], with {parts}, for each")
        return tables


def dataclass_of(cls: type[_Made], record: object, where: str) -> _Made:
    """Make a dataclass of a table that has its fields; tables inside become dataclasses too, and lists tuples.

    Raises DocumentError when a field is missing, unknown, or of another type than the dataclass says; NaN is no number.
    """
    if not isinstance(record, dict):
        raise DocumentError(f"{where} is no table")
    hints = _hints(cast(Any, cls))
    unknown = sorted(record.keys() - hints.keys())
    missing = [name for name, (_, is_needed) in hints.items() if is_needed and name not in record]
    if unknown or missing:
        problem = f"has an unknown field {shown(unknown[0])}" if unknown else f"lacks the field '{missing[0]}'"
        raise DocumentError(f"{where} {problem}; it has {', '.join(hints)}")
    return cls(**{name: _fitted(hints[name][0], value, f"{where}, '{name}'") for name, value in record.items()})


@cache
def _hints(cls: Any) -> dict[str, tuple[Any, bool]]:
    """The type of each field of a dataclass, and whether it must be given."""
    types = get_type_hints(cls)
    return {
        item.name: (types[item.name], item.default is MISSING and item.default_factory is MISSING)
        for item in fields(cls)
    }


def _fitted(hint: Any, value: Any, where: str) -> Any:
    """Convert a value of a document to the type of a field, or refuse it."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or (hint is bool and isinstance(value, bool)) or (hint is str and isinstance(value, str)):
        return value
    if hint is int and is_whole(value, -(1 << 62)):
        return value
    if hint is float and is_number(value):
        return float(value)
    if origin in (Union, UnionType) and NoneType in inner:
        return None if value is None else _fitted(next(each for each in inner if each is not NoneType), value, where)
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1:] == (...,) else inner
        if len(kinds) == len(value):
            return tuple(_fitted(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: _fitted(inner[1], item, where) for key, item in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return dataclass_of(hint, value, where)
    raise DocumentError(f"{where} is {shown(value)}, which is no {getattr(hint, '__name__', hint)}")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes to would keep us


def _text(content: bytes | str) -> str:
    try:
        return content.decode("utf-8") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is not text in UTF-8, byte {error.start} is none") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DocumentError(f"it gives {shown(twice)} twice")
    return table


def _check(document: Any, *, has_infinite: bool) -> None:
    """Refuse what no kind of document may hold: deep nesting, half characters, numbers that are no use."""
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise DocumentError(f"it is nested more than {MOST_DEPTH} deep")
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below += item
                below += item.values()
            elif kind is list:
                below += item
            elif kind is str:
                if not item.isascii():
                    _check_text(item)
            elif kind is float:
                if not (has_infinite or math.isfinite(item)):
                    raise DocumentError(f"it holds the number {item}, and numbers must be finite")
            elif kind is int and item.bit_length() > MOST_BITS:
                raise DocumentError(f"it holds a whole number of more than {int(MOST_BITS * math.log10(2))} digits")
        level = below


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DocumentError(f"it holds the text {shown(text)}, which has half a character") from error


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
