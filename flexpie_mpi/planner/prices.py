"""Prices of kernels for thousands of shards at once: every distinct piece of work is described and priced once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ..core.graph import Graph
from ..cost.distinct import distinct_rows
from ..cost.kernels import Kernel, describe, followers
from ..cost.model import CostModel
from .maps import Boxes, signature


class KernelPrices:
    """Seconds of a graph's kernels on the reference device, remembered by shape."""

    def __init__(self, graph: Graph, cost: CostModel) -> None:
        self._graph = graph
        self._cost = cost
        self._known: dict[Hashable, dict[tuple[float, ...], float]] = {}

    @property
    def priced(self) -> int:
        """Distinct pieces of work priced so far."""
        return sum(map(len, self._known.values()))

    def seconds(
        self, kernel: Kernel, out: Boxes, inputs: Sequence[Boxes | None], sums: np.ndarray, active: np.ndarray
    ) -> np.ndarray:
        """Seconds of each of n shards of a kernel, float array (n,).

        Parameters
        ----------
        kernel : Kernel
        out : Boxes
            What each computes of the anchor's first output.
        inputs : sequence of Boxes or None
            What each reads of the anchor's inputs.
        sums : bool array (n,)
            Whether the kernel takes an addition along.
        active : float array (n,)
        """
        node = self._graph.bound[kernel.anchor]
        first = next((box for box in inputs if box is not None), out)
        keys = np.column_stack((out.extents, first.extents, sums, active))
        index, inverse = distinct_rows(keys)
        behind = followers(self._graph, kernel)
        known = self._known.setdefault((signature(node), behind), {})
        rows = [tuple(row) for row in keys[index].tolist()]
        missing = [place for place, row in enumerate(rows) if row not in known]
        if missing:
            at = index[missing]
            extents = [None if box is None else box.take(at).extents for box in inputs]
            work = describe(node, out.take(at).extents, extents, behind)
            work["sums"] = sums[at]
            prices = self._cost.compute_s(work, active[at])
            known.update(zip((rows[place] for place in missing), prices.tolist(), strict=True))
        found: np.ndarray = np.array([known[row] for row in rows])[inverse]
        return found
