"""Rows with planted shifts, the same for every contestant: NumPy alone, so that any environment can make them."""

from __future__ import annotations

from typing import Any

import numpy as np

NUMBERS, NAMES, REFERENCE_ROWS = 40, 10, 100_000
SHIFTS = {
    "x0": "mean", "x1": "mean", "x2": "mean", "x3": "mean", "x4": "spread", "x5": "spread", "x6": "two humps", "x7": "tail",
    "c0": "turned round", "c1": "a new name",
}  # fmt: skip
"""What is planted where; each is one that whoever watches wants to know of. The other forty columns are as they were."""
HUMPS = 1.2
_LABELS = np.array([f"name {code}" for code in range(21)])


def columns(rows: int, seed: int, *, shifted: bool) -> dict[str, np.ndarray]:
    """Return columns by name: numbers as float64, names as indices into `names()`."""
    draw = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for n in range(NUMBERS):
        made[f"x{n}"] = _number(draw, rows, SHIFTS.get(f"x{n}") if shifted else None)
    for n in range(NAMES):
        kind = SHIFTS.get(f"c{n}") if shifted else None
        weights = np.arange(20, 0, -1.0) if kind == "turned round" else np.arange(1, 21.0)
        codes = draw.choice(20, rows, p=weights / weights.sum())
        made[f"c{n}"] = np.where(draw.random(rows) < 0.2, 20, codes) if kind == "a new name" else codes
    return made


def names() -> np.ndarray:
    """Return the names of categories; the last is new where it comes."""
    return _LABELS


def _number(draw: np.random.Generator, rows: int, kind: str | None) -> np.ndarray:
    plain = draw.standard_normal(rows)
    if kind == "mean":
        return plain + 0.5
    if kind == "spread":
        return plain * 1.6
    if kind == "two humps":  # mean and variance are as before
        signs = np.where(draw.random(rows) < 0.5, -1.0, 1.0)
        return (plain * 0.4 + signs * HUMPS) / np.hypot(0.4, HUMPS)
    if kind == "tail":
        return np.where(draw.random(rows) < 0.15, np.abs(plain) + 3, plain)
    return plain


def found_by(drifted: Any) -> dict[str, list[str]]:
    """Return which planted shifts were missed, and which columns were called besides."""
    return {"missed": sorted(SHIFTS.keys() - set(drifted)), "called_besides": sorted(set(drifted) - SHIFTS.keys())}
