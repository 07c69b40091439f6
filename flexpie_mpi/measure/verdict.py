"""Which of several plans is the fastest, judged round by round: requests of one round share its good or bad moment.

So plans are compared by the ratios of their latencies within each round, by the median of these and their quartiles. A
moment that disturbs one request widens the quartiles and does not move the median; where it disturbs many, nothing is
clear, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.quartiles import Quartiles, quartiles

CLOSE = 1.03
"""Two plans are as good as equal where none is slower by more: two runs of one plan differ as much."""

WIDE = 1.25
"""Requests of one plan whose quartiles are further apart were disturbed, and have to differ by as much to count."""

FEWEST, DOUBT = 3, 0.5
"""Requests before any plan is out; the share by which one would have to be slower, had a single request counted."""

ENOUGH = 20
"""Requests after which plans that are as good as equal take no further part."""


def ratios(spent_s: Sequence[float], base_s: Sequence[float]) -> Quartiles:
    """Quartiles of one plan's latency over another one's, in the rounds of which both have a request.

    They are those of logarithms, so that the other way round they are one over these.

    >>> ratios([2.0, 9.0, 2.0], [1.0, 4.5, 1.0, 1.0]), ratios([1.0, 4.0, 1.0], [4.0, 1.0, 4.0])
    ((2.0, 2.0, 2.0), (0.25, 0.25, 1.0))
    """
    rounds = min(len(spent_s), len(base_s))
    low, median, high = np.exp(quartiles(np.log(np.divide(spent_s[:rounds], base_s[:rounds])))).tolist()
    return low, median, high


def contenders(spent_s: Sequence[Sequence[float]]) -> list[int]:
    """Places of those that may be the fastest, by the seconds of the requests of each so far, of all as many.

    One is out when the lower quartile of its ratios to the fastest is above 1, by a margin that gets smaller with every
    request; and when it has turned out to be as good as equal.

    >>> contenders([[1.0, 1.0, 1.1], [1.1, 1.1, 1.2], [1.3, 1.4, 1.4]]), contenders([[1.0] * 9, [1.1] * 9])
    ([0, 1], [0])
    >>> contenders([[1.0] * 19, [1.01] * 19]), contenders([[1.0] * 20, [1.01] * 20])
    ([0, 1], [0])
    """
    if not spent_s:
        return []
    best = _fastest(dict(enumerate(spent_s)), range(len(spent_s)))
    margin, is_enough = 1 + DOUBT / len(spent_s[0]), len(spent_s[0]) >= ENOUGH

    def may_win(place: int) -> bool:
        found = ratios(spent_s[place], spent_s[best])
        return found[0] <= margin and not (is_enough and _is_equal(found))

    return [place for place in range(len(spent_s)) if place == best or may_win(place)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The place of the plan to keep, and whether the race was clear: another would most likely say the same."""

    kept: int
    is_clear: bool


def verdict(spent_s: Mapping[int, Sequence[float]], favoured: Sequence[int]) -> Verdict:
    """The fastest of the favoured plans, unless another is clearly faster.

    Clearly means in the median by more than :data:`CLOSE`, or :data:`WIDE` where either was disturbed or has had few
    requests, and in three rounds of four.

    Parameters
    ----------
    spent_s : mapping of int to sequence of float
        Seconds of the requests of each plan that could be run, by place; those with the same number are of one round.
    favoured : sequence of int
        Places of the plans that are predicted, or were found, to be the fastest.

    Examples
    --------
    >>> verdict({0: [1.0] * 5, 1: [0.98] * 5}, [0]), verdict({0: [1.0] * 5, 1: [0.9] * 5}, [0])
    (Verdict(kept=0, is_clear=True), Verdict(kept=1, is_clear=True))
    >>> verdict({0: [1.0, 1.4, 1.0, 1.5, 1.2], 1: [1.0] * 5}, [0])  # something disturbed the first
    Verdict(kept=0, is_clear=False)
    """
    best = _fastest(spent_s, [place for place in favoured if place in spent_s] or list(spent_s))
    faster = [place for place, each in spent_s.items() if _is_clearly_faster(each, spent_s[best])]
    best = _fastest(spent_s, faster) if faster else best
    others = (each for place, each in spent_s.items() if place != best)
    return Verdict(best, all(_is_told_apart(each, spent_s[best]) for each in others))


def _fastest(spent_s: Mapping[int, Sequence[float]], places: Sequence[int]) -> int:
    base = spent_s[places[0]]
    return min(places, key=lambda place: ratios(spent_s[place], base)[1])


def _is_clearly_faster(spent_s: Sequence[float], base_s: Sequence[float]) -> bool:
    _, median, high = ratios(spent_s, base_s)
    return high < 1 and median < 1 / (CLOSE if _is_steady(spent_s) and _is_steady(base_s) else WIDE)


def _is_told_apart(spent_s: Sequence[float], best_s: Sequence[float]) -> bool:
    """Whether a plan is surely slower than the best, or as good as equal, so that it does not matter."""
    found = ratios(spent_s, best_s)
    if not (_is_steady(spent_s) and _is_steady(best_s)):
        return found[0] > WIDE
    return found[0] > 1 or _is_equal(found)


def _is_equal(found: Quartiles) -> bool:
    return found[0] >= 1 / CLOSE and found[2] <= CLOSE


def _is_steady(spent_s: Sequence[float]) -> bool:
    low, _, high = quartiles(spent_s)
    return len(spent_s) >= FEWEST and high <= WIDE * low
