"""Outputs: what is written is read back under the same names; a failure leaves no trace."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.graph import ITEM_BYTES
from flexpie_mpi.files import outputs as module
from flexpie_mpi.files.hdf5 import FORMAT_VERSION
from flexpie_mpi.files.outputs import check_writable, save_outputs
from tests.arrays import read_hdf5, read_npz, read_provenance

READERS = {".npz": read_npz, ".h5": read_hdf5, ".hdf5": read_hdf5}
Y = np.arange(6, dtype=np.float32).reshape(2, 3)

suffixes = pytest.mark.parametrize("suffix", sorted(READERS))


@suffixes
@pytest.mark.parametrize(
    "name",
    ["y", "/conv1/Conv_output_0", "a/b", "a//b/", ".", "..", "./y", "y.npy", "100%", "%2F", "file", "é £ 名", " "],
)
def test_names_are_kept(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"out{suffix}"
    save_outputs(path, {name: Y, "other": Y + 1})
    found = READERS[suffix](path)
    assert set(found) == {name, "other"}
    np.testing.assert_array_equal(found[name], Y)
    np.testing.assert_array_equal(found["other"], Y + 1)


def test_a_value_and_another_inside_it(tmp_path: Path) -> None:
    """Names that would be a dataset and a group of the same name."""
    save_outputs(tmp_path / "out.h5", {"a": Y, "a/b": Y + 1})
    found = read_hdf5(tmp_path / "out.h5")
    np.testing.assert_array_equal(found["a"], Y)
    np.testing.assert_array_equal(found["a/b"], Y + 1)


def test_numpy_reads_the_npz(tmp_path: Path) -> None:
    save_outputs(tmp_path / "out.npz", {"/a/b": Y, "file": Y + 1})
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == {"/a/b", "file"}
        np.testing.assert_array_equal(found["/a/b"], Y)


def test_equal_outputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_outputs(tmp_path / name, {"y": Y})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)
ARRAYS = arrays.arrays(
    st.sampled_from(sorted(ITEM_BYTES)).map(np.dtype),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, ARRAYS, max_size=4), st.sampled_from(sorted(READERS)))
def test_round_trip(tmp_path: Path, values: dict[str, np.ndarray], suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    save_outputs(path, values)
    found = READERS[suffix](path)
    assert set(found) == set(values)
    for name, array in values.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


@suffixes
def test_strings(tmp_path: Path, suffix: str) -> None:
    words = np.array(["cat", "Käse", ""], dtype=object)
    save_outputs(tmp_path / f"out{suffix}", {"label": words, "none": np.array([], dtype=object)})
    found = READERS[suffix](tmp_path / f"out{suffix}")
    assert found["label"].tolist() == words.tolist()
    assert found["none"].shape == (0,)


def test_provenance_and_version(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    save_outputs(path, {"y": Y}, {"model_digest": "abc", "ranks": 4})
    found = read_provenance(path)
    assert found["model_digest"] == "abc" and found["ranks"] == 4
    assert found["format_version"] == FORMAT_VERSION
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(DataError, match=f"version {FORMAT_VERSION + 1} .*newer"):
        read_hdf5(path)


def test_groups_of_other_writers_are_part_of_the_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/b%2F"] = Y
        file.attrs["format"] = [1, 2]
    np.testing.assert_array_equal(read_hdf5(tmp_path / "x.h5")["a/b%2F"], Y)


def test_dataset_without_a_shape(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = h5py.Empty("f4")
    with pytest.raises(DataError, match="'a' is empty"):
        read_hdf5(tmp_path / "x.h5")


# Whole or not at all


@suffixes
def test_an_older_file_is_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    save_outputs(path, {"y": Y, "old": Y})
    save_outputs(path, {"y": Y + 1})
    found = READERS[suffix](path)
    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], Y + 1)
    assert os.listdir(tmp_path) == [path.name]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "folder" / "real")
    save_outputs(tmp_path / "link.npz", {"y": Y})
    assert (tmp_path / "link.npz").is_symlink()
    np.testing.assert_array_equal(read_npz(tmp_path / "folder" / "real")["y"], Y)


def test_the_file_gets_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for name in ("out.npz", "out.h5"):
        save_outputs(tmp_path / name, {"y": Y})
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


@suffixes
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([Y, Y], "is a list"),
        ({"cat": 0.5}, "is a dict"),
        (np.array([Y, None], dtype=object), "tensor of object"),
        (np.zeros(3, dtype="V2"), "tensor of void"),
        (None, "is a NoneType"),
    ],
)
def test_what_is_no_tensor_is_refused_and_leaves_nothing(tmp_path: Path, suffix: str, value: object, said: str) -> None:
    with pytest.raises(DataError, match=f"output 'z' .*{said}"):
        save_outputs(tmp_path / f"out{suffix}", {"y": Y, "z": value})
    assert os.listdir(tmp_path) == []


@suffixes
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("cannot flush"), KeyboardInterrupt()]
)
def test_a_failure_half_way_leaves_the_old_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, error: BaseException
) -> None:
    path = tmp_path / f"out{suffix}"
    save_outputs(path, {"y": Y})
    before = path.read_bytes()

    def fail(target: object, *_: object) -> None:
        with target.open("wb") if isinstance(target, Path) else target as stream:
            stream.write(b"half")
        raise error

    monkeypatch.setattr(module, "write_npz", fail)
    monkeypatch.setattr(module, "write_hdf5", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError) as caught:
        save_outputs(path, {"y": Y + 1})
    if isinstance(caught.value, DataError):
        assert f"'{path}' cannot be written: " in str(caught.value)
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == before


# Wrong paths are found before anything is computed


def refused(path: Path) -> str:
    """The sentence, the same from the early check and from the writing."""
    with pytest.raises(DataError) as early:
        check_writable(path)
    with pytest.raises(DataError) as late:
        save_outputs(path, {"y": Y})
    assert str(early.value) == str(late.value) and "\n" not in str(early.value)
    return str(early.value)


def test_good_paths_stay_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("out.npz", tmp_path / "out.h5", "./OUT.NPZ"):
        check_writable(path)
    assert os.listdir(tmp_path) == []
    save_outputs("out.npz", {"y": Y})
    before = Path("out.npz").stat()
    check_writable("out.npz")
    assert Path("out.npz").stat().st_mtime_ns == before.st_mtime_ns and os.listdir(tmp_path) == ["out.npz"]


@pytest.mark.parametrize("name", ["out", "out.npy", "out.txt", "out.npz.gz", ".npz"])
def test_unknown_endings(tmp_path: Path, name: str) -> None:
    assert "choose one of .npz, .h5, .hdf5" in refused(tmp_path / name)


def test_missing_folder(tmp_path: Path) -> None:
    assert f"there is no folder '{tmp_path / 'gone'}'" in refused(tmp_path / "gone" / "out.npz")
    (tmp_path / "file").touch()
    assert "there is no folder" in refused(tmp_path / "file" / "out.npz")


def test_folder_and_device(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.npz")
    (tmp_path / "null.h5").symlink_to("/dev/null")
    assert "is a device" in refused(tmp_path / "null.h5")
    assert sorted(os.listdir(tmp_path)) == ["folder.npz", "null.h5"]


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    assert "cannot be written: " in refused(tmp_path / f"{'x' * 300}.npz")
    assert os.listdir(tmp_path) == []


def test_a_folder_where_nobody_may_write() -> None:
    assert "cannot be written: " in refused(Path("/proc/out.npz"))


def test_forbidden_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_outputs(tmp_path / "out.npz", {"y": Y})
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    assert "may not be changed" in refused(tmp_path / "out.npz")
