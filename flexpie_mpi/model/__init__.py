"""Models in and segments out: the only room that knows ONNX.

Every rank makes its segments of a skeleton. Only the one that reads the model's file needs what reads and prepares it,
which is imported when :func:`load` is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .model import Model
from .shard import SegmentModel, build
from .weights import WeightStore

if TYPE_CHECKING:
    from .loading import BUILTIN, content_digest, load

__all__ = ["BUILTIN", "Model", "SegmentModel", "WeightStore", "build", "content_digest", "load"]


def __getattr__(name: str) -> Any:
    if name not in ("BUILTIN", "content_digest", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.loading"), name)
