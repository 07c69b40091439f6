"""The argument parser: verbs that load themselves when they are used, and errors that are raised, not printed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from ..core.errors import FlexPieError
from . import VERBS


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
            module = import_module(f".{verb}", __package__)
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
