"""Inputs: every way to give them, and one sentence for every way to give them wrongly."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.graph import ITEM_BYTES, Graph, Value
from flexpie_mpi.files.inputs import load_inputs
from flexpie_mpi.files.synthetic import random_inputs
from tests.arrays import read_npy, read_npz

from .graphs import graph_of

ONE = graph_of(x=("float32", (2, 3)))
TWO = graph_of(ids=("int64", (1, 4)), mask=("float32", (1, 4)))
IDS, MASK = np.array([[3, 1, 4, 1]]), np.array([[0, 1, 1, 0]], dtype=np.float32)
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# Every way to give them


def test_one_npy(here: Path) -> None:
    np.save("x.npy", X)
    same(load_inputs(["x.npy"], ONE), {"x": X})


def test_several_npy_go_to_the_inputs_in_order(here: Path) -> None:
    np.save("a.npy", IDS)
    np.save("b.npy", MASK)
    same(load_inputs(["a.npy", "b.npy"], TWO), {"ids": IDS, "mask": MASK})


def test_a_named_file_leaves_the_others_in_order(here: Path) -> None:
    np.save("a.npy", IDS)
    np.save("b.npy", MASK)
    same(load_inputs(["mask=b.npy", "a.npy"], TWO), {"ids": IDS, "mask": MASK})


@pytest.mark.parametrize("suffix", ["npz", "h5", "hdf5", "NPZ"])
def test_archives_go_by_name(here: Path, suffix: str) -> None:
    write = write_npz_file if suffix.lower() == "npz" else write_h5_file
    write(f"both.{suffix}", mask=MASK, ids=IDS)
    same(load_inputs([f"both.{suffix}"], TWO), {"ids": IDS, "mask": MASK})


def test_an_array_saved_without_a_name_is_the_one_that_is_left(here: Path) -> None:
    np.savez("one.npz", X)
    same(load_inputs(["one.npz"], ONE), {"x": X})


def test_named_archive_gives_the_array_of_that_name_or_its_only_one(here: Path) -> None:
    np.savez("both.npz", ids=IDS, mask=MASK)
    np.savez("only.npz", anything=IDS)
    same(load_inputs(["ids=only.npz", "mask=both.npz"], TWO), {"ids": IDS, "mask": MASK})


def test_names_with_slashes_and_equal_signs(here: Path) -> None:
    values = {name: Value(name, (2, 3), "float32") for name in ("a", "a=b/c", "/in/x")}
    graph = Graph("odd", (), values, tuple(values), ())
    np.save("x.npy", X)
    write_h5_file("in.h5", **{"in/x": X})
    found = load_inputs(["a=b/c=x.npy", "a=x.npy", "/in/x=in.h5"], graph)
    same(found, dict.fromkeys(values, X))


def test_a_file_may_have_an_equal_sign_in_its_name(here: Path) -> None:
    np.save("run=3.npy", X)
    same(load_inputs(["run=3.npy"], ONE), {"x": X})


def test_without_files_the_inputs_are_the_random_ones() -> None:
    same(load_inputs([], TWO, seed=5), random_inputs(TWO, 5))


def test_a_plain_number(here: Path) -> None:
    np.save("x.npy", np.float32(2.5))
    found = load_inputs(["x.npy"], graph_of(x=("float32", ())))["x"]
    assert found.shape == () and found == 2.5


def test_infinities_and_nan_are_values_like_others(here: Path) -> None:
    odd = np.array([np.inf, -np.inf, np.nan])
    np.save("x.npy", odd)
    found = load_inputs(["x.npy"], graph_of(x=("float32", (3,))))["x"]
    np.testing.assert_array_equal(found, odd.astype(np.float32))


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ("float64", "float32"),
        ("float16", "float64"),
        (">f4", "float32"),
        ("int64", "int32"),
        ("uint8", "int64"),
        ("int64", "uint8"),
        ("bool", "bool"),
    ],
)
def test_a_number_may_change_its_width(here: Path, stored: str, wanted: str) -> None:
    array = np.array([0, 1, 1, 0]).astype(stored)
    np.save("x.npy", array)
    found = load_inputs(["x.npy"], graph_of(x=(wanted, (4,))))["x"]
    assert found.dtype == np.dtype(wanted) and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_columns_first_arrays_arrive_contiguous(here: Path) -> None:
    np.save("x.npy", np.asfortranarray(X))
    found = load_inputs(["x.npy"], ONE)["x"]
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, X)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(sorted(ITEM_BYTES)),
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    seed=st.integers(0, 99),
    suffix=st.sampled_from(["npy", "npz", "h5"]),
)
def test_what_is_made_up_survives_a_file(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], seed: int, suffix: str
) -> None:
    graph = graph_of(x=(dtype, shape))
    made = random_inputs(graph, seed)
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, made["x"])
    else:
        (write_npz_file if suffix == "npz" else write_h5_file)(str(path), **made)
    found = load_inputs([str(path)], graph)
    same(found, made)
    assert found["x"].dtype == made["x"].dtype


# Every way to give them wrongly


def write_npz_file(path: str, **arrays: np.ndarray) -> None:
    with open(path, "wb") as stream:
        np.savez(stream, **arrays)


def write_h5_file(path: str, **arrays: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def refused(files: list[str], graph: Graph = ONE) -> str:
    """The sentence of the error, checked to be one."""
    with pytest.raises(DataError) as caught:
        load_inputs(files, graph)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400
    return sentence


def test_missing_file_and_folder(here: Path) -> None:
    Path("folder.npy").mkdir()
    assert "'gone.npy' does not exist" in refused(["gone.npy"])
    assert "does not exist" in refused(["x" * 300 + ".npy"])
    assert "'folder.npy' is a folder" in refused(["folder.npy"])
    assert "'/dev/null' is a device" in refused(["/dev/null"])


def test_forbidden_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", X)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    assert "may not be read" in refused(["x.npy"])


def test_unknown_ending(here: Path) -> None:
    Path("x.csv").write_text("1,2,3")
    sentence = refused(["x.csv"])
    assert "'.csv'" in sentence and ".npz" in sentence and ".png" in sentence


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "png", "jpg", "webp", "ppm", "bmp"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 40, bytes(range(256)) * 8, b"\x80\x04\x95 pickled"])
def test_bytes_that_are_no_such_file(here: Path, suffix: str, content: bytes) -> None:
    Path(f"x.{suffix}").write_bytes(content)
    assert f"'x.{suffix}' cannot be read as" in refused([f"x.{suffix}"], graph_of(x=("float32", (1, 3, 4, 4))))


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_truncated_anywhere(here: Path, suffix: str) -> None:
    array = np.arange(600, dtype=np.float32)
    graph = graph_of(x=("float32", (600,)))
    np.save("whole.npy", array)
    write_npz_file("whole.npz", x=array)
    write_h5_file("whole.h5", x=array)
    whole = Path(f"whole.{suffix}").read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        Path(f"cut.{suffix}").write_bytes(whole[:length])
        assert f"'cut.{suffix}'" in refused([f"cut.{suffix}"], graph)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_anywhere_gives_the_shape_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(["npy", "npz", "h5"]))
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, X)
    else:
        (write_npz_file if suffix == "npz" else write_h5_file)(str(path), x=X)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert load_inputs([str(path)], ONE)["x"].shape == (2, 3)
    except DataError as error:
        assert "\n" not in str(error)


def test_python_objects_are_never_unpickled(here: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, ("unpickled",)

    np.save("x.npy", np.array([Bomb()]), allow_pickle=True)
    np.savez("x.npz", x=np.array([Bomb()]), allow_pickle=True)
    for name in ("x.npy", "x.npz"):
        assert "bject" in refused([name])
    assert not Path("unpickled").exists()


def test_an_array_larger_than_memory(here: Path) -> None:
    with open("x.npy", "wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)}
        np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.write("x.npy")
    for name in ("x.npy", "x.npz"):
        assert "needs 4503599627370496 bytes, and 0 are there" in refused([name])


def test_missing_extra_and_doubled_inputs(here: Path) -> None:
    np.save("a.npy", IDS)
    write_npz_file("mask.npz", mask=MASK)
    write_h5_file("more.h5", ids=IDS, mask=MASK, labels=IDS)
    assert "no file gives 'mask'" in refused(["a.npy"], TWO)
    assert "no file gives 'ids'" in refused(["mask.npz"], TWO)
    assert "holds 'labels', and the model has 'ids', 'mask'" in refused(["more.h5"], TWO)
    assert "'mask' is given twice, by 'mask.npz' and by 'a.npy'" in refused(["mask.npz", "mask=a.npy"], TWO)
    assert "one input too many" in refused(["a.npy", "a.npy", "a.npy"], TWO)
    assert "names 'idz', and the model has 'ids', 'mask'" in refused(["idz=a.npy"], TWO)


def test_named_archive_without_that_name(here: Path) -> None:
    write_npz_file("two.npz", ids=IDS, other=IDS)
    assert "holds 'ids', 'other', none of them named 'mask'" in refused(["mask=two.npz"], TWO)


def test_an_empty_archive(here: Path) -> None:
    write_npz_file("empty.npz")
    write_h5_file("empty.h5")
    assert "no file gives 'x'" in refused(["empty.npz"])
    assert "no file gives 'x'" in refused(["empty.h5"])
    assert "holds nothing" in refused(["x=empty.h5"])


@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 2, 3), ()])
def test_wrong_shape_names_both(here: Path, shape: tuple[int, ...]) -> None:
    np.save("x.npy", np.zeros(shape, dtype=np.float32))
    sentence = refused(["x.npy"])
    assert ",".join(map(str, shape)) in sentence and "'x' wants 2,3" in sentence


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [("int64", "float32"), ("float32", "int64"), ("bool", "float32"), ("int8", "bool"), ("complex64", "float32")],
)
def test_another_kind_of_number_is_refused(here: Path, stored: str, wanted: str) -> None:
    np.save("x.npy", np.zeros(3, dtype=stored))
    sentence = refused(["x.npy"], graph_of(x=(wanted, (3,))))
    assert f"holds {stored}" in sentence and f"wants {wanted}" in sentence


@pytest.mark.parametrize(
    ("number", "stored", "wanted"),
    [(1e300, "float64", "float32"), (70000.0, "float32", "float16"), (256, "int64", "uint8"), (-1, "int8", "uint64")],
)
def test_a_number_out_of_range_is_refused(here: Path, number: float, stored: str, wanted: str) -> None:
    np.save("x.npy", np.array([0, number]).astype(stored))
    assert f"do not fit into {wanted}" in refused(["x.npy"], graph_of(x=(wanted, (2,))))


def test_strings_are_refused(here: Path) -> None:
    np.save("x.npy", np.array(["a", "b", "c"]))
    assert "wants float32" in refused(["x.npy"], graph_of(x=("float32", (3,))))


@pytest.mark.parametrize("dtype", ["bfloat16", "string", "float8e4m3fn"])
def test_types_that_no_file_holds(here: Path, dtype: str) -> None:
    np.save("x.npy", X)
    assert f"'x' is of type {dtype}" in refused(["x.npy"], graph_of(x=(dtype, (2, 3))))


def test_members_that_are_no_arrays(here: Path) -> None:
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "'readme.txt' is no array" in refused(["x.npz"])


def test_numpy_agrees_on_what_a_file_holds(here: Path) -> None:
    np.save("x.npy", X)
    np.savez("x.npz", a=X, b=IDS)
    np.testing.assert_array_equal(read_npy(Path("x.npy")), np.load("x.npy"))
    same(read_npz(Path("x.npz")), dict(np.load("x.npz")))
    np.savez_compressed("x.npz", a=X)
    same(read_npz(Path("x.npz")), {"a": X})
