"""The verbs of the command line, one file each, and the parser that finds them.

A verb's file offers ``add_arguments(parser)`` and ``run(args)``, which returns the exit code: 0 when all is well, 1
when a check failed. Wrong input is a FlexPieError. It is imported only when it is asked for: a verb that needs no
ranks must work where there is no MPI.

To add a verb: its file, and a row below.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, NoReturn

from ..core.errors import FlexPieError


class Verb(NamedTuple):
    """A line about a verb, and whether all ranks of a job carry it out together; rank 0 alone does the others.

    A verb that runs another finds that one's words, after two dashes, in ``args.command``; None without dashes.
    """

    about: str
    needs_ranks: bool = False
    runs_another: bool = False


VERBS = {
    "inspect": Verb("list a model's nodes, shapes, work and weights, and the layouts each node allows"),
    "trace": Verb("measure links, exchanges and kernels on all ranks, for the cost model", needs_ranks=True),
    "fit": Verb("make a cost model from traces, and say how far off it is"),
    "plan": Verb("write a plan: which nodes run together, in which layout, on which ranks"),
    "simulate": Verb("predict what a model would take on boards one does not have, from one to a thousand"),
    "infer": Verb("run a model over the ranks that mpirun started", needs_ranks=True),
    "generate": Verb("go on with a prompt, token by token, over the ranks that mpirun started", needs_ranks=True),
    "doctor": Verb("check the boards and links of this job, and what to do about them", needs_ranks=True),
    "bench": Verb("measure a suite of models, boards and planners, on emulated boards or this job's", needs_ranks=True),
    "report": Verb("write tables and plots of what bench measured, or draw a plan"),
    "emulate": Verb("run a verb on the boards of a testbed, emulated on this machine", runs_another=True),
}
"""Verbs by name, in the order of the work."""


class UsageError(FlexPieError):
    """The command line asks for something that does not exist or does not go together."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`UsageError`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str], version: str) -> tuple[Callable[[argparse.Namespace], int], argparse.Namespace]:
    """The verb's ``run`` and its arguments.

    Raises UsageError when the words make no sense. Raises SystemExit after printing help or the version.
    """
    parser = Parser(prog="flexpie-mpi", description="Run an ONNX model across MPI ranks, exactly.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"flexpie-mpi {version}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    wanted = next((word for word in argv if not word.startswith("-")), "")
    module: ModuleType | None = None
    for verb, (about, *_) in VERBS.items():
        description = f"{about[0].upper()}{about[1:]}."
        subparser = verbs.add_parser(verb, help=about, description=description, allow_abbrev=False)
        if verb == wanted:
            module = import_module(f".{verb}", __name__)
            module.add_arguments(subparser)
    cut = len(argv)
    if wanted in VERBS and VERBS[wanted].runs_another:
        cut = argv.index("--") if "--" in argv else cut
        bare = [word for word in argv[:cut] if word in VERBS and word != wanted]
        if bare:
            raise UsageError(f"the verb that {wanted} runs comes after two dashes: -- {bare[0]}")
    args = parser.parse_args(argv[:cut])
    args.command = list(argv[cut + 1 :]) if cut < len(argv) else None
    assert module is not None, "a verb is required"
    return module.run, args
