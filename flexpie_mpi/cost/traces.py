"""Traces: rows of what was measured, who measured them, and the HDF5 file that keeps both.

Format 2: attributes ``format`` and ``version``; one dataset for every table of :data:`flexpie_mpi.cost.rows.TABLES`, of
its record type; a dataset ``origins``, a JSON list. A new column or table is a new version;
:data:`LATER` are the columns that older files do not have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from ..core.budget import at_most
from ..core.document import from_json, one_line, shown
from ..core.errors import CostError
from ..files.atomic import LockedFile
from ..files.container import attribute, check_written, members, opened
from .model import Origin
from .rows import TABLES, unlike

__all__ = ["FORMAT", "FORMAT_VERSION", "Origin", "Recorder", "Traces", "merged"]

FORMAT = "flexpie_mpi traces"
FORMAT_VERSION = 2

LATER = {"call": ("laid_bytes",)}
"""Columns by table that version 1 does not have: they are 0 there."""

_MOST_BYTES = 1 << 28
"""Of all tables of a file that is read: more than a million rows."""

_STORED_ROWS = 1024
"""Rows that are compressed together: some 200 kB before, so that a short table costs little."""


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """Tables of measurements, and the origins that their rows name by number.

    Equal when they hold the same rows of the same origins, in any order and numbering.
    """

    # Mapping of str to record array (n,), by the names of :data:`flexpie_mpi.cost.rows.TABLES`; the tables left out are
    # empty
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)
    origins: tuple[Origin, ...] = ()

    def __post_init__(self) -> None:
        problem = _problem(self.tables, len(self.origins))
        if problem:
            raise CostError(f"these are no traces: {problem}")
        whole = {name: self.tables.get(name, np.empty(0, dtype)) for name, dtype in TABLES.items()}
        object.__setattr__(self, "tables", whole)

    @classmethod
    def read(cls, path: str | Path) -> Traces:
        """The content of a file.

        Raises CostError when it does not exist, is damaged, holds no traces, or was written in a later version of the
        format.
        """
        if not os.path.isfile(path):
            reason = "it is no file" if os.path.exists(path) else "it does not exist"
            raise CostError(f"'{path}' holds no traces, {reason}: measure some with 'flexpie-mpi trace --output FILE'")
        with _reading(path), at_most(2 * _MOST_BYTES), opened(path) as file:
            _check_format(path, file)
            datasets = members(file)
            if any(name in file and name not in datasets for name in TABLES):
                raise ValueError("a table is a group")
            if (nbytes := sum(item.nbytes for item in datasets.values())) > _MOST_BYTES:
                raise ValueError(f"its tables would take {nbytes} bytes, and {_MOST_BYTES} are the most")
            origins = _origins(datasets)
            tables = {name: _load(name, datasets[name], len(origins)) for name in TABLES if name in datasets}
        problem = _problem(tables, len(origins))
        if problem:
            raise CostError(f"'{path}' is damaged, {problem}: measure anew with 'flexpie-mpi trace'")
        return cls(tables, origins)

    def write(self, path: str | Path) -> None:
        """Write a file, which appears whole or not at all, in the place of an older one.

        Raises CostError when it cannot be written, or a :class:`Recorder` has it. An older file then stays as it was.
        """
        with LockedFile(path) as writer, writer.replacing() as part:
            _store(part, self)

    def content(self) -> tuple[tuple[Origin, ...], dict[str, list[bytes]]]:
        """Origins and rows in an order, and with numbers, that depend on nothing but themselves."""
        order = sorted(set(self.origins), key=repr)
        return tuple(order), {name: _sorted(rows) for name, rows in _renumbered(self, order).items()}

    def __eq__(self, other: object) -> bool:
        return self.content() == other.content() if isinstance(other, Traces) else NotImplemented


def merged(*traces: Traces) -> Traces:
    """All rows of several traces in their order; origins that are equal become one."""
    origins = list(dict.fromkeys(origin for each in traces for origin in each.origins))
    pieces: dict[str, list[np.ndarray]] = {name: [np.empty(0, dtype)] for name, dtype in TABLES.items()}
    for each in traces:
        for name, rows in _renumbered(each, origins).items():
            pieces[name].append(rows)
    tables = {name: np.concatenate(arrays) for name, arrays in pieces.items()}
    return Traces(tables, tuple(origins))


class Recorder:
    """Traces that grow in a file while they are measured: what is flushed is kept, whatever happens next.

    Every flush replaces the file by a whole new one, so at any moment the file can be read, by others as well. Leaving
    the block flushes, also when it is left by an error. Where nothing is measured, nothing is written.

    An existing file is appended to; numbers in the rows to come are those of this job's `origins`. Raises CostError
    when the file exists and holds no traces, cannot be written, or is being written by someone else.
    """

    def __init__(self, path: str | Path, origins: Sequence[Origin]) -> None:
        self._origins = tuple(origins)
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name in TABLES}
        self._writer = LockedFile(path)
        try:
            self._flushed = Traces.read(path) if os.path.exists(path) else Traces()
        except BaseException:
            self._writer.close()
            raise

    def add(self, table: str, rows: np.ndarray) -> None:
        """Take rows of a table along; they are in the file after the next flush.

        Raises CostError when there is no such table, or the rows have other columns or name an origin that is not of
        this job.
        """
        problem = _problem({table: rows}, len(self._origins))
        if problem:
            raise CostError(f"these rows are no traces: {problem}")
        self._pending[table].append(rows.copy())

    def traces(self) -> Traces:
        """What the file will hold after the next flush."""
        pending = {name: np.concatenate(pieces) for name, pieces in self._pending.items() if pieces}
        return merged(self._flushed, Traces(pending, self._origins)) if pending else self._flushed

    def flush(self) -> None:
        """Put what was added into the file.

        Raises CostError when the file cannot be written. It then stays as it was, and what was added waits for the next
        flush.
        """
        if not any(self._pending.values()):
            return
        whole = self.traces()
        with self._writer.replacing() as part:
            _store(part, whole)
        self._flushed, self._pending = whole, {name: [] for name in TABLES}

    def close(self) -> None:
        """Flush, and let others write. To be called once."""
        try:
            self.flush()
        finally:
            self._writer.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


# Rows


def _renumbered(traces: Traces, order: Sequence[Origin]) -> dict[str, np.ndarray]:
    """Copies of all tables, in which every origin has the number that it has in `order`."""
    number_of = {origin: number for number, origin in enumerate(order)}
    numbers = np.array([number_of[origin] for origin in traces.origins], np.int32)
    tables = {name: rows.copy() for name, rows in traces.tables.items()}
    for rows in tables.values():
        for column in _numbered(rows.dtype):
            rows[column] = numbers[rows[column]]
    return tables


def _numbered(dtype: np.dtype) -> list[str]:
    """Columns that hold the number of an origin."""
    return [column for column in ("origin", "source", "target") if column in (dtype.names or ())]


def _sorted(rows: np.ndarray) -> list[bytes]:
    """Rows as bytes, by which NaN equals itself."""
    raw, size = rows.tobytes(), rows.dtype.itemsize
    return sorted(raw[start : start + size] for start in range(0, len(raw), size))


def _problem(tables: Mapping[str, np.ndarray], origins: int) -> str:
    """What is wrong with tables whose rows name that many origins; empty when nothing is."""
    for name, rows in tables.items():
        if name not in TABLES:
            return f"there is no table '{name}' (there are {', '.join(TABLES)})"
        if rows.dtype != TABLES[name] or rows.ndim != 1:
            differing = unlike(rows.dtype.names or (), TABLES[name].names or ())
            return f"table '{name}' has {differing or 'columns of another type or in another order'}"
        for column in _numbered(rows.dtype):
            if len(rows) and not 0 <= rows[column].min() <= rows[column].max() < origins:
                outside = next(number for number in rows[column].tolist() if not 0 <= number < origins)
                return f"table '{name}' names the {column} {outside} of {origins} origins"
    return ""


# The file


def _store(path: Path, traces: Traces) -> None:
    versions = {"numpy": np.__version__, "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
    with h5py.File(path, "w") as file:
        file.attrs.update({**versions, "format": FORMAT, "version": FORMAT_VERSION})
        file.create_dataset(
            "origins", data=json.dumps([asdict(origin) for origin in traces.origins]), dtype=h5py.string_dtype()
        )
        for name, rows in traces.tables.items():
            file.create_dataset(
                name, data=rows, maxshape=(None,), chunks=(_STORED_ROWS,), compression="gzip", shuffle=True
            )


def _origins(datasets: Mapping[str, h5py.Dataset]) -> tuple[Origin, ...]:
    item = datasets.get("origins")
    if item is None or item.shape != () or not h5py.check_string_dtype(item.dtype):
        raise ValueError("it has no text 'origins'")
    records = from_json(str(item.asstr()[()]))
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("origins are a list of tables")
    return tuple(Origin(**record) for record in records)


def _load(name: str, item: h5py.Dataset, origins: int) -> np.ndarray:
    """All rows of a table, in this machine's order of bytes; none where they are no such rows, which shows later."""
    empty = _completed(name, np.empty((0,) * item.ndim, item.dtype))
    if _problem({name: empty.astype(empty.dtype.newbyteorder("="))}, origins):
        return empty
    check_written(item, name)
    rows = _completed(name, np.asarray(item[()]))
    for column in (column for column in rows.dtype.names or () if rows.dtype[column].kind == "S"):
        for label in np.unique(rows[column]):
            label.decode()  # what is no text is an error here, not where it is used
    return rows.astype(rows.dtype.newbyteorder("="), copy=False)


