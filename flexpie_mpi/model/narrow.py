"""Only what is asked for: a model in which no value holds more than what is read of it.

Where an output is some positions of a value (the last token's logits, a class token), all that is done position by
position before it has these positions only. The backward walk over a segment knows what is read of which value
(:mod:`flexpie_mpi.lower.shards`): over all nodes, on one rank, it finds the smaller model.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ..core.graph import Graph
from ..core.layout import Layout
from ..lower.shards import Held, blocks_flops, node_flops, segment_shard
from ..ops import whole
from .model import Model
from .shard import build
from .walks import replace

WORTH = 0.02
"""Share of all work that must fall away: a convolution that steps over the last row is no reason to change a model."""


def narrowed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model in canonical form without what its outputs do not need; `proto` itself where that is little."""
    model = Model.from_proto(proto)
    graph = model.graph
    shard = segment_shard(graph, 0, len(graph.nodes), Layout("single", (0,)), 0)
    everything = sum(map(node_flops, graph.bound))
    if shard is None or blocks_flops(graph, shard.blocks) >= (1 - WORTH) * everything:
        return proto
    inputs, outputs = (_whole(graph, names) for names in (graph.inputs, graph.outputs))
    made = build(model, model.name, shard.blocks, inputs, outputs, cuts_weights=False)
    tensors = made.proto.graph.initializer
    replace(tensors, [model.tensor_proto(each.name) if each.name in made.weights else each for each in tensors])
    return made.proto


def _whole(graph: Graph, names: Iterable[str]) -> Held:
    return tuple((name, whole(graph.value(name))) for name in names)
