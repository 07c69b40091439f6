"""Only what is asked for: a model in which no value holds more than what is read of it.

Where an output is some positions of a value (the last token's logits, a class token), all that is done position by
position before it has these positions only. The backward walk over a segment knows what is read of which value
(:mod:`flexpie_mpi.lower.shards`): over all nodes, on one rank, it finds the smaller model.

Products that are split apart become several before (:mod:`.branches`), where that costs no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.graph import Graph
from ..core.layout import Layout
from ..core.program import NodeBlock
from ..lower.shards import Held, blocks_flops, node_flops, segment_shard
from ..ops import whole
from .branches import branched
from .model import Model, convert
from .shard import build
from .weights import Source, WeightStore, moved

WORTH = 0.02
"""Share of all work that must fall away: a convolution that steps over the last row is no reason to change a model."""


def narrowed(source: Source, file: Path) -> Source:
    """A model in canonical form, with types, without what its outputs do not need; `source` where that is little.

    What is left of large weights is written at the end of `file`.
    """
    before = sum(map(node_flops, convert(source.proto).bound))
    for proto, most in ((branched(source.proto), before), (source.proto, (1 - WORTH) * before)):
        if proto is not None:
            graph = convert(proto)
            shard = segment_shard(graph, 0, len(graph.nodes), Layout("single", (0,)), 0)
            if shard is not None and blocks_flops(graph, shard.blocks) <= most:
                return _built(Source(proto, source.stored), shard.blocks, file)
    return source


def _built(source: Source, blocks: Sequence[NodeBlock], file: Path) -> Source:
    """The model of these blocks, its weights the slices that they read."""
    model, store = Model.from_proto(source.proto), WeightStore(source.large())
    inputs, outputs = (_whole(model.graph, names) for names in (model.graph.inputs, model.graph.outputs))
    made, stored = build(model, model.name, blocks, inputs, outputs), dict(source.stored)
    for tensor in made.proto.graph.initializer:
        constant, region = made.weights.get(tensor.name, ("", None))
        if constant == tensor.name:
            tensor.CopyFrom(model.tensor_proto(constant))
        elif constant:
            stored[tensor.name] = moved(tensor, store.read(constant, region).tobytes(), file)
    return Source(made.proto, stored)


def _whole(graph: Graph, names: Iterable[str]) -> Held:
    return tuple((name, whole(graph.value(name))) for name in names)
