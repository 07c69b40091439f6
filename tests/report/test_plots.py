"""Pictures can be read whatever the rows: no words over words, nothing cut off, both themes, no display."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from random import Random

import pytest
from matplotlib.image import imread

from flexpie_mpi.report.figure import image, painted
from flexpie_mpi.report.page import make_page
from flexpie_mpi.report.theme import DARK, LIGHT

from . import rows
from .overlaps import stumbles

LONG = "builtin:a_very_long_model_name_from_a_hub_v1_5_quantised_for_phones"
FEW = ("auto", "fused", "rows")
FAR = "a-testbed-with-quite-a-long-name-of-many-boards"


def named(found):
    """The same rows on boards with long names and much memory."""
    for result in found:
        ranks = tuple(
            replace(rank, device=f"raspberry-pi-4-model-b-{rank.rank}", memory_bytes=8_000_000_000)
            for rank in result.per_rank
        )
        yield replace(result, per_rank=ranks)


STUDIES = {
    "paper": rows.paper,
    "scaling": lambda: rows.scaling(models=["resnet18", "vgg16"], testbeds=["pi4x8", "pi-mixed8"]),
    "long names": lambda: [
        *named([*rows.scaling(models=[LONG], testbeds=[FAR]), *rows.cell(Random(0), LONG, FAR, 4)]),
        *rows.cell(Random(1), "x", "y", 2),
    ],
    "two cells": lambda: [
        *rows.cell(Random(0), "builtin:resnet18", "pi4x4", 4),
        *rows.cell(Random(1), LONG, "jetson-pi", 3, ("flexpie", "rows")),
    ],
    "many models": lambda: [
        result for place in range(9) for result in rows.cell(Random(place), f"net_{place}_large", "pi4", 4, FEW)
    ],
    "one planner": lambda: list(rows.cell(Random(0), "builtin:resnet18", "pi4x4", 4, ("auto",))),
    "one board": lambda: list(rows.cell(Random(0), "builtin:resnet18", "pi4x4", 1)),
}  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_nothing_is_in_the_way_of_reading(study):
    page = make_page(STUDIES[study](), ["made.jsonl"])
    pictures = [picture for section in page.sections for picture in section.pictures()]
    assert pictures
    found = {picture.stem: stumbles(painted(picture.draw, LIGHT)) for picture in pictures}
    assert not {stem: sentences for stem, sentences in found.items() if sentences}


def test_the_check_sees_words_over_words():
    def draw(figure, theme):
        axes = figure.subplots()
        axes.set_xticks([0, 0.001, 1], labels=["first", "second", "third"])
        axes.text(0.5, 0.5, "wide " * 60)

    found = stumbles(painted(draw, LIGHT))
    assert any(sentence == "'first' lies over 'second'" for sentence in found)
    assert any(sentence.endswith("is cut off") for sentence in found)


def test_a_picture_is_drawn_in_the_colours_of_its_theme_and_always_the_same():
    page = make_page(list(rows.cell(Random(0), "builtin:resnet18", "pi4x4", 4)), ["made.jsonl"])
    picture = next(page.sections[1].pictures())
    corners = []
    for theme in (LIGHT, DARK):
        figure = painted(picture.draw, theme)
        pixels = imread(BytesIO(image(figure, theme, "png")), format="png")
        assert pixels.shape[1] == 1350 and len({tuple(pixel) for pixel in pixels[::20, ::20, :3].reshape(-1, 3)}) > 3
        corners.append("#" + "".join(f"{round(value * 255):02x}" for value in pixels[0, 0, :3]))
    assert image(figure, theme, "svg") == image(painted(picture.draw, theme), theme, "svg")
    assert corners == [LIGHT.paper, DARK.paper]
