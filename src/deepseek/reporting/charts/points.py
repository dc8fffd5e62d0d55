"""Scatter charts."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from deepseek.reporting.axes import WIDTH, Scale, at, box, drawing, empty, frame, segment
from deepseek.reporting.charts.marks import BOTTOM, drawable
from deepseek.reporting.html import Html, element

MOST_DOTS = 1500
"""Dots of a scatter chart; more are counted in cells."""

_CELLS = 42


def scatter(
    x: ArrayLike,
    y: ArrayLike,
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    guide: Literal["", "diagonal", "zero"] = "",
    caption: str = "",
) -> Html:
    """Return points; many of them as cells, the more rows the darker, so that a million rows make a small drawing.

    Args:
        x: Along.
        y: Up, as many.
        title: What is shown.
        x_label: What lies along.
        y_label: What goes up.
        guide: A line to compare with: where both are equal (both axes are the same then), or where y is zero.
        caption: A line below.
    """
    along, up = drawable(x), drawable(y)
    finite = np.isfinite(along) & np.isfinite(up)
    along, up = along[finite], up[finite]
    if not len(along):
        return empty(title)
    diagonal, both = guide == "diagonal", [along, up]
    across = Scale.over(both if diagonal else [along], 70, WIDTH - 14)
    upward = Scale.over(both if diagonal else [up], BOTTOM, 30)
    parts: list[Html] = [frame(across, upward, x_label=x_label, y_label=y_label)]
    parts += _density(along, up, across, upward) if len(along) > MOST_DOTS else _dots(along, up, across, upward)
    if diagonal:
        parts.append(segment(across(across.low), upward(across.low), across(across.high), upward(across.high), "guide"))
    if guide == "zero" and upward.low < 0 < upward.high:
        parts.append(segment(across.start, upward(0), across.stop, upward(0), "guide"))
    lost = int((~finite).sum())
    note = " ".join(filter(None, (caption, f"{lost:,} points are no numbers." if lost else "")))
    return drawing(title, f"{len(along):,} points; {y_label} over {x_label}", parts, caption=note)


def _dots(along: np.ndarray, up: np.ndarray, x: Scale, y: Scale) -> list[Html]:
    written = "".join(f"M{at(px)} {at(py)}h.01" for px, py in zip(x.places(along), y.places(up), strict=True))
    return [element("path", d=written, _class="s0", stroke_width=5, stroke_linecap="round", stroke_opacity=0.45, fill="none")]


def _density(along: np.ndarray, up: np.ndarray, x: Scale, y: Scale) -> list[Html]:
    ranges = [[x.low, x.high], [y.low, y.high]]
    counts, across, upward = np.histogram2d(along, up, bins=_CELLS, range=ranges)
    most = float(counts.max())
    parts = []
    for i, j in zip(*np.nonzero(counts), strict=True):
        shade = 0.12 + 0.88 * math.log1p(counts[i, j]) / math.log1p(most)
        left, high = x(across[i]), y(upward[j + 1])
        note = f"{int(counts[i, j]):,} rows"
        parts.append(box(left, high, x(across[i + 1]) - left, y(upward[j]) - high, "f0", opacity=shade, note=note))
    return parts
