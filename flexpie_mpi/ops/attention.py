"""Attention and rotary embeddings, ONNX's own and onnxruntime's: cut along the batch, the heads and the queries.

Letters of axes (see :mod:`.named`): B items of the batch, N heads of the queries, S queries; K heads of the keys, of
which there may be fewer, so that a group of query heads shares one; L keys, T keys with those of the past, which count
where a causal mask leaves the last ones unread; M columns of queries, keys and values laid end to end: some heads are
three boxes of it, and their hull is read.

A causal mask knows a query's position from the number of keys before the first one. Queries cut off at the front are
made up for: the keys up to there become part of the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from ..core.graph import BoundNode
from .base import OWN, Attributes, Const, LocalNode, Regions, crop, macs, register, same, slice_node, trimmed
from .heads import HeadRule, Prepared, hull_size
from .named import Share

_MASK = "BNST"


class AttentionRule(HeadRule):
    """Rule of an operator that weighs values by products of queries and keys."""

    causal: ClassVar[str] = ""
    """Attribute that makes a query see no later key."""
    past: ClassVar[Sequence[int]] = ()
    """Inputs that are keys and values of the past; the operator wants its outputs for the present with them."""

    def is_causal(self, node: BoundNode) -> bool:
        return bool(self.causal and node.attribute(self.causal, 0))

    def cuts_queries(self, node: BoundNode) -> bool:
        """Whether queries may be cut; under a causal mask some keys then become part of a past."""
        return False

    def keys(self, node: BoundNode) -> tuple[int, int]:
        """Number of keys that the node is given, and of those before them."""
        face, past = self.faces(node)[0][1], self.past[0] if self.past else 0
        return node.in_shape(1)[face.index("L")], node.in_shape(past)[2] if node.has_input(past) and past else 0

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        heads, groups = self.heads(node)
        counts = {"B": node.out_shape()[0], "N": heads, "K": groups}
        if not self.cuts_queries(node):
            return counts
        counts["S"] = node.in_shape()[self.faces(node)[0][0].index("S")]
        if self.is_causal(node):
            given, before = self.keys(node)
            counts |= {"L": given, "T": before + given}
        return counts

    def share(self, node: BoundNode, out: Regions) -> Share:
        """Under a causal mask the keys behind the last query are read for the present only."""
        share = dict(super().share(node, out))
        if "L" in share:
            (_, given), end = share["L"], share["S"][1]
            share |= {"L": (0, given if any(out[1:]) else end), "T": (0, share["T"][1] - given + end)}
        return share

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """With some queries of a causal mask, the keys up to the last one, those before the first being of the past."""
        share = self.share(node, out)
        if "L" not in share or share["S"] == (0, self.counts(node)["S"]):
            return tuple(map(self._with_present, super().local(node, out, into)))
        held = self.held(node, out, share)
        nodes = [item for index in (1, 2) for item in self._keys(node, share, into, index)]
        for index, (region, wanted) in enumerate(zip(held[1:3], out[1:3], strict=True), 1):
            if region is not None and wanted is not None:
                nodes.append(crop(node.opset, f"present{index}", index, region, wanted))
        call = same(node, self.attributes(node, share))
        inputs = dict(enumerate(call.inputs)) | {index: f"keys{index}" for index in (1, 2)}
        if share["S"][0]:
            inputs |= {past: f"past{index}" for index, past in enumerate(self.past, 1)}
        call = replace(call, inputs=tuple(inputs.get(index, "") for index in range(max(inputs) + 1)))
        first = trimmed(node.opset, call, (held[0],), (out[0],)) if out[0] else ()
        return (*nodes, *map(self._with_present, first))

    def _keys(self, node: BoundNode, share: Share, into: Regions, index: int) -> Iterator[LocalNode]:
        """Nodes that take the keys or values of some queries out of input `index`, and make the past and the present.

        Those two have an axis of their own for the heads.
        """
        region, axis, (first, end) = into[index], self.faces(node)[0][index].index("L"), share["S"]
        assert region is not None, "keys are read"
        past, before = self.past[index - 1], self.keys(node)[1]
        yield slice_node(node.opset, index, f"keys{index}", (first,), (end,), (axis,))
        apart: int | str = index
        if axis == 1:
            heads = share["K"][1] - share["K"][0]
            shape = (*region.shape[:2], heads, region.shape[2] // heads)
            apart = f"heads{index}"
            yield LocalNode("Reshape", (index, Const(shape)), (f"apart{index}",))
            yield LocalNode("Transpose", (f"apart{index}",), (apart,), (("perm", (0, 2, 1, 3)),))
        if before:
            yield LocalNode("Concat", (past, apart), (f"present{index}",), (("axis", 2),))
        else:
            yield LocalNode("Identity", (apart,), (f"present{index}",))
        if first:
            yield slice_node(node.opset, f"present{index}", f"past{index}", (0,), (before + first,), (2,))

    def _with_present(self, item: LocalNode) -> LocalNode:
        """An operator with outputs for the present where there is a past, or any of them is wanted."""
        has_past = item.inherit and self.past and len(item.inputs) > self.past[0] and item.inputs[self.past[0]] != ""
        count = 1 + len(self.past) if has_past or (item.inherit and len(item.outputs) > 1) else 0
        unused = tuple(f"unused{number}" for number in range(len(item.outputs), count))
        return replace(item, outputs=(*item.outputs, *unused))

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Two products, of queries with keys and of their weights with values."""
        share = self.share(node, out)
        (result,) = self.held(node, (out[0] or next(filter(None, out)),), share)
        given, before = self.keys(node)
        lo, hi = share.get("T", (0, given + before))
        return 2 * macs(hull_size(result) * (hi - lo))


