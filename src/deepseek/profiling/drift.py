"""How another table differs from a reference, column by column: the worst first, and with a stated rate of false alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.columns import is_number, is_text
from deepseek.fields import Kind
from deepseek.profiling.associations import Comparable
from deepseek.profiling.measures import ImageMeasure, NameMeasure
from deepseek.profiling.survey import Column, Survey
from deepseek.statistics.two_sample import (
    SampleTest,
    benjamini_hochberg,
    bin_counts,
    chi_square,
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability,
    quantile_edges,
)

ALARM = 0.05
"""One pair of tables in so many parts, drawn from the same population, raises any alarm at all."""
MODERATE, LARGE = 0.1, 0.25
"""From which population stability index a shift is worth looking at, and from which it is large (Siddiqi 2006)."""

VERDICTS = (
    "column missing",
    "type changed",
    "large drift",
    "moderate drift",
    "new values",
    "missing values",
    "slight drift",
    "new column",
    "none",
)
"""Worst first."""
SHOWN = 10


def compare_surveys(reference: Survey, current: Survey) -> dict[str, Any]:
    """Return how a table differs from a reference.

    Columns of numbers (texts by length, images by brightness) are compared by the Kolmogorov–Smirnov test, names by χ²; shares of missing
    values by χ². All probabilities are adjusted together (Benjamini and Hochberg): with 5 % as the limit, one table in twenty without any
    drift raises any alarm. How large a drift is says the population stability index over ten bins of the reference.

    Args:
        reference: What is known, the training rows for example.
        current: What came later.
    """
    found = [_column(column, reference, current) for column in reference.columns.values()]
    tested = [(entry, key) for entry in found for key in ("p", "missing_p") if entry.get(key) is not None]
    for (entry, key), adjusted in zip(tested, benjamini_hochberg([entry[key] for entry, key in tested]), strict=True):
        entry[f"adjusted_{key}"] = float(adjusted)
    for entry in found:
        entry["verdict"], entry["why"] = _verdict(entry)
    for name, column in current.columns.items():
        if name not in reference.columns:
            found.append({"column": name, "kind": column.kind.value, "verdict": "new column", "why": "the reference has no such column"})
    found.sort(key=lambda entry: (VERDICTS.index(entry["verdict"]), -(entry.get("psi") or 0.0)))
    drifted = [entry["column"] for entry in found if entry["verdict"] != "none"]
    return {"rows": [reference.rows, current.rows], "alarm": ALARM, "drifted": drifted, "columns": found}


def _column(column: Column, reference: Survey, current: Survey) -> dict[str, Any]:
    entry: dict[str, Any] = {"column": column.name, "kind": column.kind.value}
    other = current.columns.get(column.name)
    if other is None:
        return entry | {"gone": True}
    entry["missing"] = [column.missing / reference.rows, other.missing / current.rows]
    entry["missing_p"] = chi_square([column.missing, reference.rows - column.missing], [other.missing, current.rows - other.missing]).p
    if changed := _changed(column, other):
        return entry | {"changed": changed}
    if column.kind is Kind.IMAGE:
        return entry | _images(column, other)
    ours, theirs = (Comparable(column, one.sample.column(column.name)) for one in (reference, current))
    if ours.numbers is not None and theirs.numbers is not None:
        what = "characters" if column.kind is Kind.TEXT else "value"
        return entry | _numbers(ours.numbers, theirs.numbers, what, dates=column.kind is Kind.TIMESTAMP)
    if isinstance(column.measure, NameMeasure) and isinstance(other.measure, NameMeasure) and column.kind is not Kind.ID:
        return entry | _names(column.measure, other.measure)
    return entry


def _numbers(ours: np.ndarray, theirs: np.ndarray, what: str, *, dates: bool = False) -> dict[str, Any]:
    edges = quantile_edges(ours)
    counts = [bin_counts(values, edges) for values in (ours, theirs)]
    known = np.concatenate((ours, theirs))
    known = known[np.isfinite(known)]
    low, high = np.quantile(known, [0.005, 0.995]) if len(known) else (0.0, 1.0)
    bins = np.linspace(low, high if high > low else low + 1, 31)
    shown = [np.histogram(np.clip(values[np.isfinite(values)], bins[0], bins[-1]), bins)[0].tolist() for values in (ours, theirs)]
    return {
        **_test("Kolmogorov–Smirnov", kolmogorov_smirnov(ours, theirs), *counts),
        "means": [_mean(ours), _mean(theirs)],
        "histogram": {"edges": bins.tolist(), "counts": shown, "what": what, "dates": dates},
    }


def _images(ours: Column, theirs: Column) -> dict[str, Any]:
    assert isinstance(ours.measure, ImageMeasure)
    if not isinstance(theirs.measure, ImageMeasure):
        return {}
    return _numbers(np.array(ours.measure.brightness), np.array(theirs.measure.brightness), "brightness")


def _names(ours: NameMeasure, theirs: NameMeasure) -> dict[str, Any]:
    before, after = dict(ours.counts.most_common()), dict(theirs.counts.most_common())
    names = [*before, *(name for name in after if name not in before)]
    counts = np.array([[side.get(name, 0) for name in names] for side in (before, after)])
    entry = _test("χ²", chi_square(*counts), *counts)
    if ours.counted:
        fresh = {name: rows for name, rows in after.items() if name not in before}
        entry["new_values"] = [{"value": name, "rows": rows} for name, rows in list(fresh.items())[:SHOWN]]
        entry["new_share"] = sum(fresh.values()) / max(theirs.counts.total, 1)
    if theirs.counted:
        entry["gone_values"] = [name for name in before if name not in after][:SHOWN]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:SHOWN]
    entry["moved"] = [{"value": names[place], "shares": shares[:, place].tolist()} for place in order]
    return entry


def _test(name: str, test: SampleTest, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    distance = jensen_shannon(ours, theirs)
    return {
        "test": name,
        "statistic": None if np.isnan(test.statistic) else test.statistic,
        "p": test.p,
        "psi": population_stability(ours, theirs),
        "js": None if np.isnan(distance) else distance,
    }


def _changed(ours: Column, theirs: Column) -> str | None:
    """Say what a column was and is, where no reading makes the two comparable."""
    if ours.kind is theirs.kind or ours.type == theirs.type:
        return None
    if is_text(ours.type) and (is_text(theirs.type) or ours.kind in {Kind.CATEGORY, Kind.BINARY}):
        return None
    if (is_number(ours.type) or pa.types.is_boolean(ours.type)) and (is_number(theirs.type) or pa.types.is_boolean(theirs.type)):
        return None
    return f"{ours.kind.value} of type {ours.type} became {theirs.kind.value} of type {theirs.type}"


def _verdict(entry: Mapping[str, Any]) -> tuple[str, str]:
    if entry.get("gone"):
        return "column missing", "the other table has no such column"
    if entry.get("changed"):
        return "type changed", str(entry["changed"])
    sure = (entry.get("adjusted_p") or 0.0) < ALARM if entry.get("p") is not None else False
    psi = entry.get("psi") or 0.0
    if sure and psi >= MODERATE:
        return ("large drift" if psi >= LARGE else "moderate drift"), _found(entry)
    if entry.get("new_share"):
        values = ", ".join(repr(item["value"]) for item in entry["new_values"][:3])
        return "new values", f"{entry['new_share']:.2%} of the rows have values that the reference does not: {values}"
    if entry.get("adjusted_missing_p", 1.0) < ALARM:
        before, after = entry["missing"]
        return "missing values", f"missing in {after:.1%} of the rows, {before:.1%} in the reference"
    return ("slight drift", _found(entry)) if sure else ("none", "")


def _found(entry: Mapping[str, Any]) -> str:
    means = entry.get("means")
    if means and None not in means and not entry["histogram"]["dates"]:
        what = "" if entry["histogram"]["what"] == "value" else f" of {entry['histogram']['what']}"
        return f"the mean{what} was {means[0]:.4g} and is {means[1]:.4g}"
    if means:
        return "other points in time"
    moved = entry["moved"][0]
    fresh = f"; {entry['new_share']:.1%} of the rows have values that the reference does not" if entry.get("new_share") else ""
    return f"{moved['value']!r} was {moved['shares'][0]:.1%} of the rows and is {moved['shares'][1]:.1%}{fresh}"


def _mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
