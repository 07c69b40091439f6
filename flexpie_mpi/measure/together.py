"""Trying together: what one rank fails with is known to all before any goes on, and no defect of measuring ends a job.

A plan that is measured is a favour to the planner. So whatever a rank meets while it makes, runs or reads something
becomes an :class:`UntriedError`, on every rank at once. Only a rank that is late ends the job: the others cannot know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from ..core.errors import FlexPieError, PlanError
from ..runtime.transport import Transport, agree

T = TypeVar("T")

log = logging.getLogger(__name__)


class UntriedError(PlanError):
    """A plan cannot be measured, as every rank knows."""


def together(transport: Transport, function: Callable[[], T], what: str) -> T:
    """Each rank's own result of `function`, which must not talk to other ranks.

    Parameters
    ----------
    transport : Transport
    function : callable
    what : str
        What it does, for the sentence about an error.

    Raises
    ------
    UntriedError
        On every rank, when `function` raised anything on any.
    """
    result: list[T] = []
    error: Exception | None = None
    try:
        result.append(function())
    except Exception as raised:  # whatever it is: onnxruntime's own classes, no room, or a defect
        error = raised
    settle(transport, error, what)
    return result[0]


def settle(transport: Transport, error: Exception | None, what: str) -> None:
    """Raise :class:`UntriedError` on every rank when any has an error.

    Parameters
    ----------
    transport : Transport
    error : Exception, optional
        This rank's.
    what : str
    """
    agree(transport, None if error is None else _untried(error, what))


def _untried(error: Exception, what: str) -> UntriedError:
    log.info("%s failed", what, exc_info=error)
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FlexPieError):
        return UntriedError(words)
    if isinstance(error, MemoryError | OSError):
        return UntriedError(f"there is no room {what}: {words}")
    return UntriedError(f"{what} failed with {type(error).__name__}: {words}")
