"""What the ranks of a job tell each other first, and what of it forbids to go on."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..core.errors import TransportError
from ..measure.board import boards_of, versions_of
from ..runtime.leftovers import remove_leftovers
from ..runtime.transport import Transport
from .opening import ROOT
from .verdicts import ERROR, WARNING, Verdict, judge_start, judge_versions

log = logging.getLogger(__name__)


def greet(transport: Transport) -> None:
    """Look at what takes no time to look at; what is to be mended is a warning of the root. Called by all together.

    Raises TransportError on every rank, when the boards cannot work together or would compute wrongly.
    """
    remove_leftovers()
    installed = versions_of(transport)
    _refuse(judge_versions(installed))
    verdicts = judge_start(boards_of(transport, installed))
    _refuse(verdicts)
    for verdict in verdicts:
        if transport.rank == ROOT and verdict.level == WARNING:
            log.warning("%s", in_a_line(verdict))


def _refuse(verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        if verdict.level == ERROR:
            raise TransportError(in_a_line(verdict))


def in_a_line(verdict: Verdict) -> str:
    """What was found and what to do about it."""
    return f"{verdict.finding}: {verdict.remedy}" if verdict.remedy else verdict.finding
