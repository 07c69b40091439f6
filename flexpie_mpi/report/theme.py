"""Colours and marks of pictures: the same meaning everywhere, told apart on light and dark, by all eyes.

Neighbours in one picture (planners, kinds of layouts, kinds of events) keep apart in OKLab for normal, protanope and
deuteranope sight alike; a test measures it. Where lines cross, marks tell planners apart as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.layout import KINDS


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours by meaning, as ``#rrggbb``."""

    name: str  # ``light`` or ``dark``
    # `paper`, `ink`, `faint` and `line`: the ground, text, lesser text, and lines of a grid
    paper: str
    ink: str
    faint: str
    line: str
    # `planners`, `kinds` and `events`: `kinds` of layouts share the colours of the planners that are named after them
    planners: Mapping[str, str]
    kinds: Mapping[str, str]
    events: Mapping[str, str]
    series: tuple[str, ...]  # for curves of anything else, in the order in which they are drawn

    def planner(self, name: str) -> str:
        """The colour of a planner; one that is not known is drawn in ink."""
        return self.planners.get(name, self.ink)

    def kind(self, name: str) -> str:
        """The colour of a kind of layout; one that has none of its own takes that of a series."""
        return self.kinds.get(name) or self.series[list(KINDS).index(name) % len(self.series)]


def mixed(colour: str, ground: str, share: float) -> str:
    """A colour that covers only a share of its ground.

    >>> mixed("#ff0000", "#ffffff", 0.2)
    '#ffcccc'
    """
    pairs = ((int(text[first : first + 2], 16) for text in (colour, ground)) for first in (1, 3, 5))
    return "#" + "".join(f"{round(share * above + (1 - share) * below):02x}" for above, below in pairs)


_LIGHT_KINDS = {
    "rows": "#1f5fbf",
    "columns": "#81c5fd",
    "grid": "#70d797",
    "channels": "#642401",
    "batch": "#6f0062",
    "replicated": "#d05d3e",
    "single": "#929da7",
}
_DARK_KINDS = {
    "rows": "#4a8df0",
    "columns": "#6eccff",
    "grid": "#b0d5a2",
    "channels": "#a85307",
    "batch": "#845678",
    "replicated": "#e08c15",
    "single": "#9ba1ae",
}


def _planners(kinds: Mapping[str, str], **others: str) -> dict[str, str]:
    """Colours of the planners that are named after a kind, and of the others."""
    return others | {kind: colour for kind, colour in kinds.items() if kind != "replicated"}


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1f2328",
    faint="#59636e",
    line="#d8dde3",
    planners=_planners(
        _LIGHT_KINDS,
        auto="#d62839",
        flexpie="#9583fd",
        fused="#0b7b87",
        layerwise="#d09000",
        megatron="#3b0424",
        sequence="#0204ab",
    ),
    kinds=_LIGHT_KINDS,
    events={"compute": "#1f5fbf", "send": "#d09000", "receive": "#6f0062", "wait": "#b9c1cb"},
    series=("#1f5fbf", "#d09000", "#0b7b87", "#6f0062", "#d05d3e", "#81c5fd", "#642401", "#70d797"),
)

DARK = Theme(
    name="dark",
    paper="#0d1117",
    ink="#f0f6fc",
    faint="#9198a1",
    line="#30363d",
    planners=_planners(
        _DARK_KINDS,
        auto="#ff6b5e",
        flexpie="#703dc6",
        fused="#8bfefe",
        layerwise="#ffeb4f",
        megatron="#792300",
        sequence="#61216e",
    ),
    kinds=_DARK_KINDS,
    events={"compute": "#4a8df0", "send": "#ffd166", "receive": "#3fbf8f", "wait": "#4b535d"},
    series=("#4a8df0", "#ffd166", "#8bfefe", "#ff6b5e", "#a85307", "#b0d5a2", "#845678", "#6eccff"),
)

THEMES = (LIGHT, DARK)

MARKS = {
    "auto": "D",
    "flexpie": "X",
    "fused": "^",
    "layerwise": "v",
    "rows": "o",
    "columns": "s",
    "grid": "P",
    "channels": "p",
    "batch": "h",
    "single": "d",
    "megatron": "<",
    "sequence": ">",
}
"""Marks of planners, in the words of matplotlib."""

SERIES_MARKS = ("o", "s", "^", "D", "v", "P", "X")
"""Marks of a series: one fewer than its colours, so that a colour that comes again has another mark."""


def mark(planner: str) -> str:
    """The mark of a planner; one that is not known is a star."""
    return MARKS.get(planner, "*")
