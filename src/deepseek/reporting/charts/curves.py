"""Curves over a range: lines, what all thresholds of a score tell, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from deepseek.reporting.axes import WIDTH, Scale, at, box, drawing, empty, frame, label, legend, segment, stroke
from deepseek.reporting.charts.marks import BOTTOM, Marker, dot, drawable, with_left_out
from deepseek.reporting.html import Html, element, join
from deepseek.reporting.numbers import number

MOST_POINTS = 400
"""Points of a curve; of more, each stretch shows its lowest and its highest."""

MOST_SERIES = 12


@dataclass(frozen=True)
class Series:
    """A curve: its name, and its points in order."""

    name: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True)
class Reliability:
    """A bin of a calibration chart: mean predicted probability, share observed, rows; and the ends of the share's interval."""

    predicted: float
    observed: float
    rows: int
    low: float | None = None
    high: float | None = None


def line(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    log: Literal["", "x", "y", "xy"] = "",
    markers: Sequence[Marker] = (),
    caption: str = "",
) -> Html:
    """Return curves over common axes.

    Args:
        series: The curves; at most `MOST_SERIES` are drawn.
        title: What is shown.
        x_label: What lies along.
        y_label: What goes up.
        log: The axes that go by logarithm; what is not positive is left out of them.
        markers: Points to be seen.
        caption: A line below.
    """
    return _curves(series, _Look(title, x_label, y_label, caption, log=log), markers)


def roc(curves: Sequence[Series], *, title: str = "ROC curve", caption: str = "") -> Html:
    """Return ROC curves: the share of false alarms along, the share found up; the diagonal is what chance gives."""
    return _curves(curves, _Look(title, "false positive rate", "true positive rate", caption, unit=True, guide=((0, 0), (1, 1))))


def precision_recall(
    curves: Sequence[Series], *, base_rate: float | None = None, title: str = "Precision and recall", caption: str = ""
) -> Html:
    """Return precision over recall; the guide is the share of positive rows, which chance gives."""
    guide = None if base_rate is None else ((0, base_rate), (1, base_rate))
    return _curves(curves, _Look(title, "recall", "precision", caption, unit=True, guide=guide))


def calibration(bins: Sequence[Reliability], *, title: str = "Calibration", caption: str = "") -> Html:
    """Return what was predicted against what came, bin by bin, with the bins' rows below; on the diagonal the probabilities are right."""
    known = [one for one in bins if one.rows and 0 <= one.predicted <= 1 and 0 <= one.observed <= 1]
    if not known:
        return empty(title)
    x, y = Scale(0, 1, 62, WIDTH - 14), Scale(0, 1, 226, 32)
    parts: list[Html] = [frame(x, y, y_label="observed share"), segment(x(0), y(0), x(1), y(1), "guide")]
    most = max(one.rows for one in known)
    points = " ".join(f"{at(x(one.predicted))},{at(y(one.observed))}" for one in known)
    parts.append(element("polyline", points=points, _class="curve s0"))
    for one in known:
        note = f"predicted {number(one.predicted, 3)}, observed {number(one.observed, 3)}, {one.rows:,} rows"
        if one.low is not None and one.high is not None:
            parts.append(segment(x(one.predicted), y(one.low), x(one.predicted), y(one.high), "whisker"))
        parts.append(dot(x(one.predicted), y(one.observed), 4, "f0 mark", note))
        parts.append(box(x(one.predicted) - 6, 300 - 46 * one.rows / most, 12, 46 * one.rows / most, "f0 soft", note=note))
    parts += [label(x.start - 6, 298, "rows", anchor="end", kind="quiet"), segment(x.start, 300, x.stop, 300, "axis")]
    parts.append(label((x.start + x.stop) / 2, 316, "predicted probability", anchor="middle"))
    said = "; ".join(f"{number(one.predicted, 2)} predicted, {number(one.observed, 2)} observed" for one in known)
    return drawing(title, said, parts, caption=caption)


@dataclass(frozen=True)
class _Look:
    title: str
    x_label: str
    y_label: str
    caption: str = ""
    unit: bool = False
    guide: tuple[tuple[float, float], tuple[float, float]] | None = None
    log: str = ""


def _curves(series: Sequence[Series], look: _Look, markers: Sequence[Marker] = ()) -> Html:
    shown = [(one.name, *_points(one)) for one in series[:MOST_SERIES]]
    if not any((np.isfinite(x) & np.isfinite(y)).any() for _, x, y in shown):
        return empty(look.title)
    names, top = legend([name for name, _, _ in shown]) if len(shown) > 1 else (Html(), 30.0)
    xs, ys = [x for _, x, _ in shown], [y for _, _, y in shown]
    across = Scale(0, 1, 62, WIDTH - 14) if look.unit else Scale.over(xs, 70, WIDTH - 14, log="x" in look.log, margin=0.02)
    upward = Scale(0, 1, BOTTOM, top) if look.unit else Scale.over(ys, BOTTOM, top, log="y" in look.log)
    parts: list[Html] = [names, frame(across, upward, x_label=look.x_label, y_label=look.y_label)]
    if look.guide is not None:
        (x1, y1), (x2, y2) = look.guide
        parts.append(segment(across(x1), upward(y1), across(x2), upward(y2), "guide"))
    parts += [_path(across.places(x), upward.places(y), stroke(place), name) for place, (name, x, y) in enumerate(shown)]
    parts += [_marked(marker, across, upward) for marker in markers]
    said = "; ".join(f"{name}: from {number(_edge(y, 0))} to {number(_edge(y, -1))}" for name, _, y in shown)
    return drawing(look.title, said, parts, caption=with_left_out(len(series) - len(shown), "curves", look.caption))


def _points(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve's points, of many only the lowest and the highest of each stretch: what a screen would show of them."""
    x, y = drawable(series.x), drawable(series.y)
    if len(x) != len(y):
        raise ValueError(f"the curve {series.name!r} has {len(x)} places and {len(y)} values")
    if len(x) <= MOST_POINTS:
        return x, y
    chosen = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), MOST_POINTS // 2):
        values = y[part]
        if np.isfinite(values).any():
            chosen |= {int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])}
        else:
            chosen.add(int(part[0]))
    kept = np.array(sorted(chosen))
    return x[kept], y[kept]


def _path(x: np.ndarray, y: np.ndarray, kind: str, name: str) -> Html:
    written, pen = [], "M"
    known = np.isfinite(x) & np.isfinite(y)
    for place in range(len(x)):
        if not known[place]:
            pen = "M"
            continue
        alone = pen == "M" and not (place + 1 < len(x) and known[place + 1])
        written.append(f"{pen}{at(x[place])} {at(y[place])}{'h.01' if alone else ''}")
        pen = "L"
    return element("path", element("title", name), d="".join(written), _class=kind, stroke_linecap="round") if written else Html()


def _marked(marker: Marker, x: Scale, y: Scale) -> Html:
    places = x.places(np.array([marker.x]))[0], y.places(np.array([marker.y]))[0]
    if not np.isfinite(places).all():
        return Html()
    right = places[0] > WIDTH / 2
    high = places[1] < y.stop + 24
    text = label(
        places[0] + (-8 if right else 8), places[1] + (18 if high else -9), marker.text, anchor="end" if right else "start", kind="note"
    )
    return join([dot(places[0], places[1], 4.5, "f1 mark", f"{marker.text}: {number(marker.y)}"), text])


def _edge(values: np.ndarray, place: int) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[place]) if len(finite) else math.nan
