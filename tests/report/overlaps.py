"""What a reader of a picture would stumble over: words over words, words cut off, a legend over the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOLERANCE = 0.5
"""Pixels by which boxes of letters may touch."""


def stumbles(figure: Figure) -> list[str]:
    """A sentence for each, and for what matplotlib warns of while it lays out the figure."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        figure.draw_without_rendering()
    found = [str(warning.message) for warning in warned]
    boxes = [(text.get_text(), text.get_window_extent()) for text in dict.fromkeys(_texts(figure))]
    found += [f"'{one}' lies over '{other}'" for (one, a), (other, b) in combinations(boxes, 2) if _cross(a, b)]
    found += [f"'{text}' is cut off" for text, box in boxes if not _holds(figure.bbox, box)]
    for axes in figure.axes:
        spot = axes.get_window_extent()
        if spot.width < 90 or spot.height < 30:
            found.append(f"a panel has only {spot.width:.0f} x {spot.height:.0f} pixels")
        found += ["a legend lies over a panel" for legend in figure.legends if _cross(legend.get_window_extent(), spot)]
    return found


def _texts(figure: Figure) -> Iterator[Text]:
    """Every text that is seen; of the ticks only those inside the limits are."""
    yield from _seen(figure.texts)
    yield from _seen(label for label in (figure._suptitle, figure._supxlabel, figure._supylabel) if label)
    for legend in figure.legends:
        yield from _seen(legend.get_texts())
    for axes in figure.axes:
        yield from _seen([axes.title, axes._left_title, axes._right_title, *axes.texts])
        for axis in (axes.xaxis, axes.yaxis):
            yield from _seen([axis.label, axis.get_offset_text(), *_tick_labels(axis)])


def _tick_labels(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    for tick in axis.get_major_ticks():
        if low <= tick.get_loc() <= high:
            yield tick.label1


def _seen(texts) -> Iterator[Text]:
    return (text for text in texts if text.get_visible() and text.get_text().strip())


def _cross(one: Bbox, other: Bbox) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(across > TOLERANCE and down > TOLERANCE)


def _holds(outer: Bbox, inner: Bbox) -> bool:
    return bool(
        inner.x0 >= outer.x0 - TOLERANCE and inner.x1 <= outer.x1 + TOLERANCE
        and inner.y0 >= outer.y0 - TOLERANCE and inner.y1 <= outer.y1 + TOLERANCE
    )  # fmt: skip
