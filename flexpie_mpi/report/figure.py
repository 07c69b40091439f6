"""Pictures: drawn once per theme, saved as PNG and SVG, without a display and without the state of pyplot.

Here is also what plots have in common: scales with few round numbers, panels side by side, and legends outside of the
data. Importing this module needs matplotlib; nothing else of the reports imports it but what draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from ..core.errors import ReportError
from ..files.atomic import replacing
from .tables import shorten
from .theme import DARK, SERIES_MARKS, THEMES, Theme

try:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch as Patch
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ReportError(f"drawing needs matplotlib: pip install 'flexpie-mpi[plots]' ({error})") from error

WIDTH = 9.0
"""Width in inches; at `SHOWN` pixels per inch a README shows it at its full width."""

SHOWN, SHARP = 100, 150
"""Pixels per inch as embedded, and as saved."""

Draw = Callable[[Figure, Theme], None]
"""Fills a figure of `WIDTH`; what needs another height says so with ``figure.set_figheight``."""


def painted(draw: Draw, theme: Theme) -> Figure:
    """A figure with the colours and letters of `theme`, drawn by `draw`."""
    with _style(theme):
        figure = Figure(figsize=(WIDTH, 4.5), dpi=SHOWN, layout="constrained")
        draw(figure, theme)
        return figure


def save(draw: Draw, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``STEM.png``, ``STEM.svg``, ``STEM-dark.png`` and ``STEM-dark.svg`` and return their paths.

    Raises DataError when one cannot be written.
    """
    paths = []
    for theme in THEMES:
        figure = painted(draw, theme)
        for kind in ("png", "svg"):
            path = folder / f"{stem}{'-dark' if theme is DARK else ''}.{kind}"
            with replacing(path) as part:
                part.write_bytes(image(figure, theme, kind))
            paths.append(path)
    return tuple(paths)


def image(figure: Figure, theme: Theme, kind: str) -> bytes:
    """A painted figure as a file of `kind` ``png`` or ``svg``; the same figure gives the same bytes."""
    file = BytesIO()
    with _style(theme):
        figure.savefig(file, format=kind, dpi=SHARP, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """The settings of one theme, for as long as the block lasts."""
    settings: Any = {rc: getattr(theme, meaning) for meaning, names in _COLOURED.items() for rc in names}
    with rc_context(_LETTERS | settings):
        yield


_LETTERS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # a $ in a name is a $
    "svg.fonttype": "path",
    "svg.hashsalt": "flexpie-mpi",  # the same rows give the same file
}


_COLOURED = {
    "faint": ("axes.edgecolor", "xtick.color", "ytick.color", "axes.labelcolor"),
    "ink": ("text.color", "axes.titlecolor", "legend.labelcolor"),
    "paper": ("figure.facecolor", "axes.facecolor", "savefig.facecolor"),
    "line": ("grid.color",),
}
"""Settings by the colour of a theme that they get."""


# What plots have in common

_STEPS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)

LEAST = 6
"""A title keeps at least so many letters of a name."""


def ratio_scale(axes: Any, least: float, most: float, inches: float, *, is_cut: bool = False) -> None:
    """A logarithmic x-axis for times over the best one's, with ticks as close as labels allow on so many inches.

    Where it `is_cut`, the last tick says that more lies there.
    """
    low, high = min(least, 1.0) / 1.01, max(most, 1.05) * (1.0 if is_cut else 1.02)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    room = inches / log10(high / low)  # inches per factor of ten
    kept: list[float] = []
    for step in (step for step in _STEPS if low <= step <= high):
        if not kept or log10(step / kept[-1]) * room > 0.36:
            kept.append(step)
    labels = [f"{step:g}×" for step in kept]
    ticks(axes.xaxis, kept, [*labels[:-1], f"≥ {labels[-1]}"] if is_cut else labels)


def log_scale(axis: Any, least: float, most: float) -> None:
    """A logarithmic axis with few round numbers: 1, 2 and 5 of every power of ten, or more where it is short."""
    low, high = least / 1.15, most * 1.15
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    digits = (1, 2, 5) if high / low < 300 else (1,)
    values = [digit * 10.0**power for power in powers for digit in digits]
    if high / low < 5:
        values = list(MaxNLocator(5).tick_values(low, high))
    kept = [value for value in values if low <= value <= high]
    ticks(axis, kept, [f"{value:g}" for value in kept])


def ticks(axis: Any, places: Sequence[float], labels: Sequence[str]) -> None:
    """These ticks and no others."""
    axis.set_ticks(places, labels=labels)
    axis.set_ticks([], minor=True)


def panels(figure: Figure, count: int, across: int, **options: Any) -> list[Any]:
    """The first `count` axes of a grid with `across` in a row; the others are removed."""
    down = -(-count // across)
    axes = figure.subplots(down, across, squeeze=False, **options).ravel().tolist()
    for spare in axes[count:]:
        spare.remove()
    return axes[:count]


def entitle(axes: Any, names: Sequence[str], inches: float, after: str = "") -> None:
    """A title no wider than its panel, or the panels would make room for it.

    Of `names`, which are joined by "on", the longest is cut until the title fits; what comes `after` them never is.
    """
    title = axes.set_title(" on ".join(names) + after)
    letters = [len(name) for name in names]
    while max(letters) > LEAST and title.get_window_extent().width > inches * axes.figure.dpi:
        letters[letters.index(max(letters))] -= 1
        title.set_text(" on ".join(map(shorten, names, letters)) + after)


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend over the panels, in as many columns as there is room for; the figure grows with its lines."""
    if handles:
        widths = [len(handle.get_label()) * 0.07 + 0.48 for handle in handles]
        room = WIDTH - 0.3
        across = len(handles) if sum(widths) <= room else max(1, int(room / max(widths)))
        figure.legend(handles=handles, loc="outside upper center", ncols=across)
        figure.set_figheight(figure.get_figheight() + 0.19 * (-(-len(handles) // across) - 1))


def dotted(colour: str, shape: str, theme: Theme, size: float = 4.5) -> dict[str, Any]:
    """Dots without a line between them."""
    return curved(colour, shape, theme, size) | {"linestyle": ""}


def curved(colour: str, shape: str, theme: Theme, size: float = 4.5) -> dict[str, Any]:
    """Dots on a line, told apart where they touch."""
    return {
        "color": colour,
        "marker": shape,
        "markersize": size,
        "markeredgecolor": theme.paper,
        "markeredgewidth": 0.4,
    }


def numbered(theme: Theme, index: int) -> tuple[str, str]:
    """Colour and shape of the curves of one thing among several that have no colour of their own."""
    return theme.series[index % len(theme.series)], SERIES_MARKS[index % len(SERIES_MARKS)]


def handle(style: Mapping[str, Any], label: str) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], **style, label=label)
