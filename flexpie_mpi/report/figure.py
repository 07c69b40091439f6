"""Pictures: drawn once per theme, saved as PNG and SVG, without a display and without the state of pyplot.

Importing this module needs matplotlib; nothing else of the reports imports it but what draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from ..core.errors import ReportError
from ..files.atomic import replacing
from .theme import DARK, THEMES, Theme

try:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ReportError(f"drawing needs matplotlib: pip install 'flexpie-mpi[plots]' ({error})") from error

__all__ = ["SHARP", "SHOWN", "WIDTH", "Draw", "Figure", "Line2D", "MaxNLocator", "Patch", "image", "painted", "save"]

WIDTH = 9.0
"""Inches; with `SHOWN` this is what a README shows at its full width."""

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

    Raises
    ------
    DataError
        When one cannot be written.
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
    settings: Any = _LETTERS | _colours(theme)
    with rc_context(settings):
        yield


_LETTERS: dict[str, object] = {
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


def _colours(theme: Theme) -> dict[str, object]:
    lines = ("axes.edgecolor", "xtick.color", "ytick.color")
    texts = ("text.color", "axes.titlecolor", "legend.labelcolor")
    papers = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys(lines, theme.faint),
        **dict.fromkeys(texts, theme.ink),
        **dict.fromkeys(papers, theme.paper),
        "axes.labelcolor": theme.faint,
        "grid.color": theme.line,
    }
