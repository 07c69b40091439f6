"""Files of strangers as inputs: none reads another file, makes up rows, runs code or takes more memory than it may."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from flexpie_mpi.core.budget import Budget
from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files.container import MOST_ITEMS
from flexpie_mpi.files.inputs import load_inputs
from flexpie_mpi.files.npz import MOST_ARRAYS
from flexpie_mpi.files.requests import StreamOptions, find_source
from flexpie_mpi.files.sources import Stop
from flexpie_mpi.files.stackwriter import StackWriter
from tests.files.graphs import graph_of

SHAPE = (1, 3, 4, 4)
GRAPH = graph_of(x=("float32", SHAPE))
X = np.arange(48, dtype=np.float32).reshape(SHAPE)
SMALL = Budget(1 << 20)


def refused(path: Path, *, graph=GRAPH, budget: Budget = SMALL) -> str:
    """The sentence of a file that is refused, checked to be one that names it."""
    with pytest.raises(DataError) as caught:
        load_inputs([str(path)], graph, budget=budget)
    sentence = str(caught.value)
    assert sentence.isprintable() and len(sentence) < 500 and path.name in sentence
    return sentence


# HDF5


def external(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(192))
    file.create_dataset("x", SHAPE, "f4", external=[(str(folder / "secret"), 0, 192)])


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = X
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", SHAPE)
    file.create_virtual_dataset("x", layout)


def linked(file: h5py.File, folder: Path) -> None:
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def soft(file: h5py.File, folder: Path) -> None:
    file["y"], file["x"] = X, h5py.SoftLink("/y")


def cycle(file: h5py.File, folder: Path) -> None:
    file.create_group("a")["a"] = file["/"]


def far_cycle(file: h5py.File, folder: Path) -> None:
    innermost = file.create_group("a/b/c")
    innermost["d"] = file["a"]


def crowded(file: h5py.File, folder: Path) -> None:
    for number in range(MOST_ITEMS + 1):
        h5py.h5g.create(file.id, b"%d" % number)


HDF5: dict[str, tuple[Callable[[h5py.File, Path], object], str]] = {
    "external storage": (external, "lies in other files"),
    "a virtual dataset": (virtual, "lies in other files"),
    "an external link": (linked, "is a link"),
    "a soft link": (soft, "is a link"),
    "a group in itself": (cycle, "lies inside of itself"),
    "a group far down in itself": (far_cycle, "lies inside of itself"),
    "many groups in groups": (lambda file, _: file.create_group("/".join("a" * 33)), "more than 32 deep"),
    "too many groups": (crowded, f"more than {MOST_ITEMS} things"),
    "what was never written": (lambda file, _: file.create_dataset("x", SHAPE, "f4"), "not all of it was written"),
    "two GiB of nothing": (
        lambda file, _: file.create_dataset("x", (2**29,), "f4", chunks=(1 << 20,), fillvalue=1),
        "not all of it was written",
    ),
    "a chunk of 4 GiB": (lambda file, _: file.create_dataset("x", (1,), "f4", maxshape=(2**30,), chunks=(2**30 - 1,)),
                         "in chunks of"),
    "packed otherwise": (lambda file, _: file.create_dataset("x", data=X.astype(int), scaleoffset=0), "is packed in a"),
    "references": (lambda file, _: file.create_dataset("x", SHAPE, h5py.ref_dtype), "holds no numbers"),
    "lists": (lambda file, _: file.create_dataset("x", SHAPE, h5py.vlen_dtype("f4")), "holds no numbers"),
    "records of texts": (
        lambda file, _: file.create_dataset("x", SHAPE, np.dtype([("a", h5py.string_dtype())])),
        "records of more than numbers",
    ),
    "opaque bytes": (lambda file, _: file.create_dataset("x", SHAPE, "V8"), "holds no numbers"),
    "texts": (lambda file, _: file.create_dataset("x", data=np.full(SHAPE, "a", object)), "holds str"),
    "another name": (lambda file, _: file.create_dataset("\x1b[31m\nx", data=X), r"holds '\\x1b\[31m\\nx'"),
    "another shape": (lambda file, _: file.create_dataset("x", data=X[0]), "has shape 3,4,4"),
}  # fmt: skip


@pytest.mark.parametrize("name", HDF5)
def test_an_hdf5_file_reads_itself_only_and_makes_nothing_up(name: str, tmp_path: Path) -> None:
    make, sentence = HDF5[name]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        make(file, tmp_path)
    with pytest.raises(DataError, match=sentence) as caught:
        load_inputs([str(tmp_path / "in.h5")], GRAPH, budget=SMALL)
    assert str(caught.value).isprintable() and "in.h5" in str(caught.value)


def test_free_blocks_that_lead_back_to_themselves_are_found(tmp_path: Path) -> None:
    """HDF5 would follow them for ever, and take memory for each."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        for name in "abcdefgh":
            file[f"name of {name}"] = np.zeros(2)
        del file["name of c"]
    assert "holds" in refused(path)
    data = bytearray(path.read_bytes())
    place = data.find(b"HEAP")
    _, block, begin = struct.unpack("<QQQ", data[place + 8 : place + 32])
    data[begin + block : begin + block + 8] = struct.pack("<Q", block)
    path.write_bytes(data)
    assert "a heap of its names is damaged" in refused(path)


