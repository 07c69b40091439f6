"""How a model of one operator is drawn: one file per family, a function per group of operators that are alike."""

from . import (  # noqa: F401 - each adds what it draws
    contrib,
    elementwise,
    moving,
    normalising,
    picking,
    products,
    quantised,
    reducing,
    resampling,
    reshaping,
    sequences,
    windows,
)
from .drawing import draw_operator

__all__ = ["draw_operator"]
