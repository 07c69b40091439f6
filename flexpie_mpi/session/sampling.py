"""Which token comes next, by the numbers that a model gives all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import DataError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen: the likeliest one at a temperature of 0, else by chance.

    Chance plays among the likeliest tokens that together have a share of `top_p` (Holtzman et al. 2020). Raises
    DataError when the temperature is negative, or the share is not above 0 and up to 1.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise DataError(f"the temperature is {self.temperature:g}: it must be 0, for the likeliest token, or more")
        if not 0 < self.top_p <= 1:
            raise DataError(f"top_p is {self.top_p:g}: it must be above 0, and 1 for all tokens")
        if self.seed < 0:
            raise DataError(f"the seed is {self.seed}: it must be 0 or more")

    def generator(self) -> np.random.Generator:
        """What decides where chance does."""
        return np.random.default_rng(self.seed)

    def choose(self, logits: np.ndarray, generator: np.random.Generator) -> int:
        """The number of a token, of a vector of one number for each."""
        if self.temperature == 0:
            return int(logits.argmax())
        scores = logits.astype(np.float64) / self.temperature
        shares = np.exp(scores - scores.max())
        order = np.argsort(-shares, kind="stable")
        sums = np.cumsum(shares[order])
        kept = 1 + int(np.searchsorted(sums, self.top_p * sums[-1]))
        place = np.searchsorted(sums[:kept], generator.random() * sums[:kept][-1], side="right")
        return int(order[min(place, kept - 1)])


GREEDY = Sampling()
"""Always the likeliest token."""
