"""What killed jobs left in shared memory goes, and nothing else."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from flexpie_mpi.runtime.leftovers import YOUNG_S, remove_leftovers


def test_only_old_files_of_mpi_that_nobody_has_mapped_are_removed(tmp_path: Path) -> None:
    names = (
        "mpich_shm_1a2b_0",
        "mpich_shm_3c4d_0",
        "sm_segment.pi.1000.1.0",
        "vader_segment.pi.0",
        "other",
        "mpich_shm_9_1",
    )
    for name in names:
        (tmp_path / name).write_bytes(bytes(mmap.PAGESIZE))
        if name != "mpich_shm_9_1":
            then = time.time() - 2 * YOUNG_S
            os.utime(tmp_path / name, (then, then))
    with (tmp_path / "mpich_shm_3c4d_0").open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert remove_leftovers(tmp_path) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"mpich_shm_3c4d_0", "other", "mpich_shm_9_1"}
    assert remove_leftovers(tmp_path / "missing") == 0
