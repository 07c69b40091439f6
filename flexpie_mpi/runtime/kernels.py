"""The kernels of a rank: its segments, each opened once by the rank's provider and bound to its steps' buffers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..core.errors import FlexPieError, ModelError
from ..core.program import Compute, Program
from ..core.region import Region
from ..lower.memory import RETURN_BYTES, heap_bytes, laid_out
from ..model import Model, build
from ..model.shard import WeightFiles
from .cpu import CpuProvider
from .executor import KernelFactory
from .machine import return_free_memory
from .provider import Action, OpenSegment, Provider, ProviderOptions

log = logging.getLogger(__name__)

PROVIDERS: dict[str, Callable[[ProviderOptions], Provider]] = {"cpu": CpuProvider}
"""What may run a rank's segments, by name."""


def make_provider(name: str, options: ProviderOptions) -> Provider:
    """The provider of that name.

    Raises ModelError when there is none, or it cannot run on this machine.
    """
    if name not in PROVIDERS:
        raise ModelError(f"there is no provider '{name}' to run segments: choose one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name](options)


def own_block() -> int:
    """Channels to a block of what the provider "cpu" computes on this machine; 0 where it has none."""
    return make_provider("cpu", ProviderOptions()).block


class Sessions:
    """The open segments of a rank: one for all steps that compute the same, of whichever program.

    Parameters
    ----------
    model : Model
    weights : WeightFiles
    provider : Provider
    """

    def __init__(self, model: Model, weights: WeightFiles, provider: Provider) -> None:
        self.provider = provider
        self._open = partial(open_segment, model, weights=weights, provider=provider)
        self._graph = model.graph
        self._known: dict[Any, OpenSegment] = {}
        self._laid_out_bytes = 0

    def get(self, program: Program, step: Compute) -> OpenSegment:
        """The segment of a step, opened when it is first asked for.

        Raises ModelError when the provider refuses the segment.
        """
        key = step.blocks, _held(program, step.inputs), _held(program, step.outputs), *_blocked(program, step).items()
        if key not in self._known:
            self._known[key] = self._open(program, step=step)
            self._laid_out_bytes += heap_bytes(laid_out(self._graph, step.blocks))
            if self._laid_out_bytes > RETURN_BYTES:
                self.settle()
        return self._known[key]

    def settle(self) -> None:
        """Give back what segments needed only to be opened."""
        if self._laid_out_bytes:
            return_free_memory()
            self._laid_out_bytes = 0

    def close(self) -> None:
        """Keep none of them any longer."""
        self._known.clear()


def make_kernel(sessions: Sessions, program: Program, step: Compute, values: dict[int, Any]) -> Action:
    """The action of a Compute step: its segment, bound to the step's buffers."""
    return sessions.get(program, step).bind(dict(step.inputs), dict(step.outputs), values)


def open_segment(
    model: Model, program: Program, weights: WeightFiles, provider: Provider, step: Compute
) -> OpenSegment:
    """The segment of a Compute step, opened by a provider.

    Parameters
    ----------
    model : Model
        Its skeleton is enough.
    program : Program
        The rank's; it says which regions the buffers of the step hold.
    weights : WeightFiles
    provider : Provider
    step : Compute
    """
    held = _held(program, step.inputs), _held(program, step.outputs)
    return provider.open(build(model, f"segment{step.segment}", step.blocks, *held, _blocked(program, step)), weights)


def _held(program: Program, pairs: tuple[tuple[str, int], ...]) -> tuple[tuple[str, Region | None], ...]:
    """Values of a step with the regions that its rank's buffers hold."""
    return tuple((name, program.buffers[index].region) for name, index in pairs)


def _blocked(program: Program, step: Compute) -> dict[str, int]:
    """Channels to a block of a step's values, of those that its rank's buffers hold blocked."""
    buffers = ((name, program.buffers[index]) for name, index in (*step.inputs, *step.outputs))
    return {name: buffer.block for name, buffer in buffers if buffer.block}


@dataclass
class Guard:
    """Keeps the first error of this rank's kernels while it is on, so that no other rank waits for this one's messages.

    What others get from this rank after an error is of no use, nor is what they make of it, until all ranks have agreed
    on the error. A request that is only tried is run so; one that counts ends at the first error.
    """

    is_on: bool = False
    error: FlexPieError | None = None  # once there is one, nothing is computed any more

    @contextmanager
    def on(self) -> Iterator[None]:
        """Keep errors inside the block."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False

    def take(self) -> FlexPieError | None:
        """The error that was kept, if there is one; it is forgotten."""
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
    """Fill a step's outputs with ones, by which others can divide and which mostly are valid indices.

    Opaque values become None.
    """
    for _, index in step.outputs:
        if isinstance(values.get(index), np.ndarray):
            values[index].fill(1)
        else:
            values[index] = None
