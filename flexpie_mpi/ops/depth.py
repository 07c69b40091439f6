"""DepthToSpace and SpaceToDepth: blocks of pixels traded for channels."""

from __future__ import annotations

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import Const, LocalNode, Regions, register, same
from .copying import Copy
from .trim import hull, trimmed


@register
class DepthToSpace(Copy):
    """(N, C * b * b, H, W) to (N, C, H * b, W * b).

    In mode CRD the inputs of an output channel lie together. In mode DCR they are C apart, so that a cut by channels
    reads the hull, from the first block's to the last's, and picks from it.
    """

    ops = ("DepthToSpace",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, (lo, hi), *spatial = hull(out).bounds
        block, area, channels = _block(node), _block(node) ** 2, node.out_shape()[1]
        depth = (lo * area, hi * area) if _is_crd(node) else (lo, (area - 1) * channels + hi)
        return (Region((batch, depth, *(_shrunk(bounds, block) for bounds in spatial))),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        (held,), region, block, channels = into, hull(out), _block(node), node.out_shape()[1]
        assert held is not None
        computed = Region((*region.bounds[:2], *(_grown(bounds, block) for bounds in held.bounds[2:])))
        nodes = trimmed(node.opset, same(node), (computed,), out)
        lo, hi = region.bounds[1]
        if _is_crd(node) or hi - lo == channels:
            return nodes
        picked = tuple(offset * channels + channel for offset in range(block * block) for channel in range(hi - lo))
        gather = LocalNode("Gather", (0, Const(picked)), ("picked",), (("axis", 1),))
        first = LocalNode(node.op, ("picked",), nodes[0].outputs, inherit=True)
        return (gather, first, *nodes[1:])


@register
class SpaceToDepth(Copy):
    """(N, C, H * b, W * b) to (N, C * b * b, H, W): output channel ``k * C + c`` holds place k of every block."""

    ops = ("SpaceToDepth",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, depth, *spatial = hull(out).bounds
        return (Region((batch, _places(node, depth)[1], *(_grown(bounds, _block(node)) for bounds in spatial))),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """All places of the channels read, of which the wanted ones are then consecutive."""
        region, area = hull(out), _block(node) ** 2
        place, (lo, hi) = _places(node, region.bounds[1])
        first = place * (node.in_shape()[1] - (hi - lo)) + lo
        computed = region.with_axis(1, (first, first + area * (hi - lo)))
        return trimmed(node.opset, same(node), (computed,), out)


def _places(node: BoundNode, depth: Bounds) -> tuple[int, Bounds]:
    """The place in a block and the input channels of output channels `depth`; (0, all) when they span places.

    In mode CRD (from opset 28 on) every range of them does.
    """
    channels = node.in_shape()[1]
    place, lo = divmod(depth[0], channels)
    hi = lo + depth[1] - depth[0]
    return (place, (lo, hi)) if hi <= channels and not _is_crd(node) else (0, (0, channels))


def _block(node: BoundNode) -> int:
    return int(node.attribute("blocksize"))


def _is_crd(node: BoundNode) -> bool:
    return bool(node.attribute("mode", "DCR") == "CRD")


def _shrunk(bounds: Bounds, block: int) -> Bounds:
    """The blocks that hold `bounds`."""
    return bounds[0] // block, -(-bounds[1] // block)


def _grown(bounds: Bounds, block: int) -> Bounds:
    """The pixels of the blocks `bounds`."""
    return bounds[0] * block, bounds[1] * block
