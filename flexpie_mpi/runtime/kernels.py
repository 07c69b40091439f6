"""The kernels of a rank: its segments, each opened once by the rank's provider and bound to its steps' buffers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..core.errors import ModelError
from ..core.program import Compute, Program
from ..core.region import Region
from ..model import Model, build
from ..model.shard import WeightFiles
from .ort import CpuProvider
from .provider import Action, OpenSegment, Provider, ProviderOptions

PROVIDERS: dict[str, Callable[[ProviderOptions], Provider]] = {"cpu": CpuProvider}
"""What may run a rank's segments, by name."""


def make_provider(name: str, options: ProviderOptions) -> Provider:
    """The provider of that name.

    Raises
    ------
    ModelError
        When there is none, or it cannot run on this machine.
    """
    if name not in PROVIDERS:
        raise ModelError(f"there is no provider '{name}' to run segments: choose one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name](options)


class Sessions:
    """The open segments of a rank: one for all steps that compute the same, of whichever program.

    Parameters
    ----------
    model : Model
    weights : WeightFiles
    provider : Provider
    """

    def __init__(self, model: Model, weights: WeightFiles, provider: Provider) -> None:
        self._open = partial(open_segment, model, weights=weights, provider=provider)
        self._known: dict[Any, OpenSegment] = {}

    def get(self, program: Program, step: Compute) -> OpenSegment:
        """The segment of a step, opened when it is first asked for.

        Raises
        ------
        ModelError
            When the provider refuses the segment.
        """
        key = step.blocks, _held(program, step.inputs), _held(program, step.outputs)
        if key not in self._known:
            self._known[key] = self._open(program, step=step)
        return self._known[key]

    def close(self) -> None:
        """Keep none of them any longer."""
        self._known.clear()


def make_kernel(sessions: Sessions, program: Program, step: Compute, values: dict[int, Any]) -> Action:
    """The action of a Compute step: its segment, bound to the step's buffers."""
    return sessions.get(program, step).bind(dict(step.inputs), dict(step.outputs), values)


def open_segment(
    model: Model, program: Program, weights: WeightFiles, provider: Provider, step: Compute
) -> OpenSegment:
    """The segment of a Compute step, opened."""
    held = _held(program, step.inputs), _held(program, step.outputs)
    return provider.open(build(model, f"segment{step.segment}", step.blocks, *held), weights)


def _held(program: Program, pairs: tuple[tuple[str, int], ...]) -> tuple[tuple[str, Region | None], ...]:
    """Values of a step with the regions that its rank's buffers hold."""
    return tuple((name, program.buffers[index].region) for name, index in pairs)
