"""Columns that give the target away, alone or together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.fields.inference import is_numeric, plain_column

_LEAST_ROWS = 20
_SUMMED_ROWS, _SUMMED_COLUMNS = 5_000, 100
"""Of so many rows and columns at most a sum is looked for."""
_UNEXPLAINED = 1e-6
"""The part of a target's variance, at most, that a sum leaves: what rounding may do."""
_SHOWN_TERMS = 6


def leak_suspects(sample: pa.Table, target: str) -> list[tuple[str, str]]:
    """Return the columns that give the target away, and how: the same values, other names for them, a correlation above 0.999, a sum.

    A model that is given such columns looks perfect and is worth nothing in production.

    Args:
        sample: Training rows.
        target: The column to be predicted.
    """
    goal = _codes(sample.column(target))
    found = []
    for name in sample.column_names:
        if name == target:
            continue
        column = plain_column(sample.column(name))
        reason = _leak(column, plain_column(sample.column(target)), goal)
        if reason:
            found.append((name, reason))
    return found + _summands(sample.drop_columns([name for name, _ in found]), target)


def _leak(column: pa.ChunkedArray, target: pa.ChunkedArray, goal: np.ndarray | None) -> str | None:
    codes = _codes(column)
    if codes is None or goal is None:
        return None
    known = (codes >= 0) & (goal >= 0)
    if known.sum() < _LEAST_ROWS:
        return None
    pairs = codes[known] * (int(goal.max()) + 1) + goal[known]
    ours, theirs, both_ways = (len(np.unique(values)) for values in (codes[known], goal[known], pairs))
    # Two columns of values that are all different always stand one for one: that says nothing.
    if 1 < theirs == ours == both_ways < known.sum():
        return "its values stand one for one for those of the target"
    # Few values, many rows of each, and each with one value of the target: no chance makes that where the target has both many times.
    rare = known.sum() - np.bincount(goal[known]).max()
    if 1 < theirs < ours == both_ways and ours * 5 <= known.sum() and rare >= _LEAST_ROWS:
        return "each of its values goes with one value of the target"
    if not (is_numeric(column.type) and is_numeric(target.type)):
        return None
    x, y = _values(column), _values(target)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < _LEAST_ROWS or x.min() == x.max() or y.min() == y.max():
        return None
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # squares of what is near the largest float are infinite
    r = float(np.corrcoef(x, y)[0, 1])
    return f"its correlation with the target is {r:.5f}" if abs(r) > 0.999 else None


def _summands(sample: pa.Table, target: str) -> list[tuple[str, str]]:
    """Return columns of numbers whose weighted sum is the target, none of which could be left out, each with the sum in words."""
    numbers = {name: _values(sample.column(name)) for name in sample.column_names if is_numeric(plain_column(sample.column(name)).type)}
    y = numbers.pop(target, None)
    full = {name: values for name, values in numbers.items() if np.isfinite(values).mean() > 0.5}
    names = list(full)[:_SUMMED_COLUMNS]
    if y is None or len(names) < 2:
        return []
    x = np.column_stack([full[name] for name in names])
    known = np.flatnonzero(np.isfinite(y) & np.isfinite(x).all(axis=1))[:_SUMMED_ROWS]
    x, y = x[known], y[known]
    if len(y) < max(_LEAST_ROWS, 5 * len(names)) or y.min() == y.max():
        return []
    scale = np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)  # squares of what is near the largest float are infinite
    away, own = x / scale - (x / scale).mean(axis=0), y / np.abs(y).max()
    own = own - own.mean()
    kept = list(range(len(names)))
    if not _explains(away, own):
        return []
    for place in range(len(names)):
        fewer = [other for other in kept if other != place]
        if fewer and _explains(away[:, fewer], own):
            kept = fewer
    if len(kept) < 2:
        return []  # one column alone was looked at before
    weights = np.linalg.lstsq(np.column_stack([x[:, kept] / scale[kept], np.ones(len(y))]), y, rcond=None)[0]
    words = _in_words(
        target,
        [names[place] for place in kept],
        weights[:-1] / scale[kept],
        float(weights[-1]),
        least=1e-3 * np.abs(y).max() * float(own.std()),
    )
    return [(names[place], f"with others it makes up the target, {words}") for place in kept]


def _explains(x: np.ndarray, y: np.ndarray) -> bool:
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return bool(np.square(left).sum() <= _UNEXPLAINED * np.square(y).sum())


def _in_words(target: str, names: list[str], weights: np.ndarray, constant: float, *, least: float) -> str:
    """Return a sum as a formula, its weights rounded, with its constant where that is at least so large."""
    terms = [(weight, name) for weight, name in zip(weights.tolist(), names, strict=True)]
    if abs(constant) > least:
        terms.append((constant, ""))
    said = ""
    for weight, name in terms[:_SHOWN_TERMS]:
        size = f"{abs(weight):.4g}"
        term = size if not name else name if size == "1" else f"{size} · {name}"
        sign = "-" if weight < 0 else "+" if said else ""
        said += f" {sign} {term}" if said else f"{sign}{term}"
    return f"{target} = {said}" + (" + …" if len(terms) > _SHOWN_TERMS else "")


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """Return float64 `[rows]`, NaN where missing."""
    values = plain_column(column).cast(pa.float64(), safe=False)
    return np.asarray(values.to_numpy(), np.float64)


def _codes(column: pa.ChunkedArray) -> np.ndarray | None:
    """Return each value's number among the different ones, -1 for missing; nothing for values that cannot be compared."""
    column = plain_column(column)
    if pa.types.is_nested(column.type) or isinstance(column.type, pa.BaseExtensionType) or pa.types.is_null(column.type):
        return None
    codes = pc.index_in(column, pc.unique(column.drop_null()))
    return np.asarray(pc.fill_null(codes, -1).to_numpy(), np.int64)
