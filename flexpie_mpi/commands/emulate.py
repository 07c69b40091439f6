"""``flexpie-mpi emulate T.toml -- VERB ...``: a verb on the boards of a testbed, all of them on this machine."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from ..core.errors import count_of
from ..emulate import LIBRARIES, Cluster, available_cores, check_cores, check_system, dry_run, emulated
from ..report.units import ms, percent
from ..session.opening import boards_of
from ..testbed import read as read_testbed
from . import VERBS, UsageError, parse
from .output import Progress, check_paths, emit, tell, write_record
from .texts import positive

PROGRAM = "flexpie_mpi"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.usage = f"{parser.prog} [options] T.toml -- VERB ..."
    parser.description = (
        "Build the boards of a testbed on this machine, with their network; run any verb on them, one rank on a board; "
        "take everything down. Needs root. A verb that takes --testbed is given T.toml, so that ranks compute as "
        "slowly as their boards. Latency cannot be added to links: messages are as early as this machine lets them be."
    )
    parser.add_argument("testbed", metavar="T.toml", help="the boards and the links between them")
    parser.add_argument("--ranks", type=positive, metavar="N", help="run on the first N boards only (default: on all)")
    parser.add_argument(
        "--mpi", choices=LIBRARIES, metavar="NAME", help=f"{' or '.join(LIBRARIES)} (default: what is installed)"
    )
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="measure no links, and run even what this machine's cores cannot carry",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing; needs no root")
    parser.add_argument("--json", metavar="FILE", help="write what was built and measured as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the verb on emulated boards."""
    logging.basicConfig(level=logging.WARNING, format="flexpie-mpi: %(message)s", force=True)
    words = job_words(args.command, args.testbed)
    testbed = read_testbed(args.testbed)
    ranks = boards_of(testbed, args.ranks).ranks
    if args.dry_run:
        emit(dry_run(testbed, words, ranks=ranks, library=args.mpi))
        return 0
    check_paths({"--json": args.json})
    check_system()
    if not args.no_check:
        check_cores(testbed, ranks, available_cores())
    with (
        Progress(sys.stderr) as progress,
        emulated(testbed, library=args.mpi, check=not args.no_check, tell=progress.tell) as cluster,
    ):
        progress.clear()
        tell(f"flexpie-mpi: {summary(cluster)}")
        code = cluster.run(words, ranks=ranks)
    write_record({**record(cluster), "ranks": ranks, "command": words, "exit_code": code}, args.json)
    return code


def job_words(command: Sequence[str] | None, testbed: str) -> list[str]:
    """What every rank runs: the verb's words with ``--testbed`` where the verb takes it and they have none.

    Raises UsageError when there is no such verb, or its words make no sense.
    """
    if not command:
        raise UsageError("emulate needs a verb to run, after two dashes: flexpie-mpi emulate T.toml -- infer")
    verb, *rest = command
    if verb not in VERBS or verb == "emulate":
        others = ", ".join(name for name in VERBS if name != "emulate")
        raise UsageError(f"'{verb}' is no verb that emulated boards can run; there are {others}")
    _, parsed = parse(command, "")
    if getattr(parsed, "testbed", testbed) is None:
        rest = ["--testbed", testbed, *rest]
    return [sys.executable, "-m", PROGRAM, verb, *rest]


def summary(cluster: Cluster) -> str:
    """What was built, in a sentence."""
    testbed, library, checked = cluster.testbed, cluster.library, cluster.checked
    built = f"'{testbed.name}' is built, {count_of(testbed.ranks, 'board')} in a {testbed.topology}, for {library}"
    if checked is None:
        return f"{built}; unchecked"
    if not checked.links:
        return built
    off = max(abs(link.off) for link in checked.links)
    return (
        f"{built}; bandwidths are within {percent(off)} of the testbed's; a small message takes "
        f"{ms(checked.latency_s)} (the testbed says {ms(checked.wanted_latency_s)}, and latency cannot be set)"
    )


def record(cluster: Cluster) -> dict[str, Any]:
    """What was built and measured."""
    testbed, checked = cluster.testbed, cluster.checked
    return {
        "testbed": {"name": testbed.name, "digest": testbed.digest, "topology": testbed.topology.name},
        "boards": [
            {"name": device.name, "slowdown": device.slowdown, "memory_limited": device.name in cluster.groups}
            for device in testbed.devices
        ],
        "mpi": str(cluster.library),
        "links": [
            {"name": link.resource, "bandwidth": link.wanted, "measured_bandwidth": link.carried}
            for link in (checked.links if checked else ())
        ],
        "latency_s": checked.wanted_latency_s if checked else None,
        "measured_latency_s": checked.latency_s if checked else None,
    }
