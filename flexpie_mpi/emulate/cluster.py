"""An emulated cluster from beginning to end: build, check, run jobs, take down, whatever happens in between.

:func:`dry_run` gives the same commands as a shell script, and carries nothing out.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import EmulationError
from ..testbed import Testbed
from .check import SENT_BYTES, Checked, Tell, check_cores, check_traffic, measure_links
from .cleanup import abandoned, end_processes, new_prefix, remove, scratch
from .launch import Library, enter_script, find_library, job_command, job_environment
from .network import Network, build, network_of, take_down
from .system import Command, carry_out, check_system, memory_here

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 5.0
"""How long mpirun may take to end a job when it is asked to."""
GRACE_S = 1.0
"""How long processes may outlive the mpirun that started them."""
PROBE_S = 120.0
ANYWHERE = 1
"""Takes the place of this process in a script: the first process of the machine is no board."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Boards on this machine, and the network between them; made by :func:`emulated`."""

    testbed: Testbed  # what was built
    library: Library  # the MPI library that starts jobs
    network: Network
    groups: Mapping[str, Path]  # control groups, by device, of the boards whose memory is limited
    checked: Checked | None = None  # what the check found, if there was one

    def run(
        self, words: Sequence[str], *, ranks: int | None = None, environment: Mapping[str, str] | None = None
    ) -> int:
        """Run one job on the first `ranks` boards (all by default), one rank on each, and return mpirun's exit code.

        `words` are the program and its arguments; `environment` adds variables to those of this process. Raises
        EmulationError when there are not so many boards, or this machine's cores cannot carry them undisturbed.
        """
        count = self.testbed.ranks if ranks is None else ranks
        if not 1 <= count <= self.testbed.ranks:
            raise EmulationError(
                f"testbed '{self.testbed.name}' has {self.testbed.ranks} boards, so it cannot run {count} ranks"
            )
        if self.checked is not None:
            check_cores(self.testbed, count, available_cores())
        before = self._exhausted()
        code = self._job(words, count, environment or {}).returncode
        for device in [name for name, times in self._exhausted().items() if times > before.get(name, 0)]:
            _log.warning("board '%s' ran out of memory, and the kernel ended what it was running", device)
        return 128 - code if code < 0 else code

    def probe(self) -> float:
        """Seconds of a small MPI message between the first two boards, after every rank has sent to the next.

        Raises EmulationError when the job fails.
        """
        words = [sys.executable, "-m", f"{__package__}.probe", str(SENT_BYTES)]
        options: dict[str, Any] = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        job = self._job(words, self.testbed.ranks, {}, timeout_s=PROBE_S, **options)
        out, err = (text.decode(errors="replace") for text in (job.stdout, job.stderr))
        try:
            return float(json.loads(out.splitlines()[-1])["latency_s"])
        except (ValueError, IndexError, KeyError, TypeError):
            said = " ".join((err.strip() or out.strip() or "nothing").split())
            raise EmulationError(
                f"a small MPI job on the emulated boards failed with exit code {job.returncode}; "
                f"{self.library.mpirun} says: {said}"
            ) from None

    def _job(
        self,
        words: Sequence[str],
        ranks: int,
        environment: Mapping[str, str],
        timeout_s: float | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        """Start mpirun on the first board and wait; nothing it started is left when this returns."""
        folder = scratch(self.network.prefix)
        enter = str(folder / "enter")
        launch = job_command(self.library, self.network, ranks, enter, words)
        command = (enter, self.network.address(self.testbed.devices[0].name), f"exec {shlex.join(launch)}")
        variables = job_environment(self.library, {**os.environ, **environment}, str(folder))
        process = subprocess.Popen(command, env=variables, **options)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out, err = b"", f"no answer within {timeout_s:g} s".encode()
        finally:
            if process.poll() is None:
                _end(process)
            end_processes(self.network.device_spaces, grace_s=GRACE_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def _exhausted(self) -> dict[str, int]:
        """How often each board whose memory is limited ran out of it."""
        memory = memory_here()
        return {device: memory.times_exhausted(group.name) for device, group in self.groups.items()} if memory else {}


@contextmanager
def emulated(
    testbed: Testbed, *, library: str | None = None, check: bool = True, tell: Tell = lambda text: None
) -> Iterator[Cluster]:
    """Boards of a testbed on this machine, for as long as the context lasts.

    What killed processes have left is removed first. Everything is taken down at the end, after errors and signals
    too: while the context lasts, SIGTERM and SIGHUP raise SystemExit in the main thread.

    Parameters
    ----------
    testbed : Testbed
        A switch, a ring or a star.
    library : str, optional
        ``mpich`` or ``openmpi``; by default that of the mpirun beside the running python, or on the PATH.
    check : bool
        Measure the links and see that MPI uses them; refuse jobs that this machine's cores cannot carry.
    tell : callable
        Is told what goes on.

    Yields
    ------
    Cluster

    Raises
    ------
    EmulationError
        When boards cannot be emulated here, or what was built is not what the testbed says.
    """
    check_system()
    mpi = find_library(library)
    network = network_of(testbed, new_prefix())
    for prefix in abandoned():
        tell(f"removing what a killed run has left: {prefix}")
        remove(prefix)
    with _signals_raised():
        try:
            cluster = _built(network, mpi, tell)
            yield _checked(cluster, tell) if check else cluster
        finally:
            with _signals_held():
                try:
                    tell("taking the boards down")
                finally:
                    remove(network.prefix)


def dry_run(testbed: Testbed, words: Sequence[str], *, ranks: int | None = None, library: str | None = None) -> str:
    """The script that builds the boards, runs `words` on the first `ranks` of them, and takes them down.

    Raises EmulationError when there is no MPI library, or the testbed's topology cannot be built.
    """
    return "\n".join(_script(testbed, words, ranks or testbed.ranks, library)) + "\n"


def _script(testbed: Testbed, words: Sequence[str], ranks: int, name: str | None) -> Iterator[str]:
    library, network = find_library(name), network_of(testbed, new_prefix(is_owned=False))
    limits, folder = _limits(network), scratch(network.prefix)
    enter = folder / "enter"
    groups = {device: group for device, (group, _) in limits.items()}
    yield from map(shlex.join, build(network))
    for _, commands in limits.values():
        yield from map(shlex.join, commands)
    yield shlex.join(("mkdir", str(folder)))
    yield f"cat > {enter} <<'END'\n{enter_script(network, groups, ANYWHERE)}END"
    yield shlex.join(("chmod", "700", str(enter)))
    launch = shlex.join(job_command(library, network, ranks, str(enter), words))
    variables = job_environment(library, {}, str(folder))
    switches = [f"{key}={value}" for key, value in variables.items() if key != "PATH"]
    yield shlex.join(("env", *switches, str(enter), network.address(testbed.devices[0].name), launch))
    yield from map(shlex.join, take_down(network))
    yield from (shlex.join(("rmdir", str(group))) for group in groups.values())
    yield shlex.join(("rm", "-r", str(folder)))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _built(network: Network, library: Library, tell: Tell) -> Cluster:
    tell(f"building {network.testbed.ranks} boards")
    folder = scratch(network.prefix)
    folder.mkdir(mode=0o700)
    carry_out(build(network))
    groups = _limited(network)
    script = folder / "enter"
    script.write_text(enter_script(network, groups, os.getpid()))
    script.chmod(0o700)
    return Cluster(network.testbed, library, network, groups)


def _limits(network: Network) -> dict[str, tuple[Path, Iterator[Command]]]:
    """The control group of each device whose memory is limited, and what makes it; none where the kernel has none."""
    memory, limits = memory_here(), {}
    for device in network.testbed.devices if memory else ():
        if memory and device.memory_bytes:
            space = network.space(device.name)
            limits[device.name] = (memory.group(space), memory.limit(space, device.memory_bytes))
    return limits


def _limited(network: Network) -> dict[str, Path]:
    """Limit the boards' memory: control groups by device. Where the kernel refuses, a warning."""
    groups: dict[str, Path] = {}
    limits = _limits(network)
    if not limits and any(device.memory_bytes for device in network.testbed.devices):
        _log.warning("the boards' memory is not limited: this kernel has no memory controller for control groups")
    try:
        for device, (group, commands) in limits.items():
            carry_out(commands)
            groups[device] = group
    except EmulationError as error:
        _log.warning("the boards' memory is not limited: %s", error)
    return groups


def _checked(cluster: Cluster, tell: Tell) -> Cluster:
    network, testbed = cluster.network, cluster.testbed
    links = measure_links(network, tell)
    tell("looking where MPI sends")
    latencies: list[float] = []
    check_traffic(network, lambda: latencies.append(cluster.probe()))
    route = testbed.routes[0][1] if testbed.ranks > 1 else None
    checked = Checked(links, latencies[0], route.latency_s if route else 0.0)
    return replace(cluster, checked=checked)


def _end(process: subprocess.Popen[bytes]) -> None:
    """First kindly, so that mpirun ends its ranks."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Signals that would end this process at once raise SystemExit instead. SIGINT raises by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
