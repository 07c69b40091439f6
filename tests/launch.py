"""Starting ranks from a test: one command under mpirun, with a wall-clock limit that ends all of it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arrays import written

REPOSITORY = Path(__file__).parents[1]
PROGRAMS = REPOSITORY / "tests" / "mpi"
LIMIT_S = 240.0
"""After which what a test has started hangs: long on any machine, and before pytest ends the session for it."""

# What an MPI library leaves in the environment of a process that runs under it; it would confuse a launcher.
_LEFT_BY_MPI = ("OMPI_COMM_WORLD", "PMI_", "PMIX_", "PRTE_", "HYDI_", "MPIR_", "MPI_LOCAL")
# More ranks than cores, and root as user, for both generations of Open MPI; MPICH needs nothing.
_SWITCHES = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Outcome:
    """What a command under mpirun left behind; `code` is None when it had to be killed."""

    command: Sequence[str]
    code: int | None
    out: str
    err: str

    def __str__(self) -> str:
        ending = "was killed at its time limit" if self.code is None else f"ended with exit code {self.code}"
        return f"{shlex.join(self.command)}\n{ending}\n-- stdout\n{self.out}\n-- stderr\n{self.err}"


def launcher() -> list[str] | None:
    """The mpirun command: of ``FLEXPIE_TEST_MPIEXEC``, beside the running python, or on the PATH."""
    chosen = os.environ.get("FLEXPIE_TEST_MPIEXEC")
    if chosen:
        return shlex.split(chosen)
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    return [found] if found else None


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the launcher and its ranks."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_LEFT_BY_MPI)}
    paths = [str(REPOSITORY), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, **_SWITCHES, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def start(command: Sequence[object], extra: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A command in the folder of the repository, as the leader of a group of processes."""
    return subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=environment(extra),
        cwd=REPOSITORY,
        start_new_session=True,
    )


def run(command: Sequence[object], timeout_s: float = LIMIT_S, extra: Mapping[str, str] | None = None) -> Outcome:
    """Run a command and everything it starts, at most `timeout_s` seconds."""
    process = start(command, extra)
    try:
        out, err = process.communicate(timeout=timeout_s)
        return Outcome(process.args, process.returncode, out, err)
    except subprocess.TimeoutExpired:
        out, err = _kill(process)
        return Outcome(process.args, None, out, err)
    finally:
        _signal_group(process, signal.SIGKILL)


@contextlib.contextmanager
def started(command: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """A command that runs while a test goes on; afterwards nothing of it is left."""
    with start(command) as process:
        try:
            yield process
        finally:
            _signal_group(process, signal.SIGKILL)


def wait_for_results(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a job, which must go on meanwhile, has written the results of so many requests."""
    end_s = time.monotonic() + LIMIT_S
    while written(path) < count:
        assert process.poll() is None and time.monotonic() < end_s, process.communicate()
        time.sleep(0.01)


def signal_rank(rank: int, marker: str, number: int) -> None:
    """Send a signal to a rank of the job whose command line has the word `marker`."""
    os.kill(pids_of(marker)[rank], number)


def pids_of(marker: str) -> dict[int, int]:
    """Processes of the ranks of a job, by rank, in order."""
    found: dict[int, int] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        rank = _rank_of(pid, marker)
        if rank is not None:
            found.setdefault(rank, pid)  # what a rank has started has a higher number
    return dict(sorted(found.items()))


def _rank_of(pid: int, marker: str) -> int | None:
    """The rank that a process is in a job; None of any other process."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        around = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if marker.encode() not in words or os.fsencode(sys.executable) != words[0] or b"emulate" in words:
        return None
    names = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")
    return next((int(each.partition(b"=")[2]) for each in around if each.startswith(names)), None)


def _kill(process: subprocess.Popen[str]) -> tuple[str, str]:
    """First kindly, so that the launcher ends its ranks."""
    _signal_group(process, signal.SIGTERM)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        return process.communicate()


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class MpiRun:
    """Starts programs under mpirun; see the fixture of the same name."""

    def __init__(self, launcher: Sequence[str]) -> None:
        self._launcher = launcher

    def __call__(self, ranks: int, program: str, *arguments: str) -> Any:
        """The JSON that rank 0 of a program in ``tests/mpi`` prints as its last line; fails when the job fails."""
        outcome = self.outcome(ranks, str(PROGRAMS / program), *arguments)
        assert outcome.code == 0, str(outcome)
        lines = outcome.out.splitlines()
        assert lines, f"rank 0 printed nothing\n{outcome}"
        return json.loads(lines[-1])

    def outcome(self, ranks: int, *arguments: object, extra: Mapping[str, str] | None = None) -> Outcome:
        """What becomes of this python with `arguments` on so many ranks, whether it succeeds or not."""
        return run(self._command(ranks, arguments), extra=extra)

    def started(
        self, ranks: int, *arguments: object, switches: Sequence[str] = ()
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """This python with `arguments` on so many ranks, which run while a test goes on."""
        return started(self._command(ranks, arguments, switches))

    def _command(self, ranks: int, arguments: Sequence[object], switches: Sequence[str] = ()) -> list[object]:
        return [*self._launcher, *switches, "-n", ranks, sys.executable, *arguments]