@register
class Attention(AttentionRule):
    """ONNX's own: queries, keys and values (batch, positions, hidden) or (batch, heads, positions, features)."""

    ops = ("Attention",)
    counting = (("q_num_heads", "N"), ("kv_num_heads", "K"))
    causal = "is_causal"
    past = (4, 5)

    def heads(self, node: BoundNode) -> tuple[int, int]:
        if len(node.in_shape()) == 4:
            return node.in_shape(0)[1], node.in_shape(1)[1]
        return int(node.attribute("q_num_heads")), int(node.attribute("kv_num_heads"))

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        queries, keys = ("BSN", "BLK") if len(node.in_shape()) == 3 else ("BNS.", "BKL.")
        mask = _MASK[-len(node.in_shape(3)) :] if node.has_input(3) and node.in_shape(3) else ""
        inputs = (queries, keys, keys, mask, "BK..", "BK..", "B")
        return inputs, (queries, "BK..", "BK..", "BNS.")[: len(node.outputs)]

    def cuts_queries(self, node: BoundNode) -> bool:
        """Not under a causal mask that counts keys from the end of what is valid, or with a mask for some keys only."""
        if not self.is_causal(node):
            return True
        queries, (given, before) = node.in_shape()[-2 if len(node.in_shape()) == 4 else 1], self.keys(node)
        masked = node.in_shape(3)[-1:] if node.has_input(3) else ()
        is_plain = len(node.outputs) < 4 and not node.has_input(6) and masked in ((), (1,), (before + given,))
        return is_plain and queries == given


class MicrosoftAttention(AttentionRule):
    """Rule of one of onnxruntime's own."""

    domain = "com.microsoft"
    lengths: ClassVar[int] = -1
    """Input that may have one element per item of the batch, or other numbers in one axis."""

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        """Without the batch where the lengths are not one for each of its items."""
        counts = dict(super().counts(node))
        shape = node.in_shape(self.lengths) if node.has_input(self.lengths) else ()
        if len(shape) == 1 and shape != node.out_shape()[:1]:
            del counts["B"]
        return counts


