"""From a model as read to the skeleton and weights file that later starts use as they are.

How a model is loaded; what is between the lines is done here, in the sandbox's process, once for each content::

    read_source    bytes checked, large weights left where they are
    bind_axes      sizes of axes by their symbols
    bind_inputs    the shapes of the inputs made static
    select_outputs the outputs that are wanted, and which positions of them
    ---------------------------------------------------------------------------------------------------
    Original       onnxruntime must accept the file as it is
    _plain         functions inlined, group normalisations by instances, tables shared
    preoptimise    constants folded by onnxruntime, without the weights that folding cannot touch
    drop_signs, canonicalise
    infer_types    onnxruntime must accept the result; sizes are those that a run on made-up inputs shows
    Original       the same run of the file must give the same outputs, or the next way is tried:
                   functions inlined by onnxruntime; nothing folded
    narrowed       without what the outputs do not need; then all as from drop_signs on
    in_pieces      weights laid out so that what a rank has of them is one box
    with_moments   normalisations over space in two steps
    ---------------------------------------------------------------------------------------------------
    read_prepared  the skeleton, and where the data of its stubs are
    Model          the graph of the skeleton, on every rank
"""

from __future__ import annotations

import hashlib
import logging
from copy import deepcopy
from pathlib import Path

import onnx

from ..core.budget import Budget
from ..core.errors import ModelError
from ..core.graph import BoundNode
from ..ops import rule_for, whole
from .canonicalise import canonicalise
from .model import convert
from .moments import by_instances, with_moments
from .narrow import narrowed
from .pieces import in_pieces
from .preoptimise import STORED_BYTES, WEIGHTS_FILE, preoptimise
from .rewrite import drop_functions, drop_signs, inline_functions, share_tables
from .static import infer_types
from .trial import Measured, Original
from .weights import Source, StoredTensor, byte_length, digest_bytes, raw_bytes, stub, stub_entries

log = logging.getLogger(__name__)

FORMAT = 14
"""Raised whenever what is written here changes."""
SKELETON_FILE = "skeleton.onnx"
CHECK_FILE = "check"
"""Holds what tells a whole folder from a damaged one: the digest of the skeleton and the size of the weights."""

_SOURCE = "source"
"""Location of weights that are still where the model file has them."""


def prepare(source: Source, path: Path | None, folder: Path, budget: Budget, *, runs: bool = True) -> None:
    """Make `folder` with the skeleton of a model and the weights that are not in the model's own files.

    `source` has static inputs and is not changed; the file at `path`, which it was read from, says what the model
    computes, or `source` itself where there is none. If it may not be run on made-up inputs (`runs`), sizes are those
    of inference, and nothing is compared. Raises ModelError when onnxruntime does not accept the model, or what is made
    of it computes something else.
    """
    folder.mkdir()
    original = Original(path, source, budget, runs=runs)
    ready, weights = _rewritten(source, original, folder, budget), folder / WEIGHTS_FILE
    ready = in_pieces(_narrowed(ready, original, weights, budget), weights)
    with_moments(ready.proto)
    _store_constants(ready, folder)
    (folder / SKELETON_FILE).write_bytes(ready.proto.SerializeToString(deterministic=True))
    (folder / CHECK_FILE).write_text(_check(folder))


