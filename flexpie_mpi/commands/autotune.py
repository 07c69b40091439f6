"""Autotuning: several plans are run a few times each, and the one that is measured to be the fastest is kept."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..engine import Engine
from ..plan import Plan
from ..trial import measure

REPEATS, WARMUP = 5, 2
"""Requests of each plan that count, and those before them that do not."""


def race(
    plans: Sequence[Plan],
    make: Callable[[Plan], Engine],
    inputs: Mapping[str, Any],
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[float, ...]:
    """Median latency of each plan, in seconds, the same on every rank; called by all ranks together.

    Parameters
    ----------
    plans : sequence of Plan
        The same on every rank.
    make : callable
        Makes the engine of a plan; one is there at a time, so that memory holds one model's parts only.
    inputs : mapping of str to array
        On the root; ignored elsewhere.
    tell : callable
        Is told what goes on.
    """
    medians = []
    for number, plan in enumerate(plans, 1):
        tell(f"plan {number} of {len(plans)}")
        engine = make(plan)
        trial, _ = measure(engine, inputs, REPEATS, WARMUP)
        medians.append(trial.median_s)
        engine.close()
        del engine
        gc.collect()
    return tuple(medians)
