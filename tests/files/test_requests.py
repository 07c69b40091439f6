"""Sources of requests: which words mean which, all of them in order, and what is said of one that is bad."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.files.pipes import Frames, Pipe, Spool
from flexpie_mpi.files.requests import Reader, Source, StreamOptions, find_source, normalisations, offered_shapes
from flexpie_mpi.files.sources import AtMost, Files, Folder, RandomRequests, Stacked, Stop, sample
from flexpie_mpi.files.synthetic import random_inputs
from tests.launch import LIMIT_S, environment

from .graphs import graph_of

ONE = graph_of(x=("float32", (2, 3)))
TWO = graph_of(x=("float32", (2, 3)), n=("int64", (1,)))
PICTURE = graph_of(image=("float32", (1, 3, 4, 4)))


def tensor(number: float) -> np.ndarray:
    return np.full((2, 3), number, np.float32)


def saved(folder: Path, names: Iterable[str]) -> list[str]:
    """Files of tensors that tell each other apart, by the order of the names."""
    for number, name in enumerate(names):
        np.save(folder / name, tensor(number))
    return [str(folder / name) for name in names]


def drained(source: Source | Reader, first: int = 0) -> list[float]:
    """First element of every request."""
    reader = source if isinstance(source, Reader) else Reader(source, first)
    found = []
    try:
        while not reader.is_over:
            request = reader.take()
            if request is None:
                time.sleep(0.001)
            else:
                found.append(float(request["x"].flat[0]))
    finally:
        reader.close()
    return found


def framed(*payloads: bytes) -> bytes:
    return b"".join(struct.pack("<Q", len(payload)) + payload for payload in payloads)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


# Which words mean what


def test_what_stays_a_single_request(tmp_path: Path) -> None:
    a, b = saved(tmp_path, ["a.npy", "b.npy"])
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["x"], file["n"] = tensor(0), np.zeros(1, np.int64)
    for graph, words in ((ONE, []), (ONE, [a]), (ONE, [f"x={a}"]), (TWO, [a, b]), (TWO, [str(tmp_path / "one.h5")])):
        assert find_source(words, graph, StreamOptions()) is None
    assert find_source([str(tmp_path / "not there.npy")], ONE, StreamOptions()) is None  # said by what reads it


def test_what_is_a_stream(tmp_path: Path) -> None:
    files = saved(tmp_path, ["a.npy", "b.npy"])
    pattern = str(tmp_path / "*.npy")
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["x"], file["n"] = np.zeros((7, 2, 3), np.float32), np.zeros((7, 1), np.int64)
    os.mkfifo(tmp_path / "pipe")
    kinds = [
        ([], StreamOptions(limit=5), RandomRequests, 5),
        (files, StreamOptions(), Files, 2),
        ([pattern], StreamOptions(), Files, 2),
        ([f"x={pattern}"], StreamOptions(), Files, 2),
        (files[:1], StreamOptions(is_stream=True), Files, 1),
        ([str(tmp_path)], StreamOptions(), Folder, None),
        ([str(tmp_path / "pipe")], StreamOptions(), Frames, None),
        (["-"], StreamOptions(), Frames, None),
        (files, StreamOptions(limit=1), AtMost, 1),
    ]
    for words, asked, kind, count in kinds:
        source = find_source(words, ONE, asked)
        assert isinstance(source, kind) and source.count == count and str(source)
    many = find_source([str(tmp_path / "many.h5")], TWO, StreamOptions())
    assert isinstance(many, Stacked) and many.count == 7


def test_a_name_with_a_star_in_it_is_a_file(tmp_path: Path) -> None:
    (odd,) = saved(tmp_path, ["odd[1].npy"])
    assert find_source([odd], ONE, StreamOptions()) is None


def test_what_does_not_go_together(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, ["a.npy", "b.npy"])
    with pytest.raises(DataError, match="is a stream by itself"):
        find_source(["-", file], ONE, StreamOptions())
    with pytest.raises(DataError, match=r"no file fits the pattern '.*\*.png'"):
        find_source([str(tmp_path / "*.png")], ONE, StreamOptions())
    with pytest.raises(DataError, match="leave the name 'x' away"):
        find_source([f"x={tmp_path}"], ONE, StreamOptions())


# What plans are tried with


def test_a_sample_is_the_first_request_or_a_random_one(tmp_path: Path) -> None:
    files = saved(tmp_path, ["a.npy", "b.npy"])
    first = np.load(files[0])
    for words, asked in (
        (files, StreamOptions()),
        (files, StreamOptions(limit=1)),
        (["-"], StreamOptions()),
        ([], StreamOptions(limit=2)),
    ):
        source = find_source(words, ONE, asked)
        assert source is not None
        found = sample(source, ONE, seed=5)
        expected = first if words == files else random_inputs(ONE, 5 if words else 0)["x"]
        assert found is not None and np.array_equal(found["x"], expected)


def test_where_no_request_can_be_had_there_is_no_sample(tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_text("rubbish")
    source = find_source([str(tmp_path / "bad.npy")], ONE, StreamOptions(is_stream=True))
    words = graph_of(t=("string", (2,)))
    assert source is not None and sample(source, ONE) is None
    assert sample(Frames(None, words), words) is None


# Each kind, in order


def test_random_requests_depend_on_seed_and_number_alone() -> None:
    source = find_source([], ONE, StreamOptions(limit=4, seed=3))
    assert source is not None
    all_of_them = drained(source)
    assert len(set(all_of_them)) == 4 and drained(source) == all_of_them
    assert drained(source, first=2)[:2] == all_of_them[2:]
    assert all_of_them[0] == random_inputs(ONE, 3)["x"].flat[0]


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"frame{number}.npy" for number in range(12)]
    saved(tmp_path, names)
    for words in ([str(tmp_path / "frame*.npy")], sorted(str(tmp_path / name) for name in names)):
        source = find_source(words, ONE, StreamOptions())
        assert source is not None and drained(source) == list(range(12))


def test_pictures_are_normalised_and_several_inputs_named(tmp_path: Path) -> None:
    for level in (0, 255):
        Image.new("RGB", (5, 5), (level,) * 3).save(tmp_path / f"{level}.png")
    source = find_source([str(tmp_path / "*.png")], PICTURE, StreamOptions(mean=55, scale=0.5))
    assert source is not None
    assert [request["image"].flat[0] for request in source.requests(0, Stop())] == [-27.5, 100.0]
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", x=tensor(number), n=np.array([number]))
    both = find_source([str(tmp_path / "*.npz")], TWO, StreamOptions())
    assert both is not None
    assert [(r["x"][0, 0], r["n"][0]) for r in both.requests(0, Stop())] == [(0, 0), (1, 1), (2, 2)]


def test_pixels_are_normalised_later_where_all_requests_are_pictures(tmp_path: Path) -> None:
    words = []
    for level in (0, 255):
        Image.new("RGB", (5, 5), (level,) * 3).save(tmp_path / f"{level}.png")
        words.append(str(tmp_path / f"{level}.png"))
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 4), np.float32))
    other = str(tmp_path / "x.npy")
    asked = StreamOptions(mean=55, scale=[0.5, 1, 2])
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4)
    for some in ([words[0]], words, [str(tmp_path / "*.png")], [f"image={words[0]}"]):
        found = normalisations(some, PICTURE, asked)
        assert list(found) == ["image"]
        expected = (pixels - 55.0) * np.array([0.5, 1, 2]).reshape(3, 1, 1)
        np.testing.assert_array_equal(found["image"].applied(pixels), expected.astype(np.float32))
    for some in ([], [other], [*words, other], [str(tmp_path)], ["-"], [str(tmp_path / "none.png")], ["a=b.png"]):
        assert normalisations(some, PICTURE, asked) == {}
    assert normalisations(words, PICTURE, StreamOptions(mean=[1, 2])) == {}
    for dtype in ("uint8", "float16", "int64"):
        assert normalisations(words, graph_of(image=(dtype, (1, 3, 4, 4))), StreamOptions()) == {}


def test_a_picture_beside_numbers_is_pixels_too(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    graph = graph_of(image=("float32", (1, 3, 4, 4)), x=("float32", (2, 3)))
    words = [str(tmp_path / "x.npy"), str(tmp_path / "x.png")]
    assert list(normalisations([f"x={words[0]}", words[1]], graph, StreamOptions())) == ["image"]
    assert normalisations(words, graph, StreamOptions()) == {}  # x is a picture then, which it cannot be


def test_a_file_of_many_requests_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(9, dtype=np.float32).repeat(6).reshape(9, 2, 3)
    source = find_source([str(path)], ONE, StreamOptions(limit=7))
    assert source is not None
    largest, read = [], h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *at: largest.append(read(*at).size) or read(*at))
    assert drained(source) == list(range(7))
    assert set(largest) == {6}


def test_inputs_that_are_not_as_many_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["x"], file["n"] = np.zeros((3, 2, 3), np.float32), np.zeros((4, 1), np.int64)
    with pytest.raises(DataError, match=r"not hold as many requests of every input: 4 of 'n', 3 of 'x'"):
        find_source([str(tmp_path / "many.h5")], TWO, StreamOptions())


def test_a_folder_is_watched(tmp_path: Path) -> None:
    def put(name: str, number: float, age: int) -> None:
        np.save(tmp_path / ".part.npy", tensor(number))
        os.utime(tmp_path / ".part.npy", (1000 - age, 1000 - age))
        os.rename(tmp_path / ".part.npy", tmp_path / name)

    put("z.npy", 0, age=9)
    put("b10.npy", 2, age=5)
    put("b9.npy", 1, age=5)
    (tmp_path / "note.txt").write_text("no input")
    (tmp_path / "folder.npy").mkdir()
    found, stop = [], Stop()
    requests = Folder(tmp_path, StreamOptions().loader(ONE), look_s=0.001).requests(0, stop)
    found += [next(requests)["x"][0, 0] for _ in range(3)]
    put("a.npy", 3, age=0)
    found.append(next(requests)["x"][0, 0])
    put("a.npy", 4, age=0)  # another file of the same name
    found.append(next(requests)["x"][0, 0])
    stop.set()
    assert found == [0, 1, 2, 3, 4] and next(requests, None) is None


def test_a_file_in_a_folder_is_taken_once_whatever_is_done_to_it(tmp_path: Path) -> None:
    saved(tmp_path, ["a.npy"])
    requests = Folder(tmp_path, StreamOptions().loader(ONE), look_s=0.001).requests(0, Stop())
    found = [next(requests)["x"][0, 0]]
    os.utime(tmp_path / "a.npy", (1, 1))
    with (tmp_path / "a.npy").open("r+b") as file:
        np.save(file, tensor(5))
    np.save(tmp_path / ".part.npy", tensor(7))
    os.rename(tmp_path / ".part.npy", tmp_path / "b.npy")
    found.append(next(requests)["x"][0, 0])
    assert found == [0, 7]


# Pipes


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def written(pipe: Path, *pieces: bytes) -> threading.Thread:
    """A writer, in pieces that do not end where frames do."""

    def write() -> None:
        with pipe.open("wb", buffering=0) as stream:
            for piece in pieces:
                stream.write(piece)
                time.sleep(0.002)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_frames_from_a_named_pipe(pipe: Path) -> None:
    written(pipe, *cut(framed(*(npy(tensor(number)) for number in range(5))), 100))
    assert drained(Frames(pipe, ONE)) == [0, 1, 2, 3, 4]


def test_a_frame_of_nothing_is_the_end(pipe: Path) -> None:
    writer = written(pipe, framed(npy(tensor(7)), b"", npy(tensor(8))))
    assert drained(Frames(pipe, ONE)) == [7]
    writer.join()


def test_frames_of_several_inputs(pipe: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, n=np.array([5]), x=tensor(6))
    written(pipe, framed(stream.getvalue()))
    (request,) = Frames(pipe, TWO).requests(0, Stop())
    assert (request["n"][0], request["x"][0, 0]) == (5, 6)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (framed(npy(tensor(1)))[:-5], "request 1: .* ends in the middle of a request, 147 of 152 bytes"),
        (b"\x01\x02\x03", "request 1: .* ends in the middle of a request, 3 of 8 bytes"),
        (npy(tensor(1)), r"request 1: .* announces \d+ bytes and this model's inputs are far smaller"),
        (framed(b"hello"), "request 1: .* neither a .npy file nor a .npz file"),
        (framed(npy(np.zeros((3, 3), np.float32))), r"request 1: .* has shape 3,3 and input 'x' wants 2,3"),
        (framed(npy(np.array([object()]))), "request 1: .*cannot be read as a .npy file"),
    ],
)
def test_a_bad_frame_is_numbered_and_comes_after_the_good_ones(pipe: Path, data: bytes, said: str) -> None:
    written(pipe, framed(npy(tensor(0))) + data)
    reader, found = Reader(Frames(pipe, ONE)), []
    with pytest.raises(DataError, match=said):
        while not reader.is_over:
            found.append(reader.take())
    assert [request["x"][0, 0] for request in found if request is not None] == [0]


def test_a_spool_reads_ahead_and_not_for_ever(pipe: Path) -> None:
    data = os.urandom(300_000)
    written(pipe, *cut(data, 70_000))
    spool = Spool(Pipe.named(pipe), ahead=100_000)
    stop = Stop()
    found = b"".join(spool.read(size, stop) for size in (1, 99_999, 150_000, 60_000))
    assert found == data and spool.read(1, stop) == b""


def test_standard_input(tmp_path: Path) -> None:
    program = "from tests.files.test_requests import *\nprint(drained(find_source(['-'], ONE, StreamOptions())))"
    data = framed(*(npy(tensor(number)) for number in range(3)))
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, env=environment(), timeout=LIMIT_S
    )
    assert done.stdout.decode() == "[0.0, 1.0, 2.0]\n", done.stderr.decode()


# The reader


class Counted:
    """A source that says how far it was read, and fails at the end if it is told to."""

    count = None

    def __init__(self, length: int, error: Exception | None = None) -> None:
        self.length, self.error, self.read = length, error, 0

    def requests(self, first: int, stop: Stop) -> Iterator[dict[str, np.ndarray]]:
        for number in range(self.length):
            self.read += 1
            yield {"x": tensor(number)}
        if self.error is not None:
            raise self.error


def settled(counted: Counted, read: int) -> None:
    for _ in range(1000):
        if counted.read >= read:
            return
        time.sleep(0.001)


def test_a_reader_reads_a_few_requests_ahead_and_no_more() -> None:
    counted = Counted(100)
    reader = Reader(counted, depth=3)
    settled(counted, 4)
    time.sleep(0.02)
    assert counted.read == 4  # three wait, and one for them
    assert drained(reader) == list(range(100))


def test_a_bad_request_ends_the_stream_behind_those_before_it(tmp_path: Path) -> None:
    files = saved(tmp_path, ["0.npy", "1.npy", "2.npy"])
    Path(files[1]).write_bytes(b"no numbers")
    reader, found = Reader(Files(tuple(files), ONE, StreamOptions().loader(ONE)), first=10), []
    with pytest.raises(DataError, match=r"request 11: '.*1.npy' cannot be read as a .npy file"):
        while not reader.is_over:
            found.append(reader.take())
    assert len([request for request in found if request is not None]) == 1


def test_a_defect_is_raised_as_it_is() -> None:
    reader = Reader(Counted(0, ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        while not reader.is_over:
            reader.take()


@pytest.mark.parametrize("kind", ["counted", "pipe", "folder"])
def test_a_reader_that_is_stopped_gives_nothing_out(kind: str, pipe: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    sources: dict[str, Source] = {
        "counted": Counted(10**9),
        "pipe": Frames(pipe, ONE),  # nobody writes
        "folder": Folder(tmp_path / "folder", StreamOptions().loader(ONE)),
    }
    reader = Reader(sources[kind])
    assert not reader.is_over
    reader.stop()
    assert reader.is_over and reader.take() is None
    reader.close()
    assert not reader._thread.is_alive()


def test_a_graph_without_inputs_can_be_streamed() -> None:
    source = find_source([], Graph("none", (), {}, (), ()), StreamOptions(limit=3))
    assert source is not None and list(source.requests(0, Stop())) == [{}, {}, {}]


def test_shapes_of_a_watched_folder_are_those_of_the_request_that_comes_first(tmp_path: Path) -> None:
    for number, name in enumerate(("b.npy", "a.npy")):
        np.save(tmp_path / name, np.zeros((number + 1, 3), np.float32))
        os.utime(tmp_path / name, ns=(number, number))
    (tmp_path / "c.npy").symlink_to(tmp_path / "gone.npy")  # as a file that goes away while it is looked at
    (tmp_path / "d.npy").mkdir()
    assert offered_shapes([str(tmp_path)], {"x": (None, 3)}) == [("x", (1, 3), str(tmp_path / "b.npy"), True)]