def test_nodes_of_a_tree_that_are_their_own_neighbours_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        for number in range(400):
            file[f"name of {number}"] = np.zeros(1)
    data = bytearray(path.read_bytes())
    place = data.find(b"TREE\0\0")
    data[place + 16 : place + 24] = struct.pack("<Q", place)
    path.write_bytes(data)
    assert "the order of its names or chunks is damaged" in refused(path)


def test_nothing_of_a_file_is_read_before_its_heaps_are_judged(tmp_path: Path) -> None:
    """HDF5 looks for a text through all objects before it, and stays for ever at one that says it has no size."""
    path = tmp_path / "x.h5"
    StackWriter(path, {"model": "m"}).close()
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL\1")
    data[heap + 16 : heap + 32] = struct.pack("<HH4xQ", 9, 1, 2**64 - 16)
    path.write_bytes(data)
    with pytest.raises(DataError, match="a heap of its texts is damaged"):
        StackWriter(path, {"model": "m"}, appends=True)
    assert "a heap of its texts is damaged" in refused(path)
    assert path.read_bytes() == data


def test_packed_and_chunked_datasets_are_read_as_ever(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=(1, 2, 3, 3), compression="gzip", shuffle=True, fletcher32=True)
    np.testing.assert_array_equal(load_inputs([str(tmp_path / "in.h5")], GRAPH)["x"], X)


