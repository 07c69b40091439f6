"""HDF5: requests, results that are appended to, traces; and what the format can do that nobody asked for."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import h5py
import numpy as np
from arrays import SHAPE, graph_of
from cases import CANARY, Kind, Place
from mutate import REALS, TEXTS, WHOLES, damaged, value

from flexpie_mpi.cost.file import save_cost
from flexpie_mpi.cost.fit import fit
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.rows import TABLES
from flexpie_mpi.cost.traces import Origin, Recorder, Traces
from flexpie_mpi.files.inputs import load_inputs
from flexpie_mpi.files.outputs import Results
from flexpie_mpi.files.requests import StreamOptions, find_source
from flexpie_mpi.files.sources import Stop
from flexpie_mpi.session.inputs import traced_testbed

_SOME = 8
_FIT_EVERY = 16
"""One in so many traces that can be read is fitted, which takes long."""


def _named(name: str) -> str:
    return "".join(item for item in name if item != "\0")[:2000] or "x"


def _dataset(file: h5py.File, name: str, rng: Random, place: Place) -> None:
    """A dataset of one of many kinds; what HDF5 refuses to make stays out."""
    dtype = rng.choice(("<f4", "<f4", ">f4", "<f8", "<i8", "<u8", "<f2", "i1"))
    shape = rng.choice(
        ((4, *SHAPE), SHAPE, (2**40, *SHAPE), (2**29,), (2**33, 2**20), (100_000, *SHAPE), (0, *SHAPE), ())
    )
    canary = rng.choice((str(place.canary()), "canary.bin", "../outside/canary.bin", "link", "./data.bin"))
    makers: tuple[Any, ...] = (
        lambda: file.create_dataset(name, data=np.ones((3, *SHAPE), dtype)),
        lambda: file.create_dataset(name, data=np.full((4, *SHAPE), np.nan), compression="gzip", chunks=True),
        lambda: file.create_dataset(name, shape, dtype, chunks=True if shape else None, fillvalue=1),
        lambda: file.create_dataset(name, shape, dtype, chunks=(1 << 20,) if len(shape) == 1 else None),
        lambda: file.create_dataset(
            name, (4, *SHAPE), "<f4", external=[(canary, rng.choice((0, 4, 2**40)), h5py.h5f.UNLIMITED)]
        ),
        lambda: file.create_dataset(name, data=rng.choice(("text", b"bytes", np.array(["a", "b"], object)))),
        lambda: file.create_dataset(name, (3,), h5py.vlen_dtype(np.float32)),
        lambda: file.create_dataset(name, (3,), h5py.special_dtype(ref=h5py.Reference)),
        lambda: file.create_dataset(name, data=np.zeros(3, [("a", "<f4"), ("b", "S3", (2,))])),
        lambda: file.create_dataset(name, data=np.zeros(3, complex)),
        lambda: file.create_dataset(name, (3,), h5py.enum_dtype({"a": 1}, basetype="i4")),
        lambda: file.create_dataset(name, (3,), h5py.opaque_dtype(np.dtype("V5"))),
        lambda: file.create_dataset(name, data=h5py.Empty("f4")),
        lambda: file.__setitem__(name, h5py.SoftLink(rng.choice(("/", "/x", "/gone", f"/{name}")))),
        lambda: file.__setitem__(name, h5py.ExternalLink(str(place.canary(".h5")), "/x")),
        lambda: file.__setitem__(name, h5py.ExternalLink("../outside/canary.h5", "/x")),
        lambda: _virtual(file, name, rng, place),
        lambda: file.__setitem__(f"group/{name}", np.zeros(SHAPE, "f4")),
        lambda: file.__setitem__(f"{name}-loop", file["/"]),
        lambda: [file.__setitem__(f"d{number}", np.float32(1)) for number in range(rng.choice((50, 3000)))],
        lambda: file.create_group("/".join("g" * rng.choice((20, 400)))),
        lambda: file.__setitem__(name, np.dtype("f4")),
    )
    try:
        if name in file:
            del file[name]
        rng.choice(makers)()
    except (ValueError, TypeError, OSError, RuntimeError, KeyError, OverflowError):
        file.attrs["nothing"] = 1


def _virtual(file: h5py.File, name: str, rng: Random, place: Place) -> None:
    """A dataset that is a view of another file's."""
    layout = h5py.VirtualLayout((4, *SHAPE), "<f4")
    source = rng.choice((str(place.canary(".h5")), "../outside/canary.h5", "canary.h5", "gone.h5"))
    layout[0] = h5py.VirtualSource(source, "x", SHAPE)[...]
    file.create_virtual_dataset(name, layout, fillvalue=2.0)


def _attribute(file: h5py.File, rng: Random) -> None:
    name = rng.choice(("requests", "format", "format_version", "version", "model", "model_digest", "more"))
    whole = rng.choice(WHOLES)
    many: tuple[Any, ...] = (
        *(
            np.int64(whole % 2**62),
            np.uint64(whole % 2**64),
            np.float64(rng.choice(REALS)),
            "flexpie_mpi values",
            "abc",
        ),
        *(
            np.arange(3),
            np.zeros((2, 0)),
            h5py.Empty("f4"),
            b"\xff",
            np.bool_(True),
            str(value(rng))[:2000],
            "flexpie_mpi traces",
        ),
    )
    try:
        file.attrs[name] = rng.choice(many)
    except (ValueError, TypeError, OSError, RuntimeError):
        file.attrs[name] = 0


