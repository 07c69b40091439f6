"""Quartiles, by which repeated measurements are told from moments that disturbed some of them."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import quantiles

Quartiles = tuple[float, float, float]
"""Lower quartile, median and upper quartile."""


def quartiles(samples: Iterable[float]) -> Quartiles:
    """The quartiles of some numbers; those of a single one are all the same.

    >>> quartiles([1.0, 5.0, 3.0, 2.0, 4.0]), quartiles([7.0])
    ((2.0, 3.0, 4.0), (7.0, 7.0, 7.0))
    """
    numbers = [float(each) for each in samples]
    low, median, high = quantiles(numbers if len(numbers) > 1 else numbers * 2, n=4, method="inclusive")
    return low, median, high