@pytest.mark.parametrize("count", ["abc", -1, 2**40, np.float64("nan"), [1, 2], True])
def test_a_number_of_requests_is_believed_as_far_as_there_are_any(count: object, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["x"], file.attrs["requests"] = np.stack([X, X + 1]), count
    try:
        source = find_source([str(tmp_path / "in.h5")], GRAPH, StreamOptions())
    except DataError as error:
        assert "in.h5" in str(error) and "says that it holds" in str(error)
    else:
        assert source is not None and len(list(source.requests(0, Stop()))) <= 2


def test_rows_that_were_never_written_are_no_requests(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", (2**40, *SHAPE), "f4", chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
    with pytest.raises(DataError, match=r"in\.h5.*not all of it was written"):
        find_source([str(tmp_path / "in.h5")], GRAPH, StreamOptions())


@pytest.mark.parametrize("count", ["abc", -1, 2**40])
def test_nothing_is_appended_to_a_file_that_lies(count: object, tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    writer = StackWriter(path, {"model": "m"})
    writer.write({"y": np.zeros((2, 3), np.float32)})
    writer.close()
    with h5py.File(path, "r+") as file:
        file.attrs["requests"] = count
    size = path.stat().st_size
    with pytest.raises(DataError, match=r"out\.h5"):
        StackWriter(path, {"model": "m"}, appends=True)
    assert path.stat().st_size == size and os.listdir(tmp_path) == ["out.h5"]


# numpy's own


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + length + header.encode() + data


def header(descr: str = "'<f4'", shape: str = "(1, 3, 4, 4)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


NPY = {
    "code": (npy(header(shape="__import__('os').system('true')")), "not that of an array"),
    "nested": (npy(header(shape="(" * 5000)), "not that of an array"),
    "many digits": (npy(header(shape=f"({'9' * 5000},)")), "not that of an array"),
    "digits and spaces": (npy(header(shape=f"({'1 ' * 20_000})")), "not that of an array"),
    "a negative axis": (npy(header(shape="(-1, 3)")), "not that of an array"),
    "a huge axis": (npy(header(shape=f"({1 << 40},)")), "and 0 are there"),
    "an axis of none and a huge one": (npy(header(shape=f"(0, {1 << 59})")), "has shape"),
    "a huge element": (npy(header("'<U99999999'", "()")), "and 0 are there"),
    "objects": (npy(header("'|O'")), "Python objects"),
    "records": (npy(header("[('a', '<f4')]")), "not that of an array"),
    "dates": (npy(header("'<M8'")), "not plain numbers"),
    "no type": (npy(header("'<q9'")), "cannot be read"),
    "an endless header": (npy("", version=2)[:8] + b"\xff\xff\xff\xff", "its header says"),
    "another version": (npy(header(), version=9), "does not begin as one"),
    "less than it says": (npy(header(), bytes(191)), "needs 192 bytes, and 191 are there"),
}


@pytest.mark.parametrize("name", NPY)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_headers_are_matched_and_weighed(name: str, suffix: str, tmp_path: Path) -> None:
    content, sentence = NPY[name]
    path = tmp_path / f"in.{suffix}"
    if suffix == "npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    assert sentence in refused(path)


@pytest.mark.parametrize("order", ["True", "False"])
@pytest.mark.parametrize("version", [1, 2])
def test_headers_of_other_writers_are_read(order: str, version: int, tmp_path: Path) -> None:
    data = np.asfortranarray(X) if order == "True" else X
    for text in (header(order=order), header(order=order).replace(", }", "}"), header(order=order).replace(": ", ":")):
        (tmp_path / "in.npy").write_bytes(npy(text, data.tobytes("A"), version))
        np.testing.assert_array_equal(load_inputs([str(tmp_path / "in.npy")], GRAPH)["x"], X)


def test_a_zip_that_grows_is_read_as_far_as_it_is_wanted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(header(shape=f"({1 << 22},)"), bytes(1 << 24)))
    assert "has shape 4194304" in refused(tmp_path / "in.npz")
    large = graph_of(x=("float32", (1 << 22,)))
    assert "would take 0.0168 GB, and 0.00105 GB is allowed" in refused(tmp_path / "in.npz", graph=large)


def test_a_zip_of_too_many_members_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.npz", "w") as archive:
        for number in range(MOST_ARRAYS + 1):
            archive.writestr(f"{number}.npy", b"")
    assert f"{MOST_ARRAYS} are the most" in refused(tmp_path / "in.npz")


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy(header(), X.tobytes()))
    (tmp_path / "in.npz").write_bytes(stream.getvalue())
    assert "packed in another way" in refused(tmp_path / "in.npz")


# Pictures


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 2**31 - 1), (30_000, 30_000), (10_000, 9_000)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(width: int, height: int, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png(width, height))
    assert "pixels" in refused(tmp_path / "in.png", budget=Budget(1 << 40))


def test_a_picture_is_weighed(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png(1000, 1000))
    assert "would take 0.012 GB" in refused(tmp_path / "in.png")


def test_a_picture_that_is_drawn_over_and_over_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "in.jpg")
    whole = (tmp_path / "in.jpg").read_bytes()
    begin = whole.index(b"\xff\xda")
    (tmp_path / "in.jpg").write_bytes(whole[:begin] + whole[begin:-2] * 101 + whole[-2:])
    assert "drawn more than 100 times" in refused(tmp_path / "in.jpg")
