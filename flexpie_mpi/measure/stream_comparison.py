"""The comparison behind ``--verify`` in a stream: every request against one plain session, beside the stream."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any

from ..model.equality import Check
from .compare import Reference

DEPTH = 8
"""Requests that wait for their comparison; with more the stream waits."""

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Findings:
    """What a comparison has found."""

    # `requests` and `different`: compared, and those of them that differ
    requests: int = 0
    different: int = 0
    # Of every output, the one with the largest difference among requests that do not differ
    worst: tuple[Check, ...] = ()
    first: int | None = None  # the first request that differs, counted from 0
    checks: tuple[Check, ...] = ()  # of that one

    @property
    def is_equal(self) -> bool:
        return self.different == 0

    def also(self, number: int, checks: tuple[Check, ...]) -> Findings:
        """With one more request."""
        if any(check.problem for check in checks):
            first = (number, checks) if self.first is None else (self.first, self.checks)
            return Findings(self.requests + 1, self.different + 1, self.worst, *first)
        pairs = zip(self.worst or checks, checks, strict=True)
        worst = tuple(max(pair, key=lambda check: check.largest) for pair in pairs)
        return Findings(self.requests + 1, self.different, worst, self.first, self.checks)


class StreamComparison:
    """Compares requests in a thread of its own, in the order they come.

    Parameters
    ----------
    reference : Reference
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._waiting: Queue[tuple[int, Mapping[str, Any], Mapping[str, Any]]] = Queue(DEPTH)
        self._findings = Findings()
        self._error: Exception | None = None
        self._is_closing = Event()
        self._thread = Thread(target=self._run, name="comparison", daemon=True)
        self._thread.start()

    def add(self, number: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Take a request, whose outputs may be overwritten afterwards; waits while too many do.

        Raises ModelError when onnxruntime could not run an earlier one.
        """
        item = (number, inputs, deepcopy(dict(outputs)))
        while self._error is None:
            with suppress(Full):
                self._waiting.put(item, timeout=_LOOK_S)
                return
        raise self._error

    def close(self) -> Findings:
        """What was found, once all is compared.

        Raises ModelError when onnxruntime could not run a request.
        """
        self._is_closing.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._findings

    def _run(self) -> None:
        while self._error is None:
            try:
                number, inputs, outputs = self._waiting.get(timeout=_LOOK_S)
            except Empty:
                if self._is_closing.is_set():
                    return
                continue
            try:
                checks = self._reference.compare(inputs, outputs)
                self._findings = self._findings.also(number, checks)
            except Exception as error:  # raised again where it can be reported
                self._error = error
