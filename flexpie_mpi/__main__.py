"""The program: ``flexpie-mpi VERB``, the same as ``python -m flexpie_mpi VERB``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO

from . import __version__
from .commands import VERBS, parse
from .commands.output import WRONG_INPUT, emit, mend_streams, sentence, tell
from .core.errors import FlexPieError, TransportError
from .runtime.machine import launcher_rank

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb.

    Returns
    -------
    int
        Exit code: 0 when all is well, 1 when a check failed, 2 for wrong input.
    """
    mend_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    rank = launcher_rank()
    needs_ranks = True
    try:
        run, args = _parsed(words, is_silent=bool(rank))
        needs_ranks = VERBS[args.verb].needs_ranks
        return run(args) if needs_ranks or not rank else 0
    except FlexPieError as error:
        return _fail(error, rank if needs_ranks else None)
    except KeyboardInterrupt:
        mpi = sys.modules.get(f"{__package__}.runtime.mpi")
        if mpi is not None and mpi.is_started():
            raise  # the other ranks are waiting: the hook that the start of MPI installed ends them
        return INTERRUPTED


def _parsed(words: Sequence[str], *, is_silent: bool) -> tuple[Callable[[Namespace], int], Namespace]:
    """As of :func:`parse`; --help is printed once."""
    try:
        with redirect_stdout(StringIO() if is_silent else sys.stdout):
            return parse(words, __version__)
    except SystemExit:
        emit("")  # it may have been impossible to print
        raise


def _fail(error: FlexPieError, rank: int | None) -> int:
    """Say what is wrong, once per job, and return the exit code.

    Ranks that fail together before MPI is started leave through MPI all the same: a launcher that sees one process
    fail ends the others at once, and the one that has yet to print the sentence may be among them.
    """
    if rank is not None:
        mpi = import_module(".runtime.mpi", __package__)
        with suppress(TransportError):  # where there is no job after all, the sentence is printed below
            mpi.stop(mpi.start(), WRONG_INPUT, sentence(error))
    if not rank:
        tell(sentence(error))
    return WRONG_INPUT


if __name__ == "__main__":
    sys.exit(main())