@register
class MultiHeadAttention(MicrosoftAttention):
    """Queries, keys and values apart, (batch, positions, hidden), or packed in an axis behind the heads."""

    ops = ("MultiHeadAttention",)
    causal = "unidirectional"
    past = (6, 7)
    lengths = 4

    def applies(self, node: BoundNode) -> bool:
        """Not where the past has more room than keys, which no kernel for processors has."""
        return super().applies(node) and not node.has_input(8) and not node.has_input(9)

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        queries = "BSN" if len(node.in_shape()) == 3 else "B.N.."
        keys = {3: "BLK", 4: "BKL.", 5: "BLK.."}.get(len(node.in_shape(1)) if node.has_input(1) else 0, "")
        padding = {1: "B", 2: "BT", 3: "BST"}.get(len(node.in_shape(4)) if node.has_input(4) else 0, "")
        inputs = (queries, keys, keys, "M", padding, _MASK, "BK..", "BK..")
        return inputs, (queries[:3], "BK..", "BK..", "BNS.")[: len(node.outputs)]

    def sections(self, node: BoundNode) -> Sequence[int]:
        hidden = node.in_shape(0)[2] if len(node.in_shape()) == 3 else node.out_shape()[2]
        return (hidden, hidden, node.in_shape(3)[0] - 2 * hidden)

    def keys(self, node: BoundNode) -> tuple[int, int]:
        return super().keys(node) if node.has_input(1) else (node.in_shape()[1], 0)

    def cuts_queries(self, node: BoundNode) -> bool:
        """Not where keys are packed with them; under a causal mask only where the past can take keys as they are."""
        if len(node.in_shape()) != 3:
            return False
        is_plain = len(node.outputs) < 4 and node.has_input(1) and len(node.in_shape(1)) == 3 and not node.has_input(3)
        return not self.is_causal(node) or (is_plain and node.in_shape(1)[1] == node.in_shape()[1])


@register
class GroupQueryAttention(MicrosoftAttention):
    """Fewer heads of keys than of queries, with a past, and rotary embeddings worked in.

    Queries are not cut: how many keys come before them are elements of an input.
    """

    ops = ("GroupQueryAttention",)
    past = (3, 4)
    lengths = 5

    def applies(self, node: BoundNode) -> bool:
        """Not where the past is quantised."""
        return super().applies(node) and not node.has_input(12) and not node.has_input(13)

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        queries = "B.N" if node.has_input(1) else "B.M"
        inputs = (queries, "B.K", "B.K", "BK..", "BK..", "B", "", "..", "..", "B.", "BN..", "N", "", "", ".", ".", "B")
        return inputs, ("B.N", "BK..", "BK..", "BN..")[: len(node.outputs)]

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        """Positions that are given are read of the first item only, of a first prompt, whichever item it is."""
        counts = dict(super().counts(node))
        if node.has_input(9):
            counts.pop("B", None)
        return counts

    def sections(self, node: BoundNode) -> Sequence[int]:
        (heads, groups), hidden = self.heads(node), node.in_shape()[2]
        each = hidden // (heads + 2 * groups)
        return (heads * each, groups * each, groups * each)

    def keys(self, node: BoundNode) -> tuple[int, int]:
        return node.in_shape()[1], node.in_shape(3)[2] if node.has_input(3) else 0


