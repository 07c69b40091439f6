"""A rank that is killed says no more; who stands beside it does, where the kernel counts one more for memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch import environment

RANK = """
import os, sys
from pathlib import Path
from flexpie_mpi.runtime.witness import Witness
folder, ending = Path(sys.argv[1]), sys.argv[2]
witness = Witness(3, "pi", folder / "vmstat")
if ending != "killed":
    (folder / "vmstat").write_text("pgfault 9\\noom_kill 5\\n")
named = os.getpid() if ending == "named" else 1
(folder / "dmesg").write_text("" if ending == "unnamed" else f"#!/bin/sh\\necho Killed process {named} '(x)'")
(folder / "dmesg").chmod(0o755)
if ending == "over":
    witness.dismiss()
os.kill(os.getpid(), 9)
"""


LATE = """
import os, sys
from flexpie_mpi.runtime.witness import Witness
Witness(3, "pi").dismiss(int(sys.argv[1]), 0.1)
os.kill(os.getpid(), 9)
"""


def test_the_launcher_of_a_rank_that_gives_up_does_not_outlive_it() -> None:
    with subprocess.Popen(["sh", "-c", "read -r word", "prterun"], stdin=subprocess.PIPE) as launcher:
        words = [sys.executable, "-c", LATE, str(launcher.pid)]
        assert subprocess.run(words, env=environment(), check=False).returncode == -9
        assert launcher.wait(20) == -9


@pytest.mark.parametrize(
    ("ending", "said"), [("unnamed", "probably"), ("named", "indeed"), ("another", ""), ("killed", ""), ("over", "")]
)
def test_a_rank_killed_for_memory_is_told_from_others(tmp_path: Path, ending: str, said: str) -> None:
    """Where the kernel's log may be read, it has to name the process."""
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 4\n")
    command = [sys.executable, "-c", RANK, str(tmp_path), ending]
    around = environment({"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=around, check=False)
    sentence = f"rank 3 on 'pi' was killed, {said} for want of memory"
    assert done.returncode == -9 and (sentence in done.stderr if said else not done.stderr), done.stderr
