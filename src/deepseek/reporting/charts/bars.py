"""Bars: values by name, and how values are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepseek.reporting.axes import LETTER, WIDTH, Scale, box, drawing, empty, fitting, frame, label, legend, segment
from deepseek.reporting.charts.marks import BOTTOM, LARGEST, drawable, with_left_out
from deepseek.reporting.html import Html, join
from deepseek.reporting.numbers import number, percent

MOST_BARS = 60


@dataclass(frozen=True)
class Bar:
    """A bar: its label, its length, and the ends of its interval where there is one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def bars(items: Sequence[Bar], *, title: str, x_label: str = "", caption: str = "", as_percent: bool = False) -> Html:
    """Return horizontal bars, each with its value and, where given, its interval; they begin at zero.

    Args:
        items: The bars from the top; at most `MOST_BARS` are drawn.
        title: What is shown.
        x_label: What the length means.
        caption: A line below.
        as_percent: Whether values are shares, to be written as per cent.
    """
    shown = [item for item in items if abs(item.value) < LARGEST][:MOST_BARS]
    if not shown:
        return empty(title)
    write = percent if as_percent else number
    left = 16 + LETTER * min(max(len(item.label) for item in shown), 24)
    ends = [[item.value, 0.0, *(end for end in (item.low, item.high) if end is not None and abs(end) < LARGEST)] for item in shown]
    low, high = min(map(min, ends)), max(map(max, ends))
    x = Scale(low, high if high > low else low + 1.0, left + (58 if low < 0 else 0), WIDTH - 64)
    top, step = 30, 22
    bottom = top + step * len(shown)
    parts: list[Html] = [segment(x(tick), top, x(tick), bottom, "grid") for tick in x.ticks(5)]
    parts += [
        label(x(tick), bottom + 16, write(tick) if not as_percent else f"{100 * tick:g} %", anchor="middle", kind="quiet")
        for tick in x.ticks(5)
    ]
    parts += [_bar(item, x, top + step * place, write) for place, item in enumerate(shown)]
    parts += [label(left - 8, top + step * place + 15, fitting(item.label, left - 12), anchor="end") for place, item in enumerate(shown)]
    parts.append(segment(x(0), top, x(0), bottom, "axis"))
    if x_label:
        parts.append(label((x.start + x.stop) / 2, bottom + 34, x_label, anchor="middle"))
    said = "; ".join(f"{item.label}: {write(item.value)}" for item in shown[:20])
    left_out = with_left_out(len(items) - len(shown), "bars", caption)
    return drawing(title, said, parts, height=bottom + (42 if x_label else 24), caption=left_out)


def histogram(
    values: Mapping[str, ArrayLike], *, title: str, bins: int = 30, x_label: str = "", caption: str = "", edges: ArrayLike | None = None
) -> Html:
    """Return how values are spread: for each name the share of its rows in bins that all names have in common.

    Args:
        values: By name, any numbers; what is not finite is left out, and the caption counts it.
        title: What is shown.
        bins: How many bins, 1 to 200.
        x_label: What the values are.
        caption: A line below.
        edges: The ends of the bins, where they are given.
    """
    arrays = {name: drawable(given) for name, given in values.items()}
    finite = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    joined = np.concatenate([*finite.values()]) if finite else np.empty(0)
    if not len(joined):
        return empty(title)
    if edges is None:
        low, high = float(joined.min()), float(joined.max())
        edges = np.linspace(low, high, min(max(bins, 1), 200) + 1) if high > low else np.array([low - 0.5, low + 0.5])
    ends = np.asarray(edges, dtype=np.float64)
    lost = sum(len(array) for array in arrays.values()) - len(joined)
    said = " ".join(filter(None, (caption, f"{lost:,} values are no number." if lost else "")))
    return histogram_of_counts(
        ends, {name: np.histogram(array, ends)[0] for name, array in finite.items()}, title=title, x_label=x_label, caption=said
    )


def histogram_of_counts(edges: ArrayLike, counts: Mapping[str, ArrayLike], *, title: str, x_label: str = "", caption: str = "") -> Html:
    """Return a histogram from counts: for each name one count a bin; shown are shares of each name's rows.

    Args:
        edges: The ends of the bins, ascending, one more than there are bins.
        counts: By name.
        title: What is shown.
        x_label: What the values are.
        caption: A line below.
    """
    ends = np.asarray(edges, dtype=np.float64)
    shares = {name: _share(np.asarray(given, dtype=np.float64)) for name, given in counts.items()}
    most = max((float(share.max()) for share in shares.values() if len(share)), default=0.0)
    if most <= 0 or len(ends) < 2:
        return empty(title)
    names, top = legend(list(shares), filled=True) if len(shares) > 1 else (Html(), 30.0)
    x, y = Scale(float(ends[0]), float(ends[-1]), 62, WIDTH - 14), Scale(0, most * 1.05, BOTTOM, top)
    parts: list[Html] = [names, frame(x, y, x_label=x_label, y_label="share of rows", percent=True)]
    for place, (name, share) in enumerate(shares.items()):
        for start, stop, part in zip(ends[:-1], ends[1:], share, strict=True):
            if part > 0:
                note = f"{name}: {number(start)} to {number(stop)}, {percent(part)}"
                parts.append(box(x(start), y(part), x(stop) - x(start), BOTTOM - y(part), f"f{place % 6} soft", note=note))
    return drawing(title, f"{', '.join(shares)}: from {number(ends[0])} to {number(ends[-1])}", parts, caption=caption)


def _bar(item: Bar, x: Scale, top: float, write: Any) -> Html:
    start, stop = sorted((x(0.0), x(item.value)))
    note = item.note or f"{item.label}: {write(item.value)}"
    parts = [box(start, top + 3, max(stop - start, 1.0), 16, "f0", note=note)]
    ends = [stop, x(0.0)]
    if item.low is not None and item.high is not None and abs(item.low) < LARGEST and abs(item.high) < LARGEST:
        low, high = x(item.low), x(item.high)
        parts += [segment(low, top + 11, high, top + 11, "whisker"), segment(low, top + 7, low, top + 15, "whisker")]
        parts.append(segment(high, top + 7, high, top + 15, "whisker"))
        ends.append(high)
    parts.append(label(max(ends) + 6, top + 15, write(item.value)))
    return join(parts)


def _share(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return np.asarray(counts / total) if total > 0 else counts
