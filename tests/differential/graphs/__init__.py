"""How small graphs are drawn: node by node, each tried on plain onnxruntime before the next is chosen."""

from . import control, dense, lengths, shaping  # noqa: F401 - each adds its steps
from .drawing import draw_graph

__all__ = ["draw_graph"]
