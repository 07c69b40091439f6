"""What is varied: cells of the paper's evaluation, and of what the paper does not vary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from boards import MIB
from networks import AS_CODED, CORRECTED, PAPER
from trials import Cell

CHAIN = "random chain"
"""A made-up network, another one for every trial; `setting` is the spread of its sizes."""

STUDIES = {"paper": 50, "memory": 50, "own": 20, "boards": 20, "sizes": 20, "compute": 20}
"""Trials of each cell, by study."""


def cells(study: str) -> list[Cell]:
    """All cells of a study."""
    return [replace(cell, study=study) for cell in _ROWS[study]()]


def _paper() -> Iterator[Cell]:
    """Section on evaluation: four networks, 5 to 50 boards of 64 to 512 MiB; in both accountings."""
    for accounting in (AS_CODED, CORRECTED):
        for model in PAPER:
            for level in (64, 128, 256, 512):
                yield from (_cell(accounting, model, boards, level) for boards in (5, 10, 15, 20, 50))


def _own() -> Iterator[Cell]:
    """The project's networks on the paper's boards, with so little memory that they need several."""
    rows = {
        "builtin:mobilenet_v2": (16, 32), "builtin:resnet50": (32, 64), "builtin:inception_v1": (16, 32),
        "builtin:vgg16": (512,), "builtin:bert_base": (96, 192),
    }  # fmt: skip
    for model, levels in rows.items():
        for level in levels:
            yield from (_cell(CORRECTED, model, boards, level) for boards in (10, 20, 50))


def _memory() -> Iterator[Cell]:
    """Boards of unequal memory, drawn from three levels."""
    rows = (
        (AS_CODED, "InceptionResNetV2", (64, 96, 128), (8, 12, 20)),
        (AS_CODED, "InceptionResNetV2", (40, 64, 96), (12, 20)),
        (AS_CODED, "ResNet50", (48, 64, 96), (8, 12, 20)),
        (AS_CODED, "EfficientNetB1", (32, 64, 96), (8, 12, 20)),
        (AS_CODED, "MobileNetV2", (16, 24, 32), (8, 12, 20)),
        (CORRECTED, "InceptionResNetV2", (64, 96, 128), (12, 20)),
        (CORRECTED, "ResNet50", (48, 64, 96), (8, 12, 20)),
        (CORRECTED, "EfficientNetB1", (32, 64, 96), (8, 12, 20)),
        (CORRECTED, "MobileNetV2", (16, 24, 32), (8, 12, 20)),
        (CORRECTED, "builtin:resnet50", (32, 48, 96), (8, 12, 20)),
        (CORRECTED, "builtin:mobilenet_v2", (16, 24, 32), (8, 12, 20)),
        (CORRECTED, "builtin:inception_v1", (12, 16, 24), (8, 12, 20)),
        (CORRECTED, "builtin:vgg16", (128, 256, 512), (8, 12, 20)),
        (CORRECTED, "builtin:bert_base", (96, 128, 192), (8, 12, 20)),
    )
    for accounting, model, levels, counts in rows:
        yield from (_cell(accounting, model, boards, *levels) for boards in counts)


def _boards() -> Iterator[Cell]:
    """From as many boards as the fewest stages that memory allows."""
    rows = (
        (AS_CODED, "EfficientNetB1", 24, (7, 8, 10, 14, 20)),
        (CORRECTED, "InceptionResNetV2", 64, (9, 10, 12, 16, 24)),
        (CORRECTED, "builtin:resnet50", 32, (8, 9, 10, 12, 16, 24)),
    )
    for accounting, model, level, counts in rows:
        yield from (_cell(accounting, model, boards, level) for boards in counts)


def _sizes() -> Iterator[Cell]:
    """Tensors of equal and of very different size: 24 units of a byte each, 12 boards of three."""
    for spread in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        yield Cell("", CORRECTED, CHAIN, 12, (3,), spread)


def _compute() -> Iterator[Cell]:
    """Computing counts: from nothing to much more than sending; boards of three speeds."""
    for model, level in (("builtin:mobilenet_v2", 24), ("builtin:resnet50", 64), ("builtin:vgg16", 512)):
        for ratio in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0):
            yield replace(_cell(CORRECTED, model, 8, level), setting=ratio)


_ROWS = {
    "paper": _paper, "memory": _memory, "own": _own, "boards": _boards, "sizes": _sizes, "compute": _compute,
}  # fmt: skip


def _cell(accounting: str, model: str, boards: int, *levels: int) -> Cell:
    return Cell("", accounting, model, boards, tuple(level * MIB for level in levels), 0.0)
