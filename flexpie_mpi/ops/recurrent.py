"""Recurrent networks: cut along the batch, and a bidirectional one into its two directions.

They cannot be cut along the sequence, whose steps need the ones before, nor along the hidden units: every step
multiplies all units of the step before by the recurrence weights, so that ranks would have to exchange within the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from ..core.graph import BoundNode
from .base import Attributes, Regions, macs, register
from .named import NamedAxes, Share

_STATES = {"GRU": 1, "LSTM": 2, "RNN": 1}


@register
class Recurrent(NamedAxes):
    """Data (steps, batch, features), weights (directions, gates * hidden, features or hidden)."""

    ops = tuple(_STATES)

    def applies(self, node: BoundNode) -> bool:
        """Not with the batch in front, which onnxruntime has no kernels for."""
        return super().applies(node) and not node.attribute("layout", 0)

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        states = ("DB.",) * _STATES[node.op]
        return (".B.", "D..", "D..", "D.", "B", *states, "D."), (".DB.", "DB.", "DB.")[: len(node.outputs)]

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        """Parameters of activations are listed for those activations that have some, whichever direction is theirs."""
        counts = {"B": node.in_shape()[1], "D": node.in_shape(1)[0]}
        if node.attribute("activation_alpha") or node.attribute("activation_beta"):
            del counts["D"]
        return counts

    def attributes(self, node: BoundNode, share: Share) -> Attributes:
        lo, hi = share.get("D", (0, 2))
        if hi - lo == 2 or node.attribute("direction", "forward") != "bidirectional":
            return ()
        names = node.attribute("activations") or ()
        own = names[lo * len(names) // 2 : hi * len(names) // 2]
        return (("direction", ("forward", "reverse")[lo]), ("activations", own or None))

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Two products with each step, one of the features and one of the hidden units."""
        data, features, recurrence = self.in_regions(node, out)[:3]
        assert data is not None and features is not None and recurrence is not None
        return macs(prod(data.shape[:2]) * (features.size + recurrence.size))