def read_prepared(folder: Path, source: Source) -> tuple[onnx.ModelProto, dict[str, StoredTensor]]:
    """The skeleton that :func:`prepare` wrote, and where the data of each of its stubs is.

    `source` is the model it was made of, or one of equal content.

    Raises ModelError when the folder is not as it was written.
    """
    try:
        is_whole = (folder / CHECK_FILE).read_text() == _check(folder)
    except (OSError, UnicodeError):
        is_whole = False
    if not is_whole:
        raise ModelError(f"The prepared model in {folder} is damaged.")
    proto = onnx.ModelProto.FromString((folder / SKELETON_FILE).read_bytes())
    stubs = [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return proto, {tensor.name: _place(tensor, folder, source) for tensor in stubs}


def _check(folder: Path) -> str:
    weights = folder / WEIGHTS_FILE
    size = weights.stat().st_size if weights.exists() else 0
    return f"{hashlib.blake2b((folder / SKELETON_FILE).read_bytes(), digest_size=16).hexdigest()} {size}"


def _place(tensor: onnx.TensorProto, folder: Path, source: Source) -> StoredTensor:
    entries = stub_entries(tensor)
    if entries["location"] == _SOURCE:
        return source.stored[entries["source"]]
    offset, length = int(entries["offset"]), int(entries["length"])
    return StoredTensor(tensor.data_type, tuple(tensor.dims), folder / entries["location"], offset, length)


def _rewritten(source: Source, original: Original, folder: Path, budget: Budget) -> Source:
    """The model with its constants folded, or, where that is not accepted or computes something else, as it is.

    Functions are inlined here, so that weights behind them can stay where they are; onnxruntime inlines them where that
    has changed what the model computes.
    """
    original.check_accepted()
    has_functions, reason = bool(source.proto.functions), None
    for inlines in (True, False)[: 1 + has_functions]:
        try:
            return _finished(preoptimise(_plain(source, inlines=inlines), folder), original, budget)
        except ModelError as error:
            reason = reason or error
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    assert reason is not None, "every way but a return ends in one"
    try:
        ready = _finished(_plain(source, inlines=True), original, budget)
    except ModelError:
        raise reason from None
    log.warning("the model is used without constant folding: %s", reason)
    return ready


def _narrowed(source: Source, original: Original, file: Path, budget: Budget) -> Source:
    """The model without what its outputs do not need, where that is accepted and computes the same."""
    smaller = narrowed(source, file)
    if smaller is source:
        return source
    try:
        return _finished(smaller, original, budget)
    except ModelError as error:
        log.warning("more is computed than the outputs need: %s", error)
        return source


def _plain(source: Source, *, inlines: bool) -> Source:
    proto = deepcopy(source.proto)
    if inlines:
        proto = inline_functions(proto)
    by_instances(proto)
    share_tables(proto)
    return Source(proto, source.stored)


def _finished(source: Source, original: Original, budget: Budget) -> Source:
    """A model in the form of a Graph, with types, that onnxruntime has accepted and that computes what it should."""
    drop_functions(source.proto)
    drop_signs(source.proto)
    canonicalise(source.proto)
    run = infer_types(source, budget, runs=original.runs)
    for node in convert(source.proto).bound:
        _try_rule(node)
    _check_results(original, run)
    return source


def _try_rule(node: BoundNode) -> None:
    """Ask the rule of an operator about all of a node once: what makes no sense to it ends here, not in a plan."""
    out = tuple(map(whole, node.outputs))
    if all(region is None for region in out):
        return
    try:
        rule = rule_for(node)
        rule.cut_axes(node)
        rule.in_regions(node, out)
        rule.flops(node, out)
    except Exception as error:  # whatever indices and numbers lead to that no exporter writes
        raise ModelError(
            f"the attributes and shapes of node '{node.node.name}' ({node.op}) do not go together ({error})."
        ) from error


def _check_results(original: Original, run: Measured) -> None:
    reason = original.reason_to_skip or ("it does not run on made-up inputs" if run.outputs is None else "")
    if reason:
        log.warning("what is made of the model is not compared with its file: %s", reason)
    elif run.outputs is not None and not original.agrees(run.feeds, run.outputs):
        raise ModelError("what is made of it does not compute what onnxruntime computes with the file.")


def _store_constants(source: Source, folder: Path) -> None:
    """Move the data of constants over 1 KiB to the weights file, and say in every stub where its data is."""
    path = folder / WEIGHTS_FILE
    with path.open("ab") as file:
        for tensor in source.proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _relocate(tensor, source, folder)
            elif (byte_length(tensor.data_type, tensor.dims) or 0) > STORED_BYTES:
                raw = raw_bytes(tensor)
                digest = digest_bytes(tensor.data_type, tensor.dims, raw)
                stub(tensor, digest, **_entries(file.seek(0, 2), len(raw)))
                file.write(raw)


def _relocate(tensor: onnx.TensorProto, source: Source, folder: Path) -> None:
    entries = stub_entries(tensor)
    stored = source.stored[entries["source"]]
    if stored.path.parent == folder:
        stub(tensor, entries["digest"], **_entries(stored.offset, stored.length))
    else:
        stub(tensor, entries["digest"], location=_SOURCE, source=entries["source"])


def _entries(offset: int, length: int) -> dict[str, str]:
    return {"location": WEIGHTS_FILE, "offset": str(offset), "length": str(length)}
