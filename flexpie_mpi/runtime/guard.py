"""A guard around a rank's kernels: where one fails, the rank goes on with its messages, so that no other rank waits.

What others get from it then is of no use, nor is what they make of it, until all ranks have agreed on the error. A
request that is only tried is run so; one that counts ends at the first error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import FlexPieError, ModelError
from ..core.program import Compute
from .executor import KernelFactory
from .provider import Action

log = logging.getLogger(__name__)


@dataclass
class Guard:
    """Keeps the first error of this rank's kernels while it is on.

    Attributes
    ----------
    is_on : bool
    error : FlexPieError or None
        Once there is one, nothing is computed any more.
    """

    is_on: bool = False
    error: FlexPieError | None = None

    @contextmanager
    def on(self) -> Iterator[None]:
        """Keep errors inside the block."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False

    def take(self) -> FlexPieError | None:
        """The error, which is kept no longer."""
        error, self.error = self.error, None
        return error

    def around(self, kernel: KernelFactory) -> KernelFactory:
        """The same kernels under this guard."""

        def make(step: Compute, values: Mapping[int, Any]) -> Action:
            return self._guarded(kernel(step, values), step, values)

        return make

    def _guarded(self, action: Action, step: Compute, values: Mapping[int, Any]) -> Action:
        def act() -> None:
            if self.error is None:
                try:
                    action()
                    return
                except Exception as error:  # onnxruntime raises its own classes, straight from Exception
                    if not self.is_on:
                        raise
                    self.error = _explained(error, step)
            _fill(step, values)

        return act


def _explained(error: Exception, step: Compute) -> FlexPieError:
    """An error as a sentence."""
    log.info("segment %d failed", step.segment, exc_info=error)
    if isinstance(error, FlexPieError):
        return error
    return ModelError(f"onnxruntime cannot run segment {step.segment}: {' '.join(str(error).split())}")


def _fill(step: Compute, values: Any) -> None:
    """Give a step's outputs ones, which divide and, mostly, are indices; what has no place in memory gets nothing."""
    for _, index in step.outputs:
        if isinstance(values.get(index), np.ndarray):
            values[index].fill(1)
        else:
            values[index] = None
