"""What an emulation would do, as a shell script: the very commands, and nothing is carried out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from ..testbed import Testbed
from .commands import build, take_down
from .launch import enter_script, find_library, job_command, job_environment
from .limits import memory_here
from .network import network_of
from .owner import unowned_prefix
from .remains import scratch

ANYWHERE = 1
"""The first process of the machine is no board."""


def dry_run(testbed: Testbed, words: Sequence[str], *, ranks: int | None = None, library: str | None = None) -> str:
    """The script that builds the boards, runs `words` on the first `ranks` of them, and takes them down.

    Raises
    ------
    EmulationError
        When there is no MPI library, or the testbed's topology cannot be built.
    """
    return "\n".join(_lines(testbed, words, ranks or testbed.ranks, library)) + "\n"


def _lines(testbed: Testbed, words: Sequence[str], ranks: int, name: str | None) -> Iterator[str]:
    library, network, memory = find_library(name), network_of(testbed, unowned_prefix()), memory_here()
    limits = {device.name: device.memory_bytes for device in testbed.devices if device.memory_bytes and memory}
    groups = {device: memory.group(network.space(device)) for device in limits} if memory else {}
    enter = scratch(network.prefix) / "enter"
    yield from map(shlex.join, build(network))
    for device, limit in limits.items():
        yield from map(shlex.join, memory.limit(network.space(device), limit) if memory else ())
    yield shlex.join(("mkdir", str(enter.parent)))
    script = enter_script(network, {device: str(group) for device, group in groups.items()}, ANYWHERE)
    yield f"cat > {enter} <<'END'\n{script}END"
    yield shlex.join(("chmod", "700", str(enter)))
    launch = shlex.join(job_command(library, network, ranks, str(enter), words))
    switches = [
        f"{key}={value}" for key, value in job_environment(library, {}, str(enter.parent)).items() if key != "PATH"
    ]
    yield shlex.join(("env", *switches, str(enter), network.address(testbed.devices[0].name), launch))
    yield from map(shlex.join, take_down(network))
    yield from (shlex.join(("rmdir", str(group))) for group in groups.values())
    yield shlex.join(("rm", "-r", str(enter.parent)))
