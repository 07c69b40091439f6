"""Colours keep apart for all eyes, and on both grounds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from flexpie_mpi.core.choices import PLANNERS
from flexpie_mpi.core.layout import KINDS as LAYOUT_KINDS
from flexpie_mpi.core.timeline import KINDS as EVENT_KINDS
from flexpie_mpi.report.theme import DARK, LIGHT, MARKS, THEMES, mark

SIGHT = {
    "normal": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
"""Machado, Oliveira and Fernandes (2009): what linear light becomes."""

CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
LAB = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
       [0.0259040371, 0.7827717662, -0.808675766]]  # fmt: skip
"""OKLab (Ottosson 2020), in which distances are about as they are seen."""

APART = 0.115


def linear(colour):
    """Light of the three channels of an sRGB colour, each from 0 to 1."""
    values = np.array([int(colour[first : first + 2], 16) / 255 for first in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """How well two colours can be told apart by lightness, from 1 to 21, as WCAG 2 defines it."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return round((high + 0.05) / (low + 0.05), 2)


def seen(colour, sight):
    light = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    return np.array(LAB) @ np.cbrt(np.array(CONES) @ light)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("group", ["planners", "kinds", "events"])
def test_colours_of_one_picture_are_told_apart(theme, sight, group):
    found = {name: seen(colour, sight) for name, colour in getattr(theme, group).items()}
    near = {
        (one, other): distance
        for one, other in combinations(found, 2)
        if (distance := float(np.linalg.norm(found[one] - found[other]))) < APART
    }
    assert not near


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_colours_stand_out_from_the_ground(theme):
    colours = [*theme.planners.values(), *theme.kinds.values(), *theme.events.values(), *theme.series]
    assert all(contrast(colour, theme.paper) > 1.7 for colour in colours)
    assert contrast(theme.ink, theme.paper) > 12 and contrast(theme.faint, theme.paper) > 4.5
    assert all(max(contrast(theme.ink, colour), contrast(theme.paper, colour)) > 3 for colour in colours)
    assert contrast("#000000", "#ffffff") == 21.0


def test_everything_that_is_drawn_has_a_colour_and_a_mark():
    for theme in THEMES:
        assert set(theme.kinds) == set(LAYOUT_KINDS) and set(theme.events) == set(EVENT_KINDS)
        assert set(PLANNERS) - set(theme.planners) == {"random"} and theme.planner("random") == theme.ink
        assert all(theme.planners[kind] == theme.kinds[kind] for kind in theme.planners if kind in theme.kinds)
    assert set(MARKS) == set(LIGHT.planners) == set(DARK.planners) and len(set(MARKS.values())) == len(MARKS)
    assert mark("random") == "*"
