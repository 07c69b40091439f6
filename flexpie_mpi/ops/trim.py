"""Local forms that compute more than is wanted: a hull or whole groups first, crops after."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from ..core.region import Region
from .base import LocalNode, Regions
from .crop import crop


def hull(out: Regions) -> Region:
    """The smallest region that holds every wanted one; all of them have the same axes."""
    return reduce(Region.hull, (region for region in out if region is not None))


def trimmed(opset: int, node: LocalNode, held: Regions, wanted: Regions) -> tuple[LocalNode, ...]:
    """`node`, whose outputs come out as `held`, followed by crops that leave exactly `wanted` of each."""
    outputs: list[int | str] = []
    crops: list[LocalNode] = []
    for place, (region, want) in enumerate(zip(held, wanted, strict=True)):
        if region is None or want is None:
            outputs.append(f"unused{place}")
        elif region == want:
            outputs.append(place)
        else:
            outputs.append(f"held{place}")
            crops.append(crop(opset, f"held{place}", place, region, want))
    while wanted[len(outputs) - 1] is None:  # trailing outputs are optional, those before a wanted one may not be
        outputs.pop()
    return (replace(node, outputs=tuple(outputs)), *crops)
