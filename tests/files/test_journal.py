"""A file of requests whose writer ends within a write, at each of them in turn: killed, or on a full disk."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files import journal
from flexpie_mpi.files.hdf5 import Stack
from flexpie_mpi.files.journal import Journal
from flexpie_mpi.files.stackwriter import StackWriter
from tests.arrays import read_request


def rows(first: int, count: int) -> dict[str, np.ndarray]:
    """Requests of texts and numbers, which tell them apart; chunks are written again for each batch."""
    numbers = np.arange(first, first + count)
    return {"n": np.repeat(numbers, 400).reshape(count, 400), "text": np.array([str(number) for number in numbers])}


def held(path: Path) -> list[int]:
    """Numbers of the requests of a file, each looked at whole."""
    with Stack(path) as stack:
        requests = [read_request(stack, number) for number in range(stack.count)]
    for request in requests:
        assert (request["n"] == int(request["text"].item())).all()
    return [int(request["n"][0]) for request in requests]


class Writes:
    """Writes to a file, one of which ends half done."""

    def __init__(self, fatal: int) -> None:
        self.done, self._fatal, self._write = 0, fatal, os.pwrite

    def __call__(self, descriptor: int, content: memoryview, offset: int) -> int:
        self.done += 1
        if self.done >= self._fatal:
            self._write(descriptor, content[: len(content) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, content, offset)


def begun(path: Path) -> StackWriter:
    writer = StackWriter(path, {})
    writer.write(rows(0, 30))
    return writer


def test_a_writer_killed_within_any_write_leaves_a_whole_batch_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, fatal, is_over = set[int](), 0, False
    while not is_over:
        fatal += 1
        path = tmp_path / f"{fatal}.h5"
        writer = begun(path)
        with monkeypatch.context() as patch:
            writes = Writes(fatal)
            patch.setattr(journal.os, "pwrite", writes)
            with suppress(DataError):  # after which it writes nothing, as if it had been killed
                writer.write(rows(30, 400))
            is_over = writes.done < fatal
        numbers = held(path)
        assert numbers == list(range(len(numbers)))
        found.add(len(numbers))
        again = StackWriter(path, {}, appends=True)
        again.write(rows(again.count, 5))
        again.close()
        assert held(path) == list(range(len(numbers) + 5)) and Journal.left_in(path) is None
    assert found == {30, 430} and fatal > 4


def test_a_full_disk_leaves_the_requests_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.h5"
    writer = begun(path)
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "pwrite", Writes(2))
        before = path.stat().st_size
        with pytest.raises(DataError, match=r"^output '.*r.h5' cannot be written: No space left on device$"):
            writer.write(rows(30, 1000))
        with pytest.raises(DataError, match="could not be written before"):
            writer.write(rows(30, 1))
        writer.close()
    assert held(path) == list(range(30)) and path.stat().st_size == before


def test_pages_whose_sum_is_wrong_are_not_put_in(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    begun(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(8) + b"\xff" * 4096 + b"flexpieJ" + (1).to_bytes(8, "little") + bytes(8))
    assert Journal.left_in(path) is None and held(path) == list(range(30))