def _completed(name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of a table with the columns that its file is too old to have."""
    names, missing = rows.dtype.names or (), LATER.get(name, ())
    if not names or not missing or any(column in names for column in missing):
        return rows
    whole = np.zeros(rows.shape, TABLES[name])
    if set(whole.dtype.names or ()) - {*missing} != {*names}:
        return rows  # which shows later
    for column in names:
        whole[column] = rows[column]
    return whole


def _check_format(path: str | Path, file: h5py.File) -> None:
    name = attribute(file, "format")
    if name != FORMAT:
        what = f"its format is {shown(name)}" if name else "it names no format"
        raise CostError(f"'{path}' holds no traces ({what}): give a file that 'flexpie-mpi trace' wrote")
    version = attribute(file, "version")
    if not isinstance(version, int):
        raise ValueError("its version is no number")
    if version > FORMAT_VERSION:
        raise CostError(
            f"traces '{path}' are in version {version} of the format and this program reads up to {FORMAT_VERSION}: "
            "use a newer flexpie-mpi"
        )


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turn whatever HDF5 and JSON say of damaged bytes into a sentence that names the file."""
    try:
        yield
    except CostError:
        raise
    except Exception as error:
        raise CostError(
            f"'{path}' cannot be read as traces, it is damaged or no HDF5 file ({one_line(error)}): "
            "measure anew with 'flexpie-mpi trace'"
        ) from error
