"""Charts from plain numbers, as SVG: small, exact, the same for the same numbers, and never with more points than a screen can show.

Values that are no number leave a gap; a chart without any says so. Colours come from the page (`style`), so a chart follows its theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from deepseek.reporting.axes import LETTER, WIDTH, Scale, at, box, drawing, empty, fitting, frame, label, legend, segment, stroke
from deepseek.reporting.html import Html, element, join
from deepseek.reporting.numbers import ABSENT, number, percent

MOST_POINTS = 400
"""Points of a curve; of more, each stretch shows its lowest and its highest."""

MOST_DOTS = 1500
"""Dots of a scatter chart; more are counted in cells."""

MOST_SERIES = 12
MOST_BARS = 60
MOST_CELLS = 40
"""Rows and columns of a heat map; what is more is left out, and the chart says so."""

BOTTOM = 274
_CELLS = 42
_LARGEST = 1e100
"""What is larger is drawn as little as infinity: float64 could not hold the drawing's own sums."""


@dataclass(frozen=True)
class Series:
    """A curve: its name, and its points in order."""

    name: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True)
class Marker:
    """A point to be seen on a line chart, such as the best epoch."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A bar: its label, its length, and the ends of its interval where there is one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


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
        parts.append(_dot(x(one.predicted), y(one.observed), 4, "f0 mark", note))
        parts.append(box(x(one.predicted) - 6, 300 - 46 * one.rows / most, 12, 46 * one.rows / most, "f0 soft", note=note))
    parts += [label(x.start - 6, 298, "rows", anchor="end", kind="quiet"), segment(x.start, 300, x.stop, 300, "axis")]
    parts.append(label((x.start + x.stop) / 2, 316, "predicted probability", anchor="middle"))
    said = "; ".join(f"{number(one.predicted, 2)} predicted, {number(one.observed, 2)} observed" for one in known)
    return drawing(title, said, parts, caption=caption)


def bars(items: Sequence[Bar], *, title: str, x_label: str = "", caption: str = "", as_percent: bool = False) -> Html:
    """Return horizontal bars, each with its value and, where given, its interval; they begin at zero.

    Args:
        items: The bars from the top; at most `MOST_BARS` are drawn.
        title: What is shown.
        x_label: What the length means.
        caption: A line below.
        as_percent: Whether values are shares, to be written as per cent.
    """
    shown = [item for item in items if abs(item.value) < _LARGEST][:MOST_BARS]
    if not shown:
        return empty(title)
    write = percent if as_percent else number
    left = 16 + LETTER * min(max(len(item.label) for item in shown), 24)
    ends = [[item.value, 0.0, *(end for end in (item.low, item.high) if end is not None and abs(end) < _LARGEST)] for item in shown]
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
    left_out = _left_out(len(items) - len(shown), "bars", caption)
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
    arrays = {name: _numbers(given) for name, given in values.items()}
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


@dataclass(frozen=True)
class Grid:
    """What a heat map shows: numbers `[rows, columns]`, the names of rows and columns, and what stands in the cells if not the number."""

    values: ArrayLike
    rows: Sequence[str]
    columns: Sequence[str]
    texts: Sequence[Sequence[str]] | None = None


def heatmap(
    grid: Grid,
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    color: Literal["largest", "row", "sign"] = "largest",
    caption: str = "",
) -> Html:
    """Return a table of numbers as colours: a confusion matrix, correlations.

    Args:
        grid: The numbers and their names; at most `MOST_CELLS` rows and columns are drawn.
        title: What is shown.
        x_label: What the columns are.
        y_label: What the rows are.
        color: What a cell is measured by: the largest cell, its row's sum (for counts), or the largest cell, those below zero in a colour
            of their own.
        caption: A line below.
    """
    shape = len(grid.rows), len(grid.columns)
    given = _numbers(grid.values)
    if given.size != shape[0] * shape[1]:
        raise ValueError(f"the heat map {title!r} has {given.size} cells, {shape[0]} rows and {shape[1]} columns")
    if not given.size:
        return empty(title)
    given = given.reshape(shape)
    kept = given[:MOST_CELLS, :MOST_CELLS]
    magnitude = np.where(np.isfinite(kept), np.abs(kept), 0.0)
    whole = magnitude.sum(axis=1, keepdims=True) if color == "row" else magnitude.max(keepdims=True)
    place = _place(grid, kept.shape)
    left, top, wide, tall = place
    bottom = top + tall * kept.shape[0]
    parts = _cells(kept, magnitude / np.maximum(whole, 1e-300), grid, place, signed=color == "sign") + _heads(grid, place)
    if x_label:
        parts.append(label(left + wide * kept.shape[1] / 2, bottom + 18, x_label, anchor="middle"))
    if y_label:
        parts.append(label(14, (top + bottom) / 2, y_label, anchor="middle", turned=True))
    lost = sum(max(size - MOST_CELLS, 0) for size in shape)
    said = f"{len(grid.rows)} rows, {len(grid.columns)} columns{f'; {y_label} by {x_label}' if x_label and y_label else ''}"
    return drawing(title, said, parts, height=bottom + (28 if x_label else 10), caption=_left_out(lost, "rows and columns", caption))


def _place(grid: Grid, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return where the cells begin, and how wide and tall each is."""
    left = 34 + LETTER * min(max(map(len, grid.rows), default=0), 16)
    wide = min((WIDTH - left - 10) / shape[1], 96.0)
    head = 16 + LETTER * min(max(map(len, grid.columns), default=0), 14) if _turned(grid.columns, wide) else 18.0
    return left, 32 + head, wide, min(wide, 48.0)


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
    along, up = _numbers(x), _numbers(y)
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


