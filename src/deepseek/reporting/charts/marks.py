"""What the charts share: numbers that can be drawn, dots, and what is said of what is left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deepseek.reporting.axes import at
from deepseek.reporting.html import Html, element

BOTTOM = 274
"""How far down the plotting area of a chart reaches."""

LARGEST = 1e100
"""What is larger is drawn as little as infinity: float64 could not hold the drawing's own sums."""


@dataclass(frozen=True)
class Marker:
    """A point to be seen on a line chart, such as the best epoch."""

    x: float
    y: float
    text: str


def drawable(values: ArrayLike) -> np.ndarray:
    """Return values as float64 in a row, NaN for what is too large to be drawn and 0 for what is too small."""
    given = np.asarray(values, dtype=np.float64).ravel()
    size = np.abs(given)
    return np.where(size < LARGEST, np.where(size < 1 / LARGEST, 0.0, given), np.nan)


def dot(x: float, y: float, radius: float, kind: str, note: str) -> Html:
    """Return a dot that says a note where it is pointed at."""
    return element("circle", element("title", note), cx=at(x), cy=at(y), r=at(radius), _class=kind)


def with_left_out(count: int, what: str, caption: str) -> str:
    """Return a caption that also says how many things are not shown, where any are not."""
    return " ".join(filter(None, (caption, f"{count:,} more {what} are not shown." if count > 0 else "")))
