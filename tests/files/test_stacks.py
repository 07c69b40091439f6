"""Files of many requests: appended to, killed in the middle of it, refused where they are not ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import h5py
import numpy as np
import pytest

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files import outputs as results_module
from flexpie_mpi.files.hdf5 import COUNT, FORMAT_VERSION, Stack
from flexpie_mpi.files.outputs import Results
from flexpie_mpi.files.stackwriter import StackWriter
from tests.arrays import read_hdf5, read_provenance, read_request, written
from tests.launch import environment

ABOUT = {"model": "net", "model_digest": "abc", "onnxruntime": "1.0"}


def rows(first: int, count: int) -> dict[str, np.ndarray]:
    """What tells the requests apart, under a name with a slash."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return {"a/b": np.repeat(numbers, 6).reshape(count, 2, 3), "n": numbers.astype(np.int64)}


def test_rows_add_up_and_can_be_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    writer = StackWriter(path, ABOUT)
    for first, count in ((0, 3), (3, 1), (4, 2000)):
        writer.write(rows(first, count))
        assert written(path) == first + count
    writer.close()
    with Stack(path) as stack:
        assert stack.count == 2004 and stack.shapes == {"a/b": (2004, 2, 3), "n": (2004,)}
        for row in (0, 3, 2003):
            found = read_request(stack, row)
            assert (found["a/b"] == row).all() and found["n"] == row
    assert read_provenance(path)["model_digest"] == "abc"
    np.testing.assert_array_equal(read_hdf5(path)["n"], np.arange(2004))


