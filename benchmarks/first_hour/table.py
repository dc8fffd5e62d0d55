"""The table that every probe meets: generated, 1,200 rows of two numbers and a category; the last 300 rows are far away on purpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

SHIFT = 1000.0
FAR = "only_in_test"


def tables() -> dict[str, pd.DataFrame]:
    """Return `train`, `validation` and `test`; the test rows are shifted and have a category of their own."""
    random = np.random.default_rng(0)
    x, z = random.standard_normal((2, 1200))
    city = random.choice(["Oslo", "Lima", "Pune"], 1200)
    y = np.where(x + 0.5 * z + (city == "Lima") + 0.5 * random.standard_normal(1200) > 0.3, "yes", "no")
    frame = pd.DataFrame({"x": x, "z": z, "city": city, "bought": y})
    train, validation, test = frame[:700].copy(), frame[700:900].copy(), frame[900:].copy()
    test["x"] += SHIFT
    test.loc[test.index[:150], "city"] = FAR
    return {"train": train, "validation": validation, "test": test}


def parity(predict: Callable[[pd.DataFrame], np.ndarray], rows: pd.DataFrame) -> dict[str, float]:
    """Return the largest differences of probabilities: rows alone against together, and columns in another order.

    Args:
        predict: From a frame to one probability a row.
        rows: At least 20 rows without the target.
    """
    whole = np.asarray(predict(rows), dtype=float)
    alone = np.array([float(np.asarray(predict(rows[index : index + 1]))[0]) for index in range(20)])
    turned = np.asarray(predict(rows[rows.columns[::-1]]), dtype=float)
    return {"alone": float(np.abs(alone - whole[:20]).max()), "columns_turned": float(np.abs(turned - whole).max())}
