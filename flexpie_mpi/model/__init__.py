"""Models in and segments out: the only room that knows ONNX."""

from .load import BUILTIN, load
from .model import Model
from .shard import SegmentModel, build
from .weights import WeightStore

__all__ = ["BUILTIN", "Model", "SegmentModel", "WeightStore", "build", "load"]