@pytest.mark.parametrize(
    "arrays",
    [
        {"scalar": np.arange(3.0)},
        {"empty": np.zeros((3, 0, 2), np.float32)},
        {"text": np.array([["a", "bcd"], ["", "é"], ["x", "y"]])},
        {"flags": np.array([[True], [False], [True]])},
        {"half": np.ones((3, 2), np.float16)},
    ],
    ids=lambda arrays: next(iter(arrays)),
)
def test_every_kind_of_output(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    writer = StackWriter(tmp_path / "r.h5", {})
    writer.write(arrays)
    writer.close()
    for name, array in read_hdf5(tmp_path / "r.h5").items():
        assert array.shape == arrays[name].shape and array.dtype.kind == arrays[name].dtype.kind
        np.testing.assert_array_equal(array, arrays[name])


def test_appending_goes_on_behind_the_last_complete_request(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    writer = StackWriter(path, ABOUT)
    writer.write(rows(0, 5))
    writer.close()
    with h5py.File(path, "r+") as file:  # as if the process had been killed between rows and count
        file["n"].resize(9, axis=0)
    again = StackWriter(path, {**ABOUT, "onnxruntime": "2.0"}, appends=True)
    assert again.count == 5
    again.write(rows(5, 2))
    again.close()
    np.testing.assert_array_equal(read_hdf5(path)["n"], np.arange(7))


def test_texts_that_were_packed_stay_as_they_are(tmp_path: Path) -> None:
    """The rows of a chunk that are not complete are emptied in place, which packed bytes do not bear."""
    writer = StackWriter(tmp_path / "plain.h5", ABOUT)
    writer.write({"t": np.array([["some"], ["text"]])})
    writer.close()
    with h5py.File(tmp_path / "plain.h5") as plain, h5py.File(tmp_path / "packed.h5", "w") as packed:
        packed.attrs.update(plain.attrs)
        packed.create_dataset(
            "t", data=plain["t"][()], dtype=h5py.string_dtype(), maxshape=(None, 1), chunks=plain["t"].chunks,
            compression="gzip",
        )  # fmt: skip
    with pytest.raises(DataError, match="has texts that another program has packed"):
        StackWriter(tmp_path / "packed.h5", ABOUT, appends=True)
    with Stack(tmp_path / "packed.h5") as stack:
        assert [read_request(stack, number)["t"].item() for number in range(stack.count)] == [b"some", b"text"]


def test_what_must_not_be_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    StackWriter(path, ABOUT).close()
    with pytest.raises(DataError, match="there already: --append adds to it"):
        StackWriter(path, ABOUT)
    with pytest.raises(DataError, match="model_digest abc and this stream xyz: append to a file of the same model"):
        StackWriter(path, {**ABOUT, "model_digest": "xyz"}, appends=True)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["n"] = np.arange(3)
    with pytest.raises(DataError, match="was not written by a stream"):
        StackWriter(tmp_path / "other.h5", ABOUT, appends=True)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match=r"text.h5' cannot be written"):
        StackWriter(tmp_path / "text.h5", ABOUT, appends=True)


def test_outputs_of_another_name_or_type_are_refused(tmp_path: Path) -> None:
    writer = StackWriter(tmp_path / "r.h5", {})
    writer.write({"y": np.zeros((2, 3), np.float32)})
    for wrong in (np.zeros((1, 3, 1), np.int32), np.zeros((1, 3), np.float64)):
        with pytest.raises(DataError, match=r"of request 2 or later has type .* holds float32: give another name"):
            writer.write({"y": wrong})
    with pytest.raises(DataError, match="holds y and the stream gives z"):
        writer.write({"z": np.zeros((1, 3), np.float32)})
    writer.close()
    assert read_hdf5(tmp_path / "r.h5")["y"].shape == (2, 3)


def one_of(file: h5py.File, name: str, request: int) -> np.ndarray:
    """What README tells people to write."""
    return np.asarray(file[name][request][tuple(map(slice, file[name + "%shape"][request]))])


def shaped(number: int) -> dict[str, np.ndarray]:
    """A request whose values differ from others in every axis, but for one of them."""
    random = np.random.default_rng(number)
    rows, columns = random.integers(0, 5, 2)
    words = [f"{number}-{place}" for place in range(rows)]
    return {
        "sel": random.integers(0, 9, (rows, 3)),
        "mask%": random.random((1, columns, rows)) < 0.5,
        "words": np.array(words, np.str_),
        "same": np.full(2, number, np.float16),
    }


def test_requests_of_different_shapes_are_read_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    asked = [shaped(number) for number in range(400)]
    for first, end in ((0, 150), (150, 400)):
        results = Results(path, ABOUT, appends=True)
        for request in asked[first:end]:
            results.add(request)
        assert results.close() == end
    with h5py.File(path, "r") as file, Stack(path) as stack:
        assert set(file) == {"sel", "sel%shape", "mask%25", "mask%25%shape", "words", "words%shape", "same"}
        assert stack.count == 400 and set(stack.shapes) == set(asked[0])
        for number, expected in enumerate(asked):
            found = read_request(stack, number)
            for name, array in expected.items():
                assert found[name].shape == array.shape
                text = array.dtype.kind == "U"
                np.testing.assert_array_equal(found[name].astype(np.str_) if text else found[name], array)
            np.testing.assert_array_equal(one_of(file, "sel", number), expected["sel"])
            assert [word.decode() for word in one_of(file, "words", number)] == expected["words"].tolist()


def test_the_first_that_differs_may_come_late(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    writer = StackWriter(path, ABOUT)
    writer.write({"y": np.ones((3000, 4, 3))})
    assert set(writer._file) == {"y"}
    for shape in ((1, 7, 3), (1, 0, 5), (2, 4, 3)):
        writer.write({"y": np.full(shape, 2.0)})
    writer.close()
    with h5py.File(path, "r") as file:
        assert file["y"].shape == (3004, 7, 5) and file["y%shape"].shape == (3004, 2)
        shapes = [one_of(file, "y", request).shape for request in (0, 2999, 3000, 3001, 3003)]
        assert shapes == [(4, 3), (4, 3), (7, 3), (0, 5), (4, 3)]
        assert (one_of(file, "y", 0) == 1).all() and (one_of(file, "y", 3000) == 2).all()


def test_an_older_file_is_appended_to_with_other_shapes(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    writer = StackWriter(path, ABOUT)
    writer.write(rows(0, 3))
    writer.close()
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
    again = StackWriter(path, ABOUT, appends=True)
    again.write({"a/b": np.zeros((1, 9, 9), np.float32), "n": np.array([3])})
    again.close()
    with h5py.File(path, "r") as file:
        assert file.attrs["format_version"] == FORMAT_VERSION and one_of(file, "a%2Fb", 2).shape == (2, 3)


def whole_of(file: h5py.File, name: str, request: int) -> np.ndarray:
    """What README tells people to write where the number of axes changes."""
    shape = [extent for extent in file[name + "%shape"][request] if extent >= 0]
    if len(shape) + 1 == file[name].ndim:
        return np.asarray(file[name][(request, *map(slice, shape))])
    return np.asarray(file[name + "%flat"][request][: prod(shape)].reshape(shape))


def of_any_axes(number: int) -> dict[str, np.ndarray]:
    """A request whose values have other axes than those before; a text among them."""
    random = np.random.default_rng(number)
    shape = tuple(random.integers(0, 4, random.integers(0, 4)))
    array = random.integers(1, 99, shape)
    return {"y": np.asarray(array, np.int64), "t": np.asarray(array, np.str_), "late": array[..., None] * 0.5}


@pytest.mark.parametrize("first", range(4))
def test_requests_with_other_axes_are_read_back_whole(tmp_path: Path, first: int) -> None:
    path = tmp_path / "r.h5"
    plain = {"y": np.full((2,) * first, 7), "t": np.full((2,) * first, "é7"), "late": np.ones(3)}
    asked = [*[plain] * 1500, *map(of_any_axes, range(60)), plain]
    for begin, end in ((0, 1510), (1510, len(asked))):
        results = Results(path, ABOUT, appends=True)
        for request in asked[begin:end]:
            results.add(request)
        assert results.close() == end
    with h5py.File(path, "r") as file, Stack(path) as stack:
        assert stack.count == len(asked) and set(stack.shapes) == set(plain)
        for number in (0, *range(1400, len(asked))):
            found = read_request(stack, number)
            for name, array in asked[number].items():
                is_text = array.dtype.kind == "U"
                for read in (found[name], whole_of(file, name, number)):
                    words = np.vectorize(bytes.decode, otypes=["U9"])(read) if is_text and read.size else read
                    assert read.shape == array.shape and (words == array).all()


def test_an_older_file_of_ragged_requests_takes_as_many_axes_as_it_has(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    with h5py.File(path, "w") as file:  # as format 2 had them
        file.attrs.update({**ABOUT, "format": "flexpie_mpi values", "format_version": 2, COUNT: 2})
        file.create_dataset("y", data=np.ones((2, 3, 4)), maxshape=(None,) * 3, chunks=(2, 3, 4))
        file.create_dataset("y%shape", data=np.array([[3, 4], [2, 2]]), maxshape=(None, 2), chunks=(9, 2))
    writer = StackWriter(path, ABOUT, appends=True)
    writer.write({"y": np.full((1, 5), 2.0)})
    with pytest.raises(DataError, match="begun by an older flexpie-mpi"):
        writer.write({"y": np.full((1, 5, 1, 1), 2.0)})
    writer.close()
    with Stack(path) as stack:
        assert [read_request(stack, number)["y"].shape for number in range(stack.count)] == [(3, 4), (2, 2), (5,)]


@pytest.mark.parametrize("shape", [(9, -1), (-1, 2), (-2, -1), (2**62, 2**62), (-1, -1)])
def test_shapes_that_the_file_has_no_room_for_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    writer = StackWriter(tmp_path / "r.h5", ABOUT)
    writer.write({"y": np.ones((1, 2, 2))})
    writer.write({"y": np.ones((1, 3))})
    writer.close()
    with h5py.File(tmp_path / "r.h5", "r+") as file:
        if shape == (-1, -1):
            del file["y%flat"]
        file["y%shape"][1] = shape
    with (
        Stack(tmp_path / "r.h5") as stack,
        pytest.raises(DataError, match="is damaged: request 1 of 'y' has the shape"),
    ):
        read_request(stack, 1)


def test_a_long_request_does_not_make_room_for_all(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    results = Results(path, {}, varying=("y",))
    for number in range(2000):
        results.add({"y": np.zeros((10_000 if number == 1000 else 1, 3), np.float32)})
    results.close()
    with h5py.File(path, "r") as file:
        assert file["y"].shape == (2000, 10_000, 3) and one_of(file, "y", 1000).shape == (10_000, 3)
    assert path.stat().st_size < 100 * 10_000 * 3 * 4


WRITES = """
import sys
import time
from math import prod
from pathlib import Path
from flexpie_mpi.files.stackwriter import StackWriter
from tests.files.test_stacks import rows
writer = StackWriter(Path(sys.argv[1]), {}, appends=True)
while True:
    writer.write(rows(writer.count, 1 + writer.count % 3))
    print(writer.count, flush=True)
"""


WRITES_TEXTS = """
import sys
from pathlib import Path
import numpy as np
from flexpie_mpi.files.stackwriter import StackWriter
from tests.files.test_stacks import text_of
writer = StackWriter(Path(sys.argv[1]), {}, appends=True)
while True:
    writer.write({"t": text_of(writer.count)[np.newaxis]})
    print(writer.count, flush=True)
"""


def text_of(number: int) -> np.ndarray:
    return np.array([f"{number}-{place}" for place in range(number % 4)], np.str_)


def test_texts_of_many_lengths_go_on_after_a_kill(tmp_path: Path) -> None:
    """HDF5 follows what a text that it overwrites points to, and that may never have come to the disk."""
    path, told = tmp_path / "r.h5", 0
    for _ in range(2):
        command = [sys.executable, "-c", WRITES_TEXTS, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stdout is not None
            for _ in range(25):
                told = int(process.stdout.readline())
            process.kill()
            told = int([str(told), *process.stdout.read().split()][-1])
        with h5py.File(path, "r") as file:
            assert file.attrs[COUNT] >= told
            for number in range(told):
                assert [word.decode() for word in one_of(file, "t", number)] == text_of(number).tolist()


def test_what_was_never_complete_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    writer = StackWriter(path, {})
    writer.write({"t": np.array([["a"], ["b"]])})
    writer.close()
    with h5py.File(path, "r+") as file:  # as if a third row had come to the disk, and its text had not
        item = file["t"]
        _, data = item.id.read_direct_chunk((0, 0))
        size = len(data) // item.chunks[0]
        lost = data[: 2 * size] + b"\x01\x00\x00\x00" + data[4:12] + b"\x3d\x00\x00\x00" + data[3 * size :]
        item.id.write_direct_chunk((0, 0), lost)
    again = StackWriter(path, {}, appends=True)
    again.write({"t": np.array([["c"]])})
    again.close()
    assert read_hdf5(path)["t"].tolist() == [["a"], ["b"], ["c"]]


def test_a_killed_writer_leaves_every_request_it_spoke_of(tmp_path: Path) -> None:
    path, told = tmp_path / "r.h5", 0
    for enough in (7, 100):
        command = [sys.executable, "-c", WRITES, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stdout is not None
            while told < enough:
                told = int(process.stdout.readline())
            with pytest.raises(DataError, match="is being written by another process"):
                StackWriter(path, {}, appends=True)
            process.kill()
            told = int([str(told), *process.stdout.read().split()][-1])
        with Stack(path) as stack:
            assert stack.count >= told
            np.testing.assert_array_equal([int(read_request(stack, row)["n"]) for row in range(told)], np.arange(told))


# The thread in front of it


def test_results_are_copies_in_order(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.h5", ABOUT)
    output = np.zeros((2, 2), np.float32)
    for number in range(300):
        output[:] = number
        results.add({"y": output})
    assert results.first == 0 and results.close() == 300
    np.testing.assert_array_equal(read_hdf5(tmp_path / "r.h5")["y"][:, 1, 1], np.arange(300))
    more = Results(tmp_path / "r.h5", ABOUT, appends=True)
    more.add({"y": output})
    assert more.first == 300 and more.close() == 301


def test_results_are_on_disk_without_being_closed(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.h5", {})
    results.add({"y": np.ones(3)})
    results.hurry()
    looks = 1000
    while looks and not written(tmp_path / "r.h5"):
        looks -= 1
        time.sleep(0.01)
    assert looks, "nothing was written while the stream was idle"
    results.close()


def test_a_stream_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "BATCH_BYTES", 1)
    monkeypatch.setattr(results_module, "HELD_BYTES", 1)
    results = Results(tmp_path / "r.h5", {})
    for _ in range(5):
        results.add({"y": np.ones(100)})
        assert results._held_bytes <= 800
    assert results.close() == 5


def test_little_is_copied_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "_STACKED_BYTES", 100)
    given, write = [], StackWriter.write
    monkeypatch.setattr(StackWriter, "write", lambda *given_: given.append(given_[1]["y"]) or write(*given_))
    for name, extent in (("small", 4), ("large", 40)):
        results = Results(tmp_path / f"{name}.h5", {})
        for number in range(7):
            results.add({"y": np.full(extent, float(number))})
        assert results.close() == 7
        np.testing.assert_array_equal(read_hdf5(tmp_path / f"{name}.h5")["y"][:, 0], np.arange(7))
    assert all(len(rows) == 1 or rows.nbytes <= 100 for rows in given)
    assert all(rows.base is not None for rows in given if rows.shape[1] == 40), "a large one is no copy"


def test_what_cannot_be_written_is_said_and_keeps_what_was(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.h5", {})
    results.add({"y": np.ones(3)})
    results.add({"y": np.ones(3, np.int8)})
    with pytest.raises(DataError, match=r"has type int8, and .* holds float64"):
        results.close()
    assert read_hdf5(tmp_path / "r.h5")["y"].shape == (1, 3)
    results.leave()  # nothing is left to do


def test_wrong_paths_are_found_early(tmp_path: Path) -> None:
    for name, said in (
        ("r.npz", "the outputs of a stream go to .h5"),
        (os.path.join("no", "r.h5"), "there is no folder"),
    ):
        with pytest.raises(DataError, match=said):
            Results(tmp_path / name, {})
    (tmp_path / "r.h5").touch()
    with pytest.raises(DataError, match="there already"):
        Results(tmp_path / "r.h5", {})