def _edited(path: Path, rng: Random, place: Place, names: tuple[str, ...]) -> Path:
    """The file with some objects changed by HDF5 itself, and now and then bytes by us."""
    (place.files / "link").symlink_to(place.canary())
    action = rng.random()
    if 0.1 < action < 0.75:
        with h5py.File(path, "r+") as file:
            for _ in range(rng.choice((1, 1, 2, 3))):
                if rng.random() < 0.35:
                    _attribute(file, rng)
                else:
                    _dataset(file, rng.choice((*names, *names, *map(_named, TEXTS[:20]))), rng, place)
    if action > 0.6:
        path.write_bytes(damaged(path.read_bytes(), rng))
    return path


# Requests and results


def _make_requests(rng: Random, place: Place) -> Path:
    path = place.files / "x.h5"
    with h5py.File(path, "w", libver=rng.choice(("earliest", "latest"))) as file:
        file["x"] = np.ones((4, *SHAPE) if rng.random() < 0.7 else SHAPE, "f4")
        if rng.random() < 0.5:
            file.attrs.update({"format": "flexpie_mpi values", "format_version": 1, "requests": np.int64(4)})
    return _edited(path, rng, place, ("x",))


def _read_requests(path: Path, place: Place) -> object:
    """What ``infer --input`` does with an HDF5 file: one request or many."""
    graph = graph_of("x")
    source = find_source([str(path)], graph, StreamOptions())
    if source is None:
        return load_inputs([str(path)], graph)
    return [source.count, *islice(source.requests(0, Stop()), _SOME)]


def _make_results(rng: Random, place: Place) -> Path:
    path = place.files / "out.h5"
    results = Results(path, {"model": "m", "model_digest": "d"})
    for _ in range(3):
        results.add({"y": np.ones(SHAPE, "f4"), "z": np.array(["a"])})
    results.close()
    return _edited(path, rng, place, ("y", "z"))


def _read_results(path: Path, place: Place) -> object:
    """What ``infer --output --append`` does."""
    results = Results(path, {"model": "m", "model_digest": "d"}, appends=True)
    try:
        results.add({"y": np.zeros(SHAPE, "f4"), "z": np.array(["b"])})
    finally:
        count = results.close()
    return count


# Traces


@cache
def traces() -> Traces:
    """A few rows of every table, of two ranks."""
    rng = np.random.default_rng(0)
    tables = {}
    for name, dtype in TABLES.items():
        rows = np.zeros(40, dtype)
        for column in dtype.names or ():
            kind = dtype[column].kind
            if kind == "f":
                rows[column] = rng.integers(1, 50, len(rows))
            elif kind == "i":
                rows[column] = 3 if column == "repeats" else rng.integers(0, 2, len(rows))
            else:
                rows[column] = {"op": b"Conv", "kind": b"halo"}.get(column, b"m")
        if "seconds" in (dtype.names or ()):
            rows["seconds"] = rng.uniform(1e-5, 1e-2, len(rows))
        tables[name] = rows
    return Traces(tables, tuple(Origin("job", rank, host=f"h{rank}", cpu="c") for rank in range(2)))


@cache
def _traces_bytes() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "t.h5")
        traces().write(path)
        return path.read_bytes()


def _make_traces(rng: Random, place: Place) -> Path:
    path = place.files / "t.h5"
    path.write_bytes(_traces_bytes())
    if rng.random() < 0.5:
        with h5py.File(path, "r+") as file:
            _rows(file, rng)
    return _edited(path, rng, place, (*TABLES, "origins"))


def _rows(file: h5py.File, rng: Random) -> None:
    """Other numbers in a column, or another text for the origins."""
    name = rng.choice((*TABLES, "origins"))
    if name == "origins":
        text = file[name].asstr()[()]
        changed = damaged(text.encode(), rng).replace(b"\0", b"0").decode(errors="replace")
        del file[name]
        file.create_dataset(name, data=changed, dtype=h5py.string_dtype())
        return
    rows = file[name][()]
    column = rng.choice(rows.dtype.names)
    kind = rows.dtype[column].kind
    some = slice(0, rng.choice((1, 5, len(rows))))
    if kind == "f":
        rows[column][some] = rng.choice(REALS)
    elif kind == "i":
        rows[column][some] = np.array(rng.choice(WHOLES) % 2**31 - rng.choice((0, 2**31 - 1)), "i8").astype("i4")
    else:
        rows[column][some] = rng.choice((b"", b"Conv", b"\xff\xfe", b"halo", b"zzz"))
    file[name][()] = rows


def _read_traces(path: Path, place: Place) -> object:
    """What ``plan --traces``, ``fit`` and ``trace`` (which appends) do."""
    found = Traces.read(path)
    answers: list[object] = [found.content()[0]]
    if crc32(path.read_bytes()) % _FIT_EVERY == 0:
        cost = fit(found)
        save_cost(cost, place.files / "cost.json")
        (place.files / "cost.json").unlink()
        answers.append(cost.ops)
    with Recorder(path, traces().origins) as recorder:
        recorder.add("compute", traces().tables["compute"][:1])
    return [*answers, traced_testbed(found, AnalyticCost()).digest]


def write_canary(path: Path) -> None:
    """An HDF5 file that no case may open."""
    with h5py.File(path, "w") as file:
        file["x"] = np.frombuffer((CANARY * 100)[: 4 * 192], "<f4").reshape(SHAPE)


KINDS_OF_HDF5 = (
    Kind("requests", _make_requests, _read_requests),
    Kind("results", _make_results, _read_results),
    Kind("traces", _make_traces, _read_traces),
)
