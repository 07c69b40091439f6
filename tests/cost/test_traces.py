"""Traces: what is written is read, files join to what one long run would have left, no writer's end harms a file."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.errors import CostError
from flexpie_mpi.cost.rows import TABLES
from flexpie_mpi.cost.traces import FORMAT, FORMAT_VERSION, Origin, Recorder, Traces, merged
from flexpie_mpi.files import atomic
from flexpie_mpi.files.hdf5 import write_hdf5
from tests.launch import LIMIT_S

PROGRAM = Path(__file__).parent / "killed_writers.py"
ORIGINS = tuple(Origin(job, rank, host=f"b{rank}", slowdown=1 + rank / 3) for job in "ab" for rank in range(3))


def rows_of(table: str, size: int, origins: int, seed: int) -> np.ndarray:
    """Random rows of a table, with what is special among numbers, that name the first origins."""
    generator = np.random.default_rng(seed)
    rows = np.zeros(size, TABLES[table])
    for column in rows.dtype.names:
        kind = rows.dtype[column].kind
        if kind == "f":
            rows[column] = generator.choice([0, -0.0, 1e-300, np.nan, np.inf, *generator.standard_normal(9)], size)
        elif kind == "i":
            rows[column] = generator.integers(0, origins, size)
        else:
            rows[column] = generator.choice([b"", b"Conv/1x1", b"x" * rows.dtype[column].itemsize], size)
    return rows


def small(origins: tuple[Origin, ...] = ORIGINS[:2], seed: int = 0) -> Traces:
    return Traces({table: rows_of(table, 3, len(origins), seed) for table in TABLES}, origins)


def one_plan(number: float, origin: int = 0) -> np.ndarray:
    rows = np.zeros(1, TABLES["plan"])
    rows["seconds"], rows["origin"] = number, origin
    return rows


def numbers(path: Path) -> list[float]:
    return Traces.read(path).tables["plan"]["seconds"].tolist()


@st.composite
def some_traces(draw: st.DrawFn) -> Traces:
    origins = tuple(draw(st.lists(st.sampled_from(ORIGINS), min_size=1, max_size=4)))
    sizes = draw(st.dictionaries(st.sampled_from(sorted(TABLES)), st.sampled_from([0, 1, 5, 1500])))
    seed = draw(st.integers(0, 99))
    return Traces({name: rows_of(name, size, len(origins), seed) for name, size in sizes.items()}, origins)


@given(traces=some_traces())
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read(traces: Traces, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("traces") / "t.h5"
    traces.write(path)
    read = Traces.read(path)
    assert read.origins == traces.origins and list(read.tables) == list(TABLES)
    for name, dtype in TABLES.items():
        assert read.tables[name].dtype == dtype and read.tables[name].tobytes() == traces.tables[name].tobytes()
    assert os.listdir(path.parent) == ["t.h5"]


@given(
    jobs=st.lists(some_traces(), min_size=1, max_size=3), seed=st.integers(0, 99), often=st.sampled_from([0, 0.2, 1])
)
@settings(max_examples=15, deadline=None)
def test_files_joined_equal_one_long_run(
    jobs: list[Traces], seed: int, often: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each job in its own file, and all of them into one, some rows at a time, with other numbers for the origins."""
    folder, generator = tmp_path_factory.mktemp("traces"), random.Random(seed)
    for number, job in enumerate(jobs):
        job.write(folder / f"{number}.h5")
    whole = jobs[0]
    for job in jobs:
        with Recorder(folder / "long.h5", job.origins) as recorder:
            for name in generator.sample(list(TABLES), len(TABLES)):
                for part in np.array_split(job.tables[name], 2):
                    recorder.add(name, part)
                    if generator.random() < often:
                        recorder.flush()
            whole = recorder.traces()
    parts = [Traces.read(folder / f"{number}.h5") for number in range(len(jobs))]
    joined = merged(*generator.sample(parts, len(parts)))
    assert joined == whole and len(set(joined.origins)) == len(joined.origins)
    if any(len(rows) for rows in whole.tables.values()):
        assert Traces.read(folder / "long.h5") == whole == merged(whole, Traces())
    for table in TABLES:
        assert len(joined.tables[table]) == sum(len(job.tables[table]) for job in jobs)


