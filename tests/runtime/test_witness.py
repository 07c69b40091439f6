"""A rank that is killed says no more; who stands beside it does, where the kernel counts one more for memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch import REPOSITORY

RANK = """
import os, sys
from pathlib import Path
from flexpie_mpi.runtime.witness import Witness
counts, ending = Path(sys.argv[1]), sys.argv[2]
witness = Witness(3, "pi", counts)
if ending != "killed":
    counts.write_text("pgfault 9\\noom_kill 5\\n")
if ending == "over":
    witness.dismiss()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("ending", "said"), [("exhausted", True), ("killed", False), ("over", False)])
def test_a_rank_killed_for_memory_is_told_from_others(tmp_path: Path, ending: str, said: bool) -> None:
    counts = tmp_path / "vmstat"
    counts.write_text("pgfault 7\noom_kill 4\n")
    done = subprocess.run(
        [sys.executable, "-c", RANK, str(counts), ending],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    sentence = "rank 3 on 'pi' was killed, probably for want of memory"
    assert done.returncode == -9 and (sentence in done.stderr) == said and (said or not done.stderr)
