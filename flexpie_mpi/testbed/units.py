"""Quantities as people write them, ``"512MiB"`` or ``"1Gb/s"``, and what they are in bytes and seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..core.document import printable, shown
from ..core.errors import TestbedError

_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?) *([A-Za-z/]+)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is measured, an example of it, its units, and the least it may be."""

    noun: str
    example: str
    units: Mapping[str, float]
    above: float = 0.0

    def parse(self, text: object) -> float:
        """The number in bytes, bytes per second, or seconds.

        Raises
        ------
        TestbedError
            When it has no unit, another one, or is not above `above`.

        Examples
        --------
        >>> MEMORY.parse("512 MiB"), BANDWIDTH.parse("1Gb/s"), LATENCY.parse("250us")
        (536870912.0, 125000000.0, 0.00025)
        """
        found = _WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
        if not found or found[2] not in self.units:
            raise TestbedError(
                f"{_quoted(text)} is no {self.noun}: write it like {_quoted(self.example)}, "
                f"a number and one of the units {' '.join(self.units)}"
            )
        number, unit = float(found[1]), self.units[found[2]]
        number = number * unit if unit >= 1 else number / round(1 / unit)  # 50us is then the float 5e-5
        if not self.above < number < float("inf"):
            raise TestbedError(f"{_quoted(text)} is no {self.noun} that can exist: it must be above 0 and finite")
        return number


def _quoted(value: object) -> str:
    return f'"{printable(value, 80)}"' if isinstance(value, str) else shown(value)


_BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_BITS = {"b/s": 1 / 8, "kb/s": 1e3 / 8, "Mb/s": 1e6 / 8, "Gb/s": 1e9 / 8}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

MEMORY = Quantity("size of a memory", "512MiB", _BYTES, above=0.5)  # less than a byte rounds to none
BANDWIDTH = Quantity("bandwidth", "1Gb/s", _BITS | {f"{unit}/s": size for unit, size in _BYTES.items()})
LATENCY = Quantity("latency", "50us", _SECONDS, above=-1.0)
