"""Heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from deepseek.reporting.axes import LETTER, WIDTH, box, drawing, empty, fitting, label
from deepseek.reporting.charts.marks import drawable, with_left_out
from deepseek.reporting.html import Html
from deepseek.reporting.numbers import ABSENT, number

MOST_CELLS = 40
"""Rows and columns of a heat map; what is more is left out, and the chart says so."""


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
    given = drawable(grid.values)
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
    return drawing(title, said, parts, height=bottom + (28 if x_label else 10), caption=with_left_out(lost, "rows and columns", caption))


def _place(grid: Grid, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return where the cells begin, and how wide and tall each is."""
    left = 34 + LETTER * min(max(map(len, grid.rows), default=0), 16)
    wide = min((WIDTH - left - 10) / shape[1], 96.0)
    head = 16 + LETTER * min(max(map(len, grid.columns), default=0), 14) if _turned(grid.columns, wide) else 18.0
    return left, 32 + head, wide, min(wide, 48.0)


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
