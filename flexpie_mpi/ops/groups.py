"""Groups of channels: which of them a range of output channels touches, and what their local form computes."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.region import Bounds


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups that a range of output channels touches.

    Attributes
    ----------
    count : int
        Number of groups of the local form.
    read : (lo, hi)
        Input channels of these groups.
    computed : (lo, hi)
        Output channels of the local form: just those wanted inside one group, otherwise whole groups.
    """

    count: int
    read: Bounds
    computed: Bounds


def touched(wanted: Bounds, groups: int, inputs: int, outputs: int) -> Groups:
    """Groups touched by the output channels `wanted`, when `inputs` and `outputs` channels form `groups` groups.

    >>> touched((3, 4), groups=2, inputs=6, outputs=8)
    Groups(count=1, read=(0, 3), computed=(3, 4))
    >>> touched((3, 5), groups=2, inputs=6, outputs=8)
    Groups(count=2, read=(0, 6), computed=(0, 8))
    """
    per_in, per_out = inputs // groups, outputs // groups
    first, last = wanted[0] // per_out, (wanted[1] - 1) // per_out + 1
    computed = wanted if last - first == 1 else (first * per_out, last * per_out)
    return Groups(last - first, (first * per_in, last * per_in), computed)