def test_numbers_of_origins_follow_their_origins() -> None:
    link = np.zeros(2, TABLES["link"])
    link["source"], link["target"], link["origin"] = [0, 1], [1, 0], [1, 1]
    a, b, c = ORIGINS[:3]
    joined = merged(Traces({"link": link}, (a, b)), Traces({"link": link}, (c, b)))
    assert joined.origins == (a, b, c)
    assert joined.tables["link"][["source", "target", "origin"]].tolist() == [
        (0, 1, 1),
        (1, 0, 1),
        (2, 1, 1),
        (1, 2, 1),
    ]


def test_equality_sees_every_difference() -> None:
    traces = small()
    other = small(seed=1)
    assert traces == small() and traces != other and traces != 1
    assert traces != Traces(traces.tables, (ORIGINS[0], ORIGINS[2]))
    assert traces != Traces({**traces.tables, "plan": np.concatenate([traces.tables["plan"]] * 2)}, traces.origins)
    backwards = Traces({name: rows[::-1] for name, rows in traces.tables.items()}, traces.origins)
    assert traces == backwards


def test_a_recorder_keeps_what_was_measured_when_its_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with pytest.raises(KeyboardInterrupt), Recorder(path, ORIGINS) as recorder:
        row = one_plan(1)
        recorder.add("plan", row)
        row["seconds"] = 2  # the caller's own again
        raise KeyboardInterrupt
    assert numbers(path) == [1] and Traces.read(path).origins == ORIGINS and os.listdir(tmp_path) == ["t.h5"]


def test_a_file_from_before_values_were_blocked_says_that_none_was(tmp_path: Path) -> None:
    path, rows = tmp_path / "traces.h5", small().tables["call"]
    older = np.zeros(len(rows), [item for item in rows.dtype.descr if item[0] != "laid_bytes"])
    for column in older.dtype.names or ():
        older[column] = rows[column]
    altered(path, with_table("call", older))
    read = Traces.read(path).tables["call"]
    assert not read["laid_bytes"].any()
    assert all(read[column].tobytes() == older[column].tobytes() for column in older.dtype.names or ())


def test_where_nothing_is_measured_nothing_is_written(tmp_path: Path) -> None:
    with Recorder(tmp_path / "t.h5", ORIGINS) as recorder:
        recorder.add("plan", one_plan(1)[:0])
    assert [path for path in tmp_path.iterdir() if Traces.read(path) == Traces()] == []


def test_readers_see_whole_files_while_one_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with Recorder(path, ORIGINS) as recorder:
        for number in range(3):
            recorder.add("plan", one_plan(number))
            recorder.flush()
            assert numbers(path) == list(range(number + 1))


def test_a_second_writer_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with Recorder(path, ORIGINS) as recorder:
        recorder.add("plan", one_plan(1))
        for write in (lambda: Recorder(path, ORIGINS), lambda: small().write(path)):
            with pytest.raises(CostError, match=r"t\.h5' is being written by another process"):
                write()
        Traces().write(tmp_path / "another.h5")
    small().write(path)
    assert Traces.read(path) == small()


def test_what_a_killed_writer_left_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".t.h5.part").write_bytes(b"\x89HDF\r\n half a file")
    (tmp_path / ".t.h5.lock").write_bytes(b"")
    with Recorder(tmp_path / "t.h5", ORIGINS) as recorder:
        recorder.add("plan", one_plan(1))
    assert numbers(tmp_path / "t.h5") == [1] and os.listdir(tmp_path) == ["t.h5"]


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "t.h5")
    small().write(tmp_path / "link.h5")
    assert (tmp_path / "link.h5").is_symlink() and Traces.read(tmp_path / "t.h5") == small()


def test_a_flush_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.h5"

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with Recorder(path, ORIGINS) as recorder:
        recorder.add("plan", one_plan(1))
        recorder.flush()
        recorder.add("plan", one_plan(2))
        with monkeypatch.context() as patch, pytest.raises(CostError, match="No space left on device"):
            patch.setattr(atomic.os, "replace", full)
            recorder.flush()
        assert numbers(path) == [1] and sorted(os.listdir(tmp_path)) == [".t.h5.lock", "t.h5"]
    assert numbers(path) == [1, 2]