@register
class ProjectedAttention(MicrosoftAttention):
    """Queries, keys and values worked out from the same data (batch, positions, hidden) by three matrices.

    In the model's file they are one (:mod:`flexpie_mpi.model.pieces`). Queries are not cut, since the keys are made of
    the same positions.
    """

    domain = OWN
    ops = ("Attention",)
    past = (4,)
    lengths = 7

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        padding = "B" + "." * (len(node.in_shape(7)) - 1) if node.has_input(7) else ""
        inputs = ("B..", ".N", ".N", ".N", "N", "N", "N", padding, ".BN..", "BN..")
        return inputs, ("B.N", ".BN..")[: len(node.outputs)]

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """The matrices are one again, which is done when a session is made."""
        share, joined = self.share(node, out), [LocalNode("Concat", (1, 2, 3), ("matrix",), (("axis", 1),))]
        if node.has_input(4):
            joined.append(LocalNode("Concat", (4, 5, 6), ("bias",), (("axis", 0),)))
        rest = (index if node.has_input(index) else "" for index in (7, 8, 9))
        inputs = (0, "matrix", "bias" if node.has_input(4) else "", *rest)
        outputs, attributes = tuple(range(len(out))), self.attributes(node, share)
        call = LocalNode(node.op, inputs, outputs, attributes, MicrosoftAttention.domain, inherit=True)
        return (*joined, *map(self._with_present, trimmed(node.opset, call, self.held(node, out, share), out)))

    def attributes(self, node: BoundNode, share: Share) -> Attributes:
        attributes, heads = super().attributes(node, share), self.heads(node)[0]
        if not node.attribute("qkv_hidden_sizes"):
            return attributes
        lo, hi = share["N"]
        sizes = tuple(node.in_shape(index)[1] // heads * (hi - lo) for index in (1, 2, 3))
        return (*attributes, ("qkv_hidden_sizes", sizes))

    def keys(self, node: BoundNode) -> tuple[int, int]:
        return node.in_shape()[1], node.in_shape(8)[3] if node.has_input(8) else 0

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Those of the attention, and of the products that make queries, keys and values."""
        data, *matrices = self.in_regions(node, out)[:4]
        return super().flops(node, out) + sum(
            macs(data.size * matrix.shape[1]) for matrix in matrices if data and matrix
        )


# Rotary embeddings


@register
class RotaryEmbedding(HeadRule):
    """Data (batch, positions, hidden) or (batch, heads, positions, features), turned by tables of angles.

    The tables have a row per position that may be asked for, and are read whole; without `position_ids` they have one
    for each position of each item.
    """

    ops = ("RotaryEmbedding",)
    tables: ClassVar[int] = 1
    """First of the two inputs that are tables."""
    positions: ClassVar[int] = 3

    def applies(self, node: BoundNode) -> bool:
        return super().applies(node) and not node.attribute("is_packed_batching", 0)

    def heads(self, node: BoundNode) -> tuple[int, int]:
        if len(node.in_shape()) == 4:
            count = node.in_shape()[1]
        else:
            count = int(node.attribute("num_heads", 0)) or node.in_shape()[2] // (2 * node.in_shape(self.tables)[-1])
        return count, count

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        data = "BSN" if len(node.in_shape()) == 3 else "BNS."
        faces = {0: data, self.positions: "BS" if self._has_positions(node) else ""}
        table = "BS." if len(node.in_shape(self.tables)) == 3 else ""
        faces |= {self.tables: table, self.tables + 1: table}
        return tuple(faces[index] for index in range(len(node.inputs))), (data,)

    def _has_positions(self, node: BoundNode) -> bool:
        """Whether there is a position for each element, not that of the first one."""
        return node.has_input(self.positions) and len(node.in_shape(self.positions)) == 2

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        data, (heads, groups) = self.faces(node)[1][0], self.heads(node)
        return {"B": node.in_shape()[0], "S": node.in_shape()[data.index("S")], "N": heads, "K": groups}

    def prepared(self, node: BoundNode, share: Share, into: Regions) -> Prepared:
        """The position of the first element, where only that is given."""
        first = share["S"][0]
        if not first or not node.has_input(self.positions) or self._has_positions(node):
            return (), {}
        return (LocalNode("Add", (self.positions, Const((first,))), ("first",)),), {self.positions: "first"}

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Two products and a sum for each element."""
        return 3 * hull_size(self.held(node, out, self.share(node, out))[0])


@register
class MicrosoftRotaryEmbedding(RotaryEmbedding):
    """onnxruntime's own, which is given the position of every element, or that of the first."""

    domain = "com.microsoft"
    tables = 2
    positions = 1
