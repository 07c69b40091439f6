"""Cases run in a process of their own, so that one that ends it, or never ends, is one case."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from itertools import count
from multiprocessing.connection import Connection

import onnxruntime

from .cases import draw
from .report import failure
from .running import Verdict, judge

DEADLINE_S = 120.0
"""A case that takes longer hangs."""


def verdicts(kind: str, seed: int, first: int, wanted: int, ranks: tuple[int, ...]) -> Iterator[Verdict]:
    """Verdicts on the numbers from `first` on, until plain onnxruntime has run `wanted` of them."""
    number, counted = first, 0
    while counted < wanted:
        for verdict in _worked(kind, seed, number, ranks):
            yield verdict
            number, counted = verdict.number + 1, counted + bool(verdict.op)
            if verdict.failed:
                print(failure(kind, verdict), file=sys.stderr, flush=True)
            if counted >= wanted:
                break
            if number % 100 == 0:
                print(f"{counted} of {wanted} {kind}", file=sys.stderr, flush=True)


def _worked(kind: str, seed: int, first: int, ranks: tuple[int, ...]) -> Iterator[Verdict]:
    """Verdicts of one process, the last on the case that ended it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, kind, seed, first, ranks), daemon=True)
    process.start()
    theirs.close()
    number, op = first, ""
    try:
        while ours.poll(DEADLINE_S):
            found = ours.recv()
            if isinstance(found, str):
                op = found
            else:
                yield found
                number, op = found.number + 1, ""
        yield Verdict(number, op, failed=(("-", "hangs", f"longer than {DEADLINE_S:.0f} s"),))
    except EOFError:
        process.join()
        yield Verdict(number, op, failed=(("-", "ends the process", f"exit code {process.exitcode}"),))
    finally:
        process.kill()
        process.join()


def _work(connection: Connection, kind: str, seed: int, first: int, ranks: tuple[int, ...]) -> None:
    """Send the operator of every case that plain onnxruntime runs, then the verdict on it."""
    onnxruntime.set_default_logger_severity(4)
    for number in count(first):
        case = draw(kind, seed, number)
        connection.send("" if case is None else case.op)
        connection.send(judge(case, number, ranks))
