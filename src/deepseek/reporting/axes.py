"""The frame of a chart: scales, ticks and labels, in units that are the same for every chart."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deepseek.reporting.html import Html, element, join
from deepseek.reporting.numbers import number

WIDTH, HEIGHT = 480, 320
LETTER = 6.6
"""About the width of a letter of twelve pixels: room for labels is made without measuring fonts."""


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from low to high: steps of 1, 2 or 5 times a power of ten (Heckbert, *Graphics Gems*, 1990).

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return [low] if math.isfinite(low) else []
    raw = (high - low) / max(most - 1, 1)
    if raw < sys.float_info.min:
        return [low]  # no number between them has all its digits
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 12 - math.floor(math.log10(step))) for place in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to places on the drawing, straight or by logarithm.

    Args:
        low: The value at `start`.
        high: The value at `stop`.
        start: A place in pixels.
        stop: A place in pixels, which may be the smaller one.
        log: Whether by logarithm; both values are positive then.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[np.ndarray], start: float, stop: float, *, log: bool = False, margin: float = 0.04) -> Scale:
        """Return a scale over everything finite among the values (and positive, for a logarithm), with a margin on both sides."""
        lows, highs = [], []
        for given in values:
            kept = given[np.isfinite(given) & ((given > 0) | (not log))]
            if len(kept):
                lows.append(float(kept.min()))
                highs.append(float(kept.max()))
        if not lows:
            return cls(0.1 if log else 0.0, 1.0, start, stop, log)
        low, high = min(lows), max(highs)
        if log:
            room = (high / low) ** margin if high > low else 2.0
            return cls(low / room, high * room, start, stop, True)
        room = (high - low) * margin or abs(low) * 0.1 or 0.5
        return cls(low - room, high + room, start, stop)

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        span = math.log(self.high / self.low) if self.log else (self.high - self.low) or 1.0
        share = (math.log(value / self.low) if self.log else value - self.low) / span
        return self.start + share * (self.stop - self.start)

    def places(self, values: np.ndarray) -> np.ndarray:
        """Return the places of many values, NaN where one has none."""
        with np.errstate(all="ignore"):
            share = np.log(values / self.low) / math.log(self.high / self.low) if self.log else (values - self.low) / (self.high - self.low)
            placed = self.start + share * (self.stop - self.start)
        return np.where(np.isfinite(placed), placed, np.nan)

    def ticks(self, most: int = 6) -> list[float]:
        """Return the values to be written on the axis."""
        if not self.log:
            return ticks(self.low, self.high, most)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        decades = [10.0**power for power in powers]
        fine = [base * factor for base in decades for factor in (1, 2, 5)]
        chosen = [value for value in (decades if len(decades) > 4 else fine) if self.low <= value <= self.high]
        return chosen[:: max(1, math.ceil(len(chosen) / most))]


def at(value: float) -> str:
    """Return a place as it is written into the drawing: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def label(x: float, y: float, value: object, *, anchor: str = "start", kind: str | None = None, turned: bool = False) -> Html:
    """Return a text on the drawing."""
    rotate = f"rotate(-90 {at(x)} {at(y)})" if turned else None
    return element("text", value, x=at(x), y=at(y), text_anchor=None if anchor == "start" else anchor, _class=kind, transform=rotate)


def segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    """Return a straight line."""
    return element("line", x1=at(x1), y1=at(y1), x2=at(x2), y2=at(y2), _class=kind)


def box(x: float, y: float, width: float, height: float, kind: str, *, note: str = "", opacity: float | None = None) -> Html:
    """Return a rectangle, with a note that appears under the pointer."""
    inside = element("title", note) if note else ""
    shade = None if opacity is None else f"{opacity:.3f}".rstrip("0").rstrip(".")
    size = {"width": at(max(width, 0.0)), "height": at(max(height, 0.0))}
    return element("rect", inside, x=at(x), y=at(y), _class=kind, fill_opacity=shade, **size)


def drawing(title: str, description: str, parts: Sequence[object], *, height: float = HEIGHT, caption: str = "") -> Html:
    """Return a figure with its drawing; title and description are read out to those who do not see it."""
    said = [element("title", title), element("desc", description) if description else ""]
    name = label(8, 16, fitting(title, WIDTH - 16), kind="head")
    svg = element("svg", *said, name, *parts, viewBox=f"0 0 {WIDTH} {at(height)}", role="img", aria_label=title)
    return element("figure", svg, element("figcaption", caption) if caption else "", _class="chart")


def empty(title: str, reason: str = "nothing to show") -> Html:
    """Return a figure that says why there is none."""
    return drawing(title, reason, [label(WIDTH / 2, 60, reason, anchor="middle", kind="quiet")], height=90)


def legend(names: Sequence[str], y: float = 34, *, filled: bool = False) -> tuple[Html, float]:
    """Return the names of the series with their colours, and where the drawing may begin below."""
    x, parts = 8.0, []
    for place, name in enumerate(names):
        shown = fitting(name, 200)
        room = 26 + LETTER * len(shown)
        if x > 8 and x + room > WIDTH:
            x, y = 8.0, y + 17
        mark = box(x, y - 9, 14, 10, f"f{place % 6}{' soft' if filled else ''}")
        parts += [mark if filled else segment(x, y - 4, x + 16, y - 4, stroke(place)), label(x + 21, y, shown)]
        x += room + 8
    return join(parts), y + 10 if names else 26.0


def stroke(place: int) -> str:
    """Return the classes of the line of a series: its colour, and dashes where colours begin again or lie close."""
    dash = (place + place // 6) % 3
    return f"curve s{place % 6}{f' d{dash}' if dash else ''}"


def frame(x: Scale, y: Scale, *, x_label: str = "", y_label: str = "", percent: bool = False) -> Html:
    """Return grid, ticks and labels for two scales."""
    write = (lambda value: f"{100 * value:g} %") if percent else number
    parts: list[Html] = []
    for value in y.ticks():
        parts.append(segment(x.start, y(value), x.stop, y(value), "grid"))
        parts.append(label(x.start - 6, y(value) + 4, write(value), anchor="end", kind="quiet"))
    for value in x.ticks():
        parts.append(segment(x(value), y.start, x(value), y.start + 4, "axis"))
        parts.append(label(x(value), y.start + 18, number(value), anchor="middle", kind="quiet"))
    parts.append(segment(x.start, y.start, x.stop, y.start, "axis"))
    if x_label:
        parts.append(label((x.start + x.stop) / 2, y.start + 36, x_label, anchor="middle"))
    if y_label:
        parts.append(label(14, (y.start + y.stop) / 2, y_label, anchor="middle", turned=True))
    return join(parts)


def fitting(value: str, room: float) -> str:
    """Return a text cut to a room in pixels."""
    most = max(int(room / LETTER), 4)
    return value if len(value) <= most else f"{value[: most - 1]}…"
