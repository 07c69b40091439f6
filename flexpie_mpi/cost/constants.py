"""Positive constants of a formula, fitted so that its typical relative error is small and outliers do not count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_STEPS = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.01)
"""Steps of the search on the log scale: from a factor of e down to 1 %."""

_SWEEPS = 12
"""At most so many rounds over all directions for each step."""

_BEND = 0.05
"""Relative error from which on errors count by their size and no longer by their square."""


def positive_constants(
    formula: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    seconds: np.ndarray,
    weights: np.ndarray,
    pull: float = 0.2,
) -> np.ndarray:
    """Constants c > 0 that minimise ``sum(w * h(log(formula(c) / seconds))) + pull * sum(log(c / start) ** 2)``.

    h is quadratic for small errors and linear for large ones. The second term keeps constants that the rows say nothing
    about where they were; in weight it is a fraction of one row. The search walks along each constant, and along all
    together, with ever smaller steps: no derivatives, no random numbers, and no way to a worse place than `start`.

    Parameters
    ----------
    formula : callable
        Constants (P,) to seconds (n,), all positive.
    start : float array (P,)
    seconds : float array (n,)
        What was measured, positive.
    weights : float array (n,)

    Returns
    -------
    float array (P,)

    Examples
    --------
    >>> nbytes = np.array([1e3, 1e5, 1e6, 1e7])
    >>> line = lambda c: c[0] + nbytes / c[1]
    >>> found = positive_constants(line, np.array([1e-6, 1e9]), line(np.array([2e-5, 5e9])), np.ones(4), pull=1e-3)
    >>> np.allclose(found, [2e-5, 5e9], rtol=0.05)
    True
    """
    target = np.log(seconds)
    origin = np.log(start)

    def loss(place: np.ndarray) -> float:
        error = np.log(formula(np.exp(place))) - target
        bent = np.sqrt(error**2 + _BEND**2) - _BEND
        return float(weights @ bent + pull * np.square(place - origin).sum())

    return np.exp(_descended(loss, origin))


def _descended(loss: Callable[[np.ndarray], float], place: np.ndarray) -> np.ndarray:
    directions = np.vstack((np.ones(len(place)), np.eye(len(place))))
    best = loss(place)
    for step in _STEPS:
        for _ in range(_SWEEPS):
            before, start = best, place
            for direction in directions:
                place, best = _walked(loss, place, best, step * direction)
            if best >= before:
                break
            place, best = _walked(loss, place, best, place - start)  # valleys that lie across the directions
    return place


def _walked(
    loss: Callable[[np.ndarray], float], place: np.ndarray, best: float, step: np.ndarray
) -> tuple[np.ndarray, float]:
    """As far as it goes down one way, or else the other."""
    for move in (step, -step):
        moved = False
        while (found := loss(place + move)) < best:
            place, best, moved = place + move, found, True
        if moved:
            break
    return place, best


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value with half of the weight on either side.

    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0]))
    3.0
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
