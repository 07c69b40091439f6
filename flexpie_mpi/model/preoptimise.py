"""onnxruntime as a model compiler: constants folded, BatchNorm folded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnxruntime

from .heldout import held_out, misused
from .read import Source, read_source
from .session import create, plain_options, with_weights

STORED_BYTES = 1 << 10
"""Constants of more bytes than this are kept in a file beside the prepared model."""
WEIGHTS_FILE = "weights.bin"

_MODEL_FILE = "optimised.onnx"
_UNWANTED = ("MatMulAddFusion",)
"""Makes Reshape, Gemm, Reshape of a 3-D MatMul and Add, under names that a later session of the result falls over."""


def preoptimise(source: Source, folder: Path) -> Source:
    """The model after onnxruntime's basic level, with weights in `folder` and those it does not touch left in place.

    Weights that folding cannot reach enter the optimising session as inputs, without data, so that they need no memory.

    Raises
    ------
    ModelError
        onnxruntime does not accept the model, or writes one that cannot be read back.
    """
    held = held_out(source.proto.graph, source.large())
    while True:
        optimised = _optimise(source, held, folder)
        wrong = misused(optimised.proto.graph, held)
        if not wrong:
            return optimised
        held -= wrong


def _optimise(source: Source, held: Collection[str], folder: Path) -> Source:
    proto, arrays = with_weights(source, held)
    path = folder / _MODEL_FILE
    for old in (path, folder / WEIGHTS_FILE):
        old.unlink(missing_ok=True)
    options = plain_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(prefix + "file_name", WEIGHTS_FILE)
    options.add_session_config_entry(prefix + "min_size_in_bytes", str(STORED_BYTES))
    create(proto, options, arrays, _UNWANTED)
    optimised = read_source(path, STORED_BYTES)
    path.unlink()
    return _put_back(optimised, source, held)


def _put_back(optimised: Source, source: Source, held: Collection[str]) -> Source:
    """Make weights that were held out constants again; their bytes are where they were."""
    graph = optimised.proto.graph
    inputs = [value for value in graph.input if value.name not in held]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(tensor for tensor in source.proto.graph.initializer if tensor.name in held)
    large = source.large()
    return Source(optimised.proto, optimised.stored | {name: large[name] for name in held})