def boxes(groups: Mapping[str, ArrayLike], *, title: str, x_label: str = "", caption: str = "") -> Html:
    """Return the spread of each group: box from the 25th to the 75th percentile, line at the median, whiskers from the 5th to the 95th.

    Args:
        groups: By name, any numbers; what is not finite is left out.
        title: What is shown.
        x_label: What the values are.
        caption: A line below.
    """
    spread: dict[str, tuple[Any, int]] = {}
    for name, given in groups.items():
        array = _numbers(given)
        if len(kept := array[np.isfinite(array)]):
            spread[name] = np.quantile(kept, [0.05, 0.25, 0.5, 0.75, 0.95]), len(kept)
    shown = dict(list(spread.items())[:MOST_BARS])
    if not shown:
        return empty(title)
    left = 16 + LETTER * min(max(map(len, shown)), 24)
    x = Scale.over([quantiles for quantiles, _ in shown.values()], left, WIDTH - 14)
    top, step = 30, 24
    bottom = top + step * len(shown)
    parts: list[Html] = [segment(x(tick), top, x(tick), bottom, "grid") for tick in x.ticks(5)]
    parts += [label(x(tick), bottom + 16, number(tick), anchor="middle", kind="quiet") for tick in x.ticks(5)]
    for place, (name, (quantiles, count)) in enumerate(shown.items()):
        y = top + step * place
        five = [x(float(value)) for value in quantiles]
        note = f"{name}: median {number(quantiles[2])}, middle half {number(quantiles[1])} to {number(quantiles[3])}, {count:,} rows"
        parts += [
            label(left - 8, y + 16, fitting(name, left - 12), anchor="end"),
            segment(five[0], y + 12, five[4], y + 12, "whisker"),
            box(five[1], y + 4, max(five[3] - five[1], 1), 16, "f0", note=note),
            segment(five[2], y + 4, five[2], y + 20, "whisker"),
        ]
    if x_label:
        parts.append(label((x.start + x.stop) / 2, bottom + 34, x_label, anchor="middle"))
    said = "; ".join(f"{name}: median {number(quantiles[2])}" for name, (quantiles, _) in list(shown.items())[:20])
    height = bottom + (42 if x_label else 24)
    return drawing(title, said, parts, height=height, caption=_left_out(len(spread) - len(shown), "groups", caption))


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
    return drawing(look.title, said, parts, caption=_left_out(len(series) - len(shown), "curves", look.caption))


