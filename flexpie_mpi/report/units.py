"""Numbers as people read them. The only place that knows milliseconds and megabytes (1 MB is a million bytes)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from ..core.errors import count_of as count_of  # numbers of things, for all tables


def digits(number: float) -> str:
    """Three significant digits, without an exponent, without trailing zeros after the point and without a unit.

    >>> digits(4.3478), digits(1234.5), digits(0.01234)
    ('4.35', '1234', '0.0123')
    """
    if number >= 100:
        return f"{number:.0f}"
    places = 1 if number >= 10 else 2 if number >= 1 else 3 if number >= 0.1 else 4
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


rate = digits
"""Something per second."""


def milli(seconds: float) -> str:
    """Milliseconds to three digits, without the unit."""
    return digits(seconds * 1e3)


def ms(seconds: float) -> str:
    """Milliseconds to three digits.

    >>> ms(0.0012345), ms(0.0312), ms(2.5)
    ('1.23 ms', '31.2 ms', '2500 ms')
    """
    return f"{milli(seconds)} ms"


def mega(count: int) -> str:
    """Millions of anything, to three digits.

    >>> mega(0), mega(1200), mega(25_600_000), mega(553_000_000)
    ('0', '0.0012', '25.6', '553')
    """
    return digits(count / 1e6) if count else "0"


mb = mega
"""Megabytes to three digits, without the unit."""


def sized(nbytes: int) -> str:
    """Bytes with a fitting unit.

    >>> sized(950), sized(12_345), sized(1_806_336)
    ('950 B', '12.3 kB', '1.81 MB')
    """
    return _scaled(nbytes, {"MB": 10**6, "kB": 10**3, "B": 1})


def percent(share: float) -> str:
    """A share of one.

    >>> percent(0.126), percent(0.9996), percent(0.0)
    ('12.6 %', '100 %', '0.0 %')
    """
    return f"{share:.1%}".replace("%", " %").replace("100.0", "100")


def signed(share: float) -> str:
    """A share of one, more or less.

    >>> signed(0.126), signed(-0.003)
    ('+12.6 %', '-0.3 %')
    """
    return f"{share:+.1%}".replace("%", " %")


def flops(count: int) -> str:
    """Floating-point operations with a fitting unit.

    >>> flops(950), flops(15_500_000), flops(8_200_000_000)
    ('950 flop', '15.5 Mflop', '8.2 Gflop')
    """
    return _scaled(count, {"Gflop": 10**9, "Mflop": 10**6, "kflop": 10**3, "flop": 1})


def shape_of(shape: tuple[int, ...] | None) -> str:
    """A shape in math order.

    >>> shape_of((1, 3, 224, 224)), shape_of(()), shape_of(None)
    ('1x3x224x224', 'scalar', 'unknown')
    """
    return "unknown" if shape is None else "x".join(map(str, shape)) or "scalar"


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers, runs of them shortened.

    >>> ranges([0, 1, 2, 5, 7, 8]), ranges([3])
    ('0-2,5,7-8', '3')
    """
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _scaled(count: int, units: dict[str, int]) -> str:
    """A count in the largest unit that it reaches, or else in the last one, of 1."""
    unit, factor = next((each for each in units.items() if count >= each[1]), ("", 1))
    return f"{digits(count / factor)} {unit or list(units)[-1]}"