def test_a_lock_file_removed_by_its_owner_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that opened the file before its owner removed it must not believe that it holds the new one."""
    first, opened = atomic.LockedFile(tmp_path / "t.h5"), []
    flock = atomic.fcntl.flock

    def late(descriptor: int, how: int) -> None:
        if not opened:
            first.close()
        opened.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(atomic.fcntl, "flock", late)
    with atomic.LockedFile(tmp_path / "t.h5"):
        assert len(opened) == 2
        monkeypatch.undo()
        with pytest.raises(CostError, match="another process"):
            atomic.LockedFile(tmp_path / "t.h5")


def altered(path: Path, change) -> None:
    small().write(path)
    with h5py.File(path, "r+") as file:
        change(file)


def with_table(name: str, rows: np.ndarray):
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=rows)

    return change


def with_origins(text: str):
    def change(file: h5py.File) -> None:
        file["origins"][()] = text

    return change


def without(column: str) -> np.ndarray:
    dtype = TABLES["plan"]
    return np.zeros(2, [(name, dtype[name]) for name in dtype.names if name != column])


def mangled(table: str, column: str) -> np.ndarray:
    rows = np.zeros(2, TABLES[table])
    rows[column] = b"\xff\xfe"
    return rows


def made_up(file: h5py.File) -> None:
    del file["plan"]
    file.create_dataset("plan", (2**40,), TABLES["plan"], chunks=(1024,))


def linked(file: h5py.File) -> None:
    del file["plan"]
    file["plan"] = h5py.ExternalLink("other.h5", "plan")


BAD_FILES = {
    "newer": (
        lambda path: altered(path, lambda file: file.attrs.update(version=FORMAT_VERSION + 1)),
        r"are in version 3 of the format and this program reads up to 2: use a newer flexpie-mpi",
    ),
    "values": (lambda path: write_hdf5(path, {"x": np.zeros(3)}, {}), r"holds no traces \(its format is 'fl"),
    "other": (lambda path: h5py.File(path, "w").close(), r"holds no traces \(it names no format\)"),
    "text": (lambda path: path.write_text("seconds\n1\n"), "damaged or no HDF5 file"),
    "nothing": (lambda path: path.write_bytes(b""), "damaged or no HDF5 file"),
    "folder": (lambda path: path.mkdir(), "it is no file"),
    "missing": (lambda path: None, "it does not exist: measure some with 'flexpie-mpi trace --output FILE'"),
    "no version": (lambda path: altered(path, lambda file: file.attrs.pop("version")), "cannot be read as traces"),
    "no origins": (lambda path: altered(path, lambda file: file.pop("origins")), "cannot be read as traces"),
    "bad origins": (lambda path: altered(path, with_origins("[{}")), "cannot be read as traces"),
    "odd origins": (lambda path: altered(path, with_origins('[{"job": 1, "rank": 0}]')), "which is no str"),
    "deep origins": (lambda path: altered(path, with_origins("[" * 10**5)), "nested too deeply"),
    "odd cores": (lambda path: altered(path, with_origins('[{"job": "j", "rank": 0, "cores": 0}]')), "on 0 cores"),
    "odd version": (lambda path: altered(path, lambda file: file.attrs.update(version="one")), "version is no number"),
    "odd format": (lambda path: altered(path, lambda file: file.attrs.update(format="\n")), r"its format is '\\n'"),
    "no text": (lambda path: altered(path, with_table("call", mangled("call", "model"))), "can't decode byte"),
    "made up": (lambda path: altered(path, made_up), r"its tables would take .* bytes, and 268435456 are the most"),
    "linked": (lambda path: altered(path, linked), "'plan' is a link"),
    "few origins": (lambda path: altered(path, with_origins("[]")), "table 'compute' names the origin . of 0 origins"),
    "less": (
        lambda path: altered(path, with_table("plan", without("ranks"))),
        "damaged, table 'plan' has no column 'ranks'",
    ),
    "more": (
        lambda path: altered(path, with_table("plan", rows_of("compute", 2, 1, 0))),
        r"table 'plan' has no column 'compute_s'",
    ),
    "type": (
        lambda path: altered(path, with_table("call", np.zeros(2, [*TABLES["call"].descr[:-1], ("model", "S8")]))),
        "table 'call' has columns of another type",
    ),
    "group": (lambda path: altered(path, lambda file: (file.pop("plan"), file.create_group("plan"))), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_holds_no_traces_is_refused_in_a_sentence_and_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.h5"
    make, reason = BAD_FILES[name]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(CostError, match=reason) as caught:
        Traces.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    if path.exists():
        with pytest.raises(CostError, match=r"bad\.h5"):
            Recorder(path, ORIGINS)
        assert os.listdir(tmp_path) == ["bad.h5"] and (before is None or path.read_bytes() == before)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    small().write(tmp_path / "t.h5")
    whole = (tmp_path / "t.h5").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "cut.h5").write_bytes(whole[:size])
        with pytest.raises(CostError, match=r"cut\.h5"):
            Traces.read(tmp_path / "cut.h5")


def test_tables_that_an_older_file_lacks_are_empty(tmp_path: Path) -> None:
    altered(tmp_path / "t.h5", lambda file: (file.pop("link"), file.pop("plan")))
    expected = {name: rows for name, rows in small().tables.items() if name not in ("link", "plan")}
    assert Traces.read(tmp_path / "t.h5") == Traces(expected, small().origins)


def test_a_file_of_a_machine_with_the_other_order_of_bytes_is_read(tmp_path: Path) -> None:
    swapped = small().tables["link"].astype(TABLES["link"].newbyteorder(">"))
    altered(tmp_path / "t.h5", with_table("link", swapped))
    assert Traces.read(tmp_path / "t.h5") == small()


def test_the_file_is_what_its_format_says(tmp_path: Path) -> None:
    small().write(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5") as file:
        assert (file.attrs["format"], file.attrs["version"]) == (FORMAT, FORMAT_VERSION) and "hdf5" in file.attrs
        assert [record["host"] for record in json.loads(file["origins"].asstr()[()])] == ["b0", "b1"]
        for name in TABLES:
            table = file[name]
            assert table.chunks and table.shuffle and table.compression == "gzip" and table.maxshape == (None,)


@pytest.mark.parametrize(
    "table, rows, reason",
    [
        ("plans", one_plan(1), r"there is no table 'plans' \(there are compute, "),
        ("call", one_plan(1), "table 'call' has no column 'active'"),
        ("plan", one_plan(1).reshape(1, 1), "table 'plan' has"),
        ("plan", one_plan(1, origin=2), "table 'plan' names the origin 2 of 2 origins"),
        ("plan", one_plan(1, origin=-1), "table 'plan' names the origin -1 of 2 origins"),
    ],
)
def test_rows_that_do_not_fit_are_refused_at_once(table: str, rows: np.ndarray, reason: str, tmp_path: Path) -> None:
    with Recorder(tmp_path / "t.h5", ORIGINS[:2]) as recorder, pytest.raises(CostError, match=reason):
        recorder.add(table, rows)
    with pytest.raises(CostError, match=reason):
        Traces({table: rows}, ORIGINS[:2])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["missing/t.h5", "folder", "n" * 300])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CostError, match="cannot be written") as caught:
        Recorder(tmp_path / place, ORIGINS)
    assert place in str(caught.value) and os.listdir(tmp_path) == ["folder"]


def test_an_origin_holds_only_what_a_file_can() -> None:
    assert Origin("a", 0, slowdown=2) == Origin("a", 0, slowdown=2.0)
    with pytest.raises(TypeError, match="'rank' of an origin"):
        Origin("a", np.int64(0))  # type: ignore[arg-type]


def test_writers_killed_at_random_moments_leave_a_whole_file(tmp_path: Path) -> None:
    """Twenty times: what was announced is in the file, with all that came before, and the next writer gets it."""
    path = tmp_path / "t.h5"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(path), "20", "7"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    held: dict[str, int] = {}
    for number, record in enumerate(json.loads(done.stdout)):
        assert record["signal"] == 9 and record["refused"] in (True, None), done.stderr
        found = record["found"]
        job = len(found.get(f"job{number}", []))
        assert record["announced"] <= job <= record["announced"] + 1
        assert {name: len(rows) for name, rows in found.items() if name != f"job{number}"} == held
        assert all(rows == list(range(len(rows))) for rows in found.values())
        held |= {f"job{number}": job} if job else {}
    assert number == 19 and sum(held.values()) > 20
    with Recorder(path, ORIGINS) as recorder:
        recorder.add("plan", one_plan(1))
    assert os.listdir(tmp_path) == ["t.h5"] and len(numbers(path)) == sum(held.values()) + 1