def _numbers(values: ArrayLike) -> np.ndarray:
    """Return values as float64 in a row, NaN for what is too large to be drawn and 0 for what is too small."""
    given = np.asarray(values, dtype=np.float64).ravel()
    size = np.abs(given)
    return np.where(size < _LARGEST, np.where(size < 1 / _LARGEST, 0.0, given), np.nan)


def _points(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve's points, of many only the lowest and the highest of each stretch: what a screen would show of them."""
    x, y = _numbers(series.x), _numbers(series.y)
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
    return join([_dot(places[0], places[1], 4.5, "f1 mark", f"{marker.text}: {number(marker.y)}"), text])


def _bar(item: Bar, x: Scale, top: float, write: Any) -> Html:
    start, stop = sorted((x(0.0), x(item.value)))
    note = item.note or f"{item.label}: {write(item.value)}"
    parts = [box(start, top + 3, max(stop - start, 1.0), 16, "f0", note=note)]
    ends = [stop, x(0.0)]
    if item.low is not None and item.high is not None and abs(item.low) < _LARGEST and abs(item.high) < _LARGEST:
        low, high = x(item.low), x(item.high)
        parts += [segment(low, top + 11, high, top + 11, "whisker"), segment(low, top + 7, low, top + 15, "whisker")]
        parts.append(segment(high, top + 7, high, top + 15, "whisker"))
        ends.append(high)
    parts.append(label(max(ends) + 6, top + 15, write(item.value)))
    return join(parts)


def _dot(x: float, y: float, radius: float, kind: str, note: str) -> Html:
    return element("circle", element("title", note), cx=at(x), cy=at(y), r=at(radius), _class=kind)


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


def _cells(kept: np.ndarray, shades: np.ndarray, grid: Grid, place: tuple[float, float, float, float], *, signed: bool) -> list[Html]:
    left, top, wide, tall = place
    parts: list[Html] = []
    for i, j in np.ndindex(*kept.shape):
        shown = grid.texts[i][j] if grid.texts is not None else number(kept[i, j], 3)
        kind = "cell below" if signed and kept[i, j] < 0 else "cell heat"
        x, y = left + wide * j, top + tall * i
        note = f"{grid.rows[i]}, {grid.columns[j]}: {shown}"
        parts.append(box(x, y, wide, tall, kind, opacity=min(float(shades[i, j]), 1.0), note=note))
        if LETTER * len(shown) < wide - 2 and tall >= 13 and shown != ABSENT:
            parts.append(label(x + wide / 2, y + tall / 2 + 4, shown, anchor="middle"))
    return parts


def _heads(grid: Grid, place: tuple[float, float, float, float]) -> list[Html]:
    left, top, wide, tall = place
    every, across = max(1, math.ceil(13 / tall)), max(1, math.ceil(13 / wide))
    parts = [
        label(left - 6, top + tall * (n + 0.5) + 4, fitting(name, left - 34), anchor="end")
        for n, name in enumerate(grid.rows[:MOST_CELLS])
        if n % every == 0
    ]
    turned = _turned(grid.columns, wide)
    for n, name in enumerate(grid.columns[:MOST_CELLS]):
        middle = left + wide * (n + 0.5)
        if turned and n % across == 0:
            parts.append(label(middle + 4, top - 6, fitting(name, 14 * LETTER), turned=True))
        elif not turned:
            parts.append(label(middle, top - 6, name, anchor="middle"))
    return parts


def _turned(names: Sequence[str], room: float) -> bool:
    return any(LETTER * len(name) > room - 4 for name in names)


def _share(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return np.asarray(counts / total) if total > 0 else counts


def _edge(values: np.ndarray, place: int) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[place]) if len(finite) else math.nan


def _left_out(count: int, what: str, caption: str) -> str:
    return " ".join(filter(None, (caption, f"{count:,} more {what} are not shown." if count > 0 else "")))
