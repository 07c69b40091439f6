"""How far rounding alone moves a model's outputs: the model's own file, run in plain sessions that round differently.

A fault and an unlucky rounding look alike in a model that is quantised on the way: one unit in the last place of a
float, at the border between two steps, moves an 8-bit number by a whole step, and what follows by per cents. So the
file itself is asked, in two ways: at onnxruntime's other optimisation levels, and, where these do not show it, with
constants that are off by one unit in their last place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError
from ..model.equality import apart
from ..model.nudge import factors, nudged
from ..runtime.whole_file import LEVELS, WholeFile

RULES = ("levels", "nudges")
"""Where rounding is looked for, in this order."""

_NUDGES = 6
"""Runs with nudged constants."""
_REQUESTS = 8
"""Requests of a stream that are looked at; what they show is taken for all."""

Opener = Callable[[], WholeFile]


class Rounding:
    """What rounding was seen to change in the outputs of a model, as parts of their largest magnitudes.

    Parameters
    ----------
    path : Path
        The model's own file.
    threads : int
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._openers: dict[str, tuple[Opener, ...]] = {
            "levels": tuple(partial(WholeFile, path, threads, level=level) for level in LEVELS),
            "nudges": tuple(partial(self._nudged_file, seed) for seed in range(_NUDGES)),
        }
        self._seen: dict[str, dict[str, float]] = {rule: {} for rule in RULES}
        self._looked = dict.fromkeys(RULES, 0)

    def known(self, rule: str, name: str) -> float:
        """What has been seen so far of an output."""
        return self._seen[rule].get(name, 0.0)

    def look(self, rule: str, inputs: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """See what another request shows, whose outputs in a plain session are `expected`; a few times at most.

        The sessions are open one at a time, so that they need no more memory than one.
        """
        if self._looked[rule] == _REQUESTS:
            return
        self._looked[rule] += 1
        seen = self._seen[rule]
        for opener in self._openers[rule]:
            with suppress(ModelError):  # a level that cannot run the model shows nothing
                outputs = opener().run(inputs)
                for name in outputs.keys() & expected.keys():
                    seen[name] = max(seen.get(name, 0.0), apart(outputs[name], expected[name]))

    @cached_property
    def _factors(self) -> dict[str, np.ndarray]:
        return factors(self._path)

    def _nudged_file(self, seed: int) -> WholeFile:
        return WholeFile(self._path, self._threads, constants=nudged(self._factors, seed))
