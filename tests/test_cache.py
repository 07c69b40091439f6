"""The cache: whole entries only, first writer wins, oldest use goes first, and never a failed run because of it."""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from flexpie_mpi.core.errors import CacheError
from flexpie_mpi.files.cache import Cache


def write_bytes(data: bytes):
    return lambda path: path.write_bytes(data)


def write_folder(path: Path) -> None:
    path.mkdir()
    (path / "part").write_bytes(b"part")


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".new-")]


def test_an_entry_is_found_after_it_is_stored_and_not_before(tmp_path):
    cache = Cache(tmp_path)
    assert cache.find("weights", "k") is None
    path = cache.store("weights", "k", write_bytes(b"data"))
    assert cache.find("weights", "k") == path == Cache(tmp_path).find("weights", "k")
    assert path.read_bytes() == b"data"
    assert leftovers(tmp_path) == []


def test_an_entry_can_be_a_folder(tmp_path):
    path = Cache(tmp_path).store("model", "k", write_folder)
    assert (path / "part").read_bytes() == b"part"


@pytest.mark.parametrize("write", [write_bytes(b"part"), write_folder])
def test_a_flipped_bit_is_found_and_the_entry_made_again(tmp_path, write):
    cache = Cache(tmp_path)
    path = cache.store("k", "a", write)
    file = path / "part" if path.is_dir() else path
    for bit in range(8 * 4):
        damaged = bytearray(b"part")
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        assert Cache(tmp_path).find("k", "a", checks=False) == path
        assert Cache(tmp_path).find("k", "a") is None and not os.path.lexists(path)
        assert cache.store("k", "a", write) == Cache(tmp_path).find("k", "a") == path and file.read_bytes() == b"part"


def test_a_failed_write_leaves_nothing_and_raises_its_error(tmp_path):
    def fail(path: Path) -> None:
        write_folder(path)
        raise ValueError("half way")

    cache = Cache(tmp_path)
    with pytest.raises(ValueError, match="half way"):
        cache.store("model", "k", fail)
    assert cache.find("model", "k") is None
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_when_another_process_stores_first_its_entry_stays(tmp_path, is_folder):
    def write(path: Path) -> None:
        other = Cache(tmp_path).store("kind", "k", write_folder if is_folder else write_bytes(b"same"))
        assert other.exists()
        if is_folder:
            write_folder(path)
        else:
            path.write_bytes(b"same")

    path = Cache(tmp_path).store("kind", "k", write)
    assert ((path / "part") if is_folder else path).read_bytes() == (b"part" if is_folder else b"same")
    assert leftovers(tmp_path) == []


def _store_often(folder: Path) -> list[bytes]:
    cache = Cache(folder)
    keys = [str(number) for number in range(20)]
    return [(cache.store("model", key, write_folder) / "part").read_bytes() for key in keys]


def test_processes_that_store_the_same_keys_at_once_all_see_whole_entries(tmp_path):
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_store_often, [tmp_path] * 3))
    assert results == [[b"part"] * 20] * 3
    assert leftovers(tmp_path) == []


def test_oldest_use_goes_first(tmp_path):
    writer = Cache(tmp_path)
    for number, key in enumerate("abcd"):
        age(writer.store("k", key, write_bytes(bytes(100))), seconds=10_000 - number)
    Cache(tmp_path).find("k", "a")
    Cache(tmp_path, limit_bytes=250).prune()
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["a", "a.sum", "d", "d.sum"]


def test_storing_prunes_but_spares_what_this_process_uses(tmp_path):
    old = Cache(tmp_path)
    for key in "ab":
        age(old.store("k", key, write_bytes(bytes(100))), seconds=10_000)
    cache = Cache(tmp_path, limit_bytes=50)
    used = cache.find("k", "a")
    age(used, seconds=20_000)
    cache.store("k", "c", write_bytes(bytes(100)))
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["a", "a.sum", "c", "c.sum"]


def test_entries_used_a_moment_ago_by_other_processes_stay(tmp_path):
    Cache(tmp_path).store("k", "a", write_bytes(bytes(100)))
    cache = Cache(tmp_path, limit_bytes=1)
    cache.prune()
    assert cache.find("k", "a") is not None


def test_abandoned_unfinished_entries_are_removed_and_fresh_ones_stay(tmp_path):
    for name in (".new-old", ".new-fresh"):
        (tmp_path / "k" / name).mkdir(parents=True)
    age(tmp_path / "k" / ".new-old", seconds=2 * 86_400)
    Cache(tmp_path).prune()
    assert [path.name for path in leftovers(tmp_path)] == [".new-fresh"]


def test_disabled_cache_works_for_one_process_and_is_removed(tmp_path):
    with Cache(None) as cache:
        path = cache.store("k", "a", write_bytes(b"data"))
        assert cache.find("k", "a") == path
        assert cache.folder is None
    assert not path.parent.parent.exists()


def test_a_folder_that_cannot_be_made_disables_the_cache(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    with Cache(tmp_path / "file" / "cache") as cache:
        assert cache.find("k", "a") is None
        assert cache.store("k", "a", write_bytes(b"data")).read_bytes() == b"data"
        assert cache.find("k", "a") is not None
    assert "going on without a cache" in caplog.text


def test_a_full_disk_disables_the_cache(tmp_path, caplog):
    def write(path: Path) -> None:
        if tmp_path in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(b"data")

    with Cache(tmp_path) as cache:
        assert cache.store("k", "a", write).read_bytes() == b"data"
    assert "No space left" in caplog.text


def test_an_error_of_the_writer_itself_still_comes_through(tmp_path):
    def write(path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such model")

    with Cache(tmp_path) as cache, pytest.raises(FileNotFoundError, match="no such model"):
        cache.store("k", "a", write)


@pytest.mark.parametrize("key", ["", "../up", "a/b", ".new-x"])
def test_keys_stay_inside_the_folder(tmp_path, key):
    with pytest.raises(ValueError, match="cache entry"):
        Cache(tmp_path).find("k", key)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FLEXPIE_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/flexpie-mpi"),
        ({"HOME": "/c"}, "/c/.cache/flexpie-mpi"),
    ],
)
def test_default_folder(monkeypatch, environment, expected):
    for name in ("FLEXPIE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Cache.default().folder == Path(expected)


def test_size_limit_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXPIE_CACHE", str(tmp_path))
    age(Cache(tmp_path).store("k", "a", write_bytes(bytes(100))), seconds=10_000)
    monkeypatch.setenv("FLEXPIE_CACHE_BYTES", "50")
    Cache.default().prune()
    assert Cache(tmp_path).find("k", "a") is None
    monkeypatch.setenv("FLEXPIE_CACHE_BYTES", "8GiB")
    with pytest.raises(CacheError, match="number of bytes"):
        Cache.default()
