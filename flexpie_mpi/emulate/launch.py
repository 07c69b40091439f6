"""Starting a job on the boards: the mpirun of this environment, and what its libraries need to use nothing but TCP."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EmulationError
from .network import Network
from .system import Command, search_path

_TITLES = {"mpich": "MPICH", "openmpi": "Open MPI"}
LIBRARIES = tuple(_TITLES)
OLDEST_OPENMPI = 5
_NAMES = ("mpirun", "mpiexec", "mpirun.mpich", "mpirun.openmpi")

# What a library leaves in the environment of a process that runs under it; it would confuse the next launcher.
_LEFT_BY_MPI = ("OMPI_COMM_WORLD", "PMI_", "PMIX_", "PRTE_", "HYDI_", "MPIR_", "MPI_LOCAL")

AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
"""Whoever emulates boards is root, which Open MPI wants to hear."""

_SWITCHES = {
    "mpich": {
        "UCX_TLS": "tcp,self",  # the boards share this machine's memory, and UCX would find that out
        "UCX_MAX_RNDV_RAILS": "1",  # a board has one address, on however many interfaces
    },
    "openmpi": AS_ROOT,
}


@dataclass(frozen=True, slots=True)
class Library:
    """An MPI library: one of `LIBRARIES`, the path of its mpirun, and its version."""

    name: str
    mpirun: str
    version: str

    def __str__(self) -> str:
        return f"{_TITLES[self.name]} {self.version}"


def find_library(name: str | None = None) -> Library:
    """The MPI library of this environment: of the mpirun beside the running python, or the first on the PATH.

    With a `name`, only that one of `LIBRARIES` will do. Raises EmulationError when there is none, or it is too old.
    """
    folders = [str(Path(sys.executable).parent), *search_path().split(os.pathsep)]
    paths = dict.fromkeys(filter(None, (shutil.which(mpi, path=folder) for folder in folders for mpi in _NAMES)))
    refused: EmulationError | None = None
    for path in paths:
        try:
            library = _library(path)
        except EmulationError as error:  # another one may do
            refused = refused or error
            continue
        if library is not None and name in (None, library.name):
            return library
    if refused is not None and name != "mpich":
        raise refused
    wanted = name or "mpich"
    raise EmulationError(
        f"there is no mpirun of {name or 'an MPI library'} beside {sys.executable} or on the PATH: "
        f"pip install flexpie-mpi[{wanted}]"
    )


def _library(mpirun: str) -> Library | None:
    try:
        done = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return library_of(mpirun, done.stdout)


def library_of(mpirun: str, text: str) -> Library | None:
    """The library that an mpirun belongs to, by what ``--version`` prints.

    Raises EmulationError when it is an Open MPI before version 5, which starts ranks in another way.

    >>> library_of("/usr/bin/mpirun", "mpirun (Open MPI) 5.0.11")
    Library(name='openmpi', mpirun='/usr/bin/mpirun', version='5.0.11')
    """
    if match := re.search(r"\(Open MPI\) (\d+)(\S*)", text):
        if int(match[1]) < OLDEST_OPENMPI:
            raise EmulationError(
                f"{mpirun} is of Open MPI {match[1]}{match[2]}, and boards are emulated with Open MPI "
                f"{OLDEST_OPENMPI} or later, or MPICH: pip install flexpie-mpi[mpich]"
            )
        return Library("openmpi", mpirun, match[1] + match[2])
    if "HYDRA" in text:
        version = re.search(r"Version:\s*(\S+)", text)
        return Library("mpich", mpirun, version[1] if version else "")
    return None


def job_command(library: Library, network: Network, ranks: int, enter: str, words: Sequence[str]) -> Command:
    """The command, on the first board, that starts `words` on the first `ranks` boards, one rank on each.

    `enter` is the path of the script that enters a board, in the place of ssh.
    """
    hosts = ",".join(network.address(device.name) for device in network.testbed.devices[:ranks])
    if library.name == "mpich":
        start = ["-launcher", "ssh", "-launcher-exec", enter, "-hosts", hosts, "-ppn", "1"]
    else:
        start = ["--prtemca", "plm_ssh_agent", enter, "--prtemca", "prte_if_include", _interface(network)]
        start += ["--map-by", "node", "--bind-to", "none", "--host", hosts]
        start += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", _interface(network)]
    return library.mpirun, *start, "-n", str(ranks), *words


def _interface(network: Network) -> str:
    """An interface that every board has: each of a board's interfaces has the board's one address."""
    return "eth0" if network.interfaces else "lo"


def job_environment(library: Library, environment: Mapping[str, str], folder: str) -> dict[str, str]:
    """The environment of the launcher and the ranks; in `folder` they leave what they make and do not clean up."""
    kept = {key: value for key, value in environment.items() if not key.startswith(_LEFT_BY_MPI)}
    return {**kept, "PATH": search_path(), "TMPDIR": folder, **_SWITCHES[library.name]}


def enter_script(network: Network, groups: Mapping[str, Path], owner: int) -> str:
    """A script that runs a command on a board: ``enter [-OPTION ...] ADDRESS COMMAND``, as ssh does.

    `groups` are the folders, by device, of the control groups that limit the boards' memory. `owner` is a process
    outside of the boards, which sees those folders.
    """
    cases = "\n".join(_case(network, device.name, groups.get(device.name, "")) for device in network.testbed.devices)
    return _ENTER.format(owner=owner, cases=cases)


_ENTER = """\
#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
case $1 in
{cases}
  *) echo "$0: there is no board $1" >&2; exit 2 ;;
esac
PATH=$PATH:/usr/sbin:/sbin; export PATH
if [ "$group" ] && [ ! -e "$group" ]; then  # called on a board, which does not see the control groups
  exec nsenter --mount=/proc/{owner}/ns/mnt sh -c 'cd "$0"; exec "$@"' "$PWD" "$0" "$@"
fi
if [ "$group" ]; then echo $$ > "$group/cgroup.procs"; fi
shift
exec ip netns exec "$space" unshare --uts sh -c 'echo "$0" > /proc/sys/kernel/hostname; eval "$1"' "$name" "$*"
"""


def _case(network: Network, device: str, group: Path | str) -> str:
    space = network.space(device)
    return f"  {network.address(device)}) name={device} space={space} group={shlex.quote(str(group))} ;;"
