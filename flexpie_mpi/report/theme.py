"""Colours and marks of pictures: the same meaning everywhere, told apart on light and dark, by all eyes.

Neighbours in one picture (planners, kinds of layouts, kinds of events) keep apart in OKLab for normal, protanope and
deuteranope sight alike; a test measures it. Where lines cross, marks tell planners apart as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.layout import KINDS
from ..core.timeline import KINDS as EVENTS


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


_KINDS = {
    "rows": ("#1f5fbf", "#4a8df0", "o"),
    "columns": ("#81c5fd", "#6eccff", "s"),
    "grid": ("#70d797", "#b0d5a2", "P"),
    "channels": ("#642401", "#a85307", "p"),
    "batch": ("#6f0062", "#845678", "h"),
    "replicated": ("#d05d3e", "#e08c15", ""),
    "single": ("#929da7", "#9ba1ae", "d"),
}
"""Colours of kinds of layouts on light and on dark, and the mark of the planner that is named after each, if one is."""

_PLANNERS = {
    "auto": ("#d62839", "#ff6b5e", "D"),
    "flexpie": ("#9583fd", "#703dc6", "X"),
    "fused": ("#0b7b87", "#8bfefe", "^"),
    "layerwise": ("#d09000", "#ffeb4f", "v"),
    "megatron": ("#3b0424", "#792300", "<"),
    "sequence": ("#0204ab", "#61216e", ">"),
} | {kind: looks for kind, looks in _KINDS.items() if looks[2]}
"""The same of all planners."""


def _theme(name: str, ground: Sequence[str], events: Sequence[str], series: tuple[str, ...]) -> Theme:
    place, (paper, ink, faint, line) = ("light", "dark").index(name), ground
    planners, kinds = ({key: looks[place] for key, looks in each.items()} for each in (_PLANNERS, _KINDS))
    return Theme(name, paper, ink, faint, line, planners, kinds, dict(zip(EVENTS, events, strict=True)), series)


LIGHT = _theme(
    "light",
    ("#ffffff", "#1f2328", "#59636e", "#d8dde3"),
    ("#1f5fbf", "#d09000", "#6f0062", "#b9c1cb"),
    ("#1f5fbf", "#d09000", "#0b7b87", "#6f0062", "#d05d3e", "#81c5fd", "#642401", "#70d797"),
)
DARK = _theme(
    "dark",
    ("#0d1117", "#f0f6fc", "#9198a1", "#30363d"),
    ("#4a8df0", "#ffd166", "#3fbf8f", "#4b535d"),
    ("#4a8df0", "#ffd166", "#8bfefe", "#ff6b5e", "#a85307", "#b0d5a2", "#845678", "#6eccff"),
)
THEMES = (LIGHT, DARK)

MARKS = {planner: shape for planner, (_, _, shape) in _PLANNERS.items()}
"""Marks of planners, in the words of matplotlib."""

SERIES_MARKS = ("o", "s", "^", "D", "v", "P", "X")
"""Marks of a series: one fewer than its colours, so that a colour that comes again has another mark."""


def mark(planner: str) -> str:
    """The mark of a planner; one that is not known is a star."""
    return MARKS.get(planner, "*")
