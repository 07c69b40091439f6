"""Recurrent networks: cut along the batch, a bidirectional one into its two directions, one step by hidden units.

They cannot be cut along the sequence, whose steps need the ones before, nor several steps along the hidden units: every
step multiplies all units of the step before by the recurrence weights, so that ranks would have to exchange within the
node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from ..core.graph import BoundNode
from ..core.region import Bounds
from .base import OWN, Attributes, Const, LocalNode, Regions, crop, macs, register, same, slice_node
from .named import NamedAxes, Share

_STATES = {"GRU": 1, "LSTM": 2, "RNN": 1}


class _Gated(NamedAxes):
    """What works out gates of data (steps, batch, features) and of hidden units."""

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Two products with each step, one of the features and one of the hidden units."""
        data, features, recurrence = self.in_regions(node, out)[:3]
        assert data is not None and features is not None and recurrence is not None
        return macs(prod(data.shape[:2]) * (features.size + recurrence.size))


@register
class Recurrent(_Gated):
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


@register
class OneStep(_Gated):
    """One step of an LSTM or GRU (:mod:`flexpie_mpi.model.pieces`): data and states (1, batch, features or units).

    Weights are (1, gates, units, features), biases (1, 2, gates, units). Each unit needs all of the state before, but
    the outputs are states only, of any units.
    """

    domain = OWN
    ops = ("LSTM", "GRU")

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        return (".B.", "..H.", "..H.", "...H", "", ".B.", ".BH"), (".BH", ".BH")

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        return {"B": node.in_shape()[1], "H": node.in_shape(1)[2]}

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """The operator itself for all units; for some two products of rows, and what is done unit by unit."""
        share = self.share(node, out)
        is_whole = share["H"] == (0, self.counts(node)["H"])
        body = _whole_step(node) if is_whole else _step_of_units(node, into, share["H"])
        crops = (
            crop(node.opset, f"state{index}", index, held, wanted)
            for index, (held, wanted) in enumerate(zip(self.held(node, out, share), out, strict=True))
            if held is not None and wanted is not None
        )
        return (*body, *crops)


def _whole_step(node: BoundNode) -> Iterator[LocalNode]:
    """The operator, behind weights without an axis for the gates."""
    inputs, rows = list(same(node).inputs), prod(node.in_shape(1)[1:3])
    for index, shape in ((1, (1, rows, -1)), (2, (1, rows, -1)), (3, (1, 2 * rows))):
        if inputs[index] != "":
            yield LocalNode("Reshape", (index, Const(shape)), (f"weights{index}",))
            inputs[index] = f"weights{index}"
    yield LocalNode(node.op, tuple(inputs), ("", "state0", "state1")[: 1 + len(node.outputs)], inherit=True)


def _step_of_units(node: BoundNode, into: Regions, units: Bounds) -> tuple[LocalNode, ...]:
    """What all gates of some units are given of the data and of the state before, and what they make of it."""
    count = units[1] - units[0]
    products = (*_product(1, 0, into), *_product(2, 5, into))
    if node.op == "LSTM":
        return (
            *products,
            LocalNode("Add", ("product1", "product2"), ("sums",)),
            _split(node, "sums", ("gates", "new"), (3 * count, count)),
            LocalNode("Sigmoid", ("gates",), ("open",)),
            _split(node, "open", ("taken", "shown", "kept"), (count,) * 3),
            LocalNode("Tanh", ("new",), ("values",)),
            LocalNode("Mul", ("taken", "values"), ("added",)),
            LocalNode("Mul", ("kept", 6), ("rest",)),
            LocalNode("Add", ("rest", "added"), ("state1",)),
            LocalNode("Tanh", ("state1",), ("bounded",)),
            LocalNode("Mul", ("shown", "bounded"), ("state0",)),
        )
    return (
        *products,
        _split(node, "product1", ("gates1", "new1"), (2 * count, count)),
        _split(node, "product2", ("gates2", "new2"), (2 * count, count)),
        LocalNode("Add", ("gates1", "gates2"), ("gates",)),
        LocalNode("Sigmoid", ("gates",), ("open",)),
        _split(node, "open", ("kept", "remembered"), (count,) * 2),
        LocalNode("Mul", ("remembered", "new2"), ("memory",)),
        LocalNode("Add", ("new1", "memory"), ("new",)),
        LocalNode("Tanh", ("new",), ("values",)),
        slice_node(node.opset, 5, "units", (units[0],), (units[1],), (2,)),
        LocalNode("Sub", ("units", "values"), ("change",)),
        LocalNode("Mul", ("kept", "change"), ("rest",)),
        LocalNode("Add", ("values", "rest"), ("state0",)),
    )


def _product(index: int, data: int, into: Regions) -> Iterator[LocalNode]:
    """Rows of input `data` by weights of input `index`, and their bias: (batch, gates * units)."""
    rows, weights = into[data], into[index]
    assert rows is not None and weights is not None, "they are always read"
    yield LocalNode("Reshape", (data, Const(rows.shape[1:])), (f"rows{index}",))
    yield LocalNode("Reshape", (index, Const((prod(weights.shape[1:3]), -1))), (f"weights{index}",))
    if into[3] is not None:
        yield LocalNode("Gather", (3, Const((index - 1,))), (f"biases{index}",), (("axis", 1),))
        yield LocalNode("Reshape", (f"biases{index}", Const((-1,))), (f"bias{index}",))
    summand = () if into[3] is None else (f"bias{index}",)
    factors = (f"rows{index}", f"weights{index}", *summand)
    yield LocalNode("Gemm", factors, (f"product{index}",), (("transB", 1),))


def _split(node: BoundNode, source: str, targets: tuple[str, ...], sizes: tuple[int, ...]) -> LocalNode:
    """Parts of rows; their sizes are an input from opset 13 on."""
    if node.opset < 13:
        return LocalNode("Split", (source,), targets, (("axis", 1), ("split", sizes)))
    return LocalNode("Split", (source, Const(sizes)), targets, (("axis", 1),))
