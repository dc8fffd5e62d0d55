"""A table of customers, some of whom leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from deepseek.data.examples.paths import free

CITIES = {"Rome": "IT", "Oslo": "NO", "Lima": "PE"}
_NOTES = ("<b>called</b> twice", "wrote  a mail", "visited https://example.org", "moved")


def customers(rows: int = 2_000, *, seed: int = 0) -> pa.Table:
    """Return customers with numbers, categories, a date, an id, gaps and two targets: `churned` (yes, no) and `spend` (a number).

    Who leaves hangs on age and city, with noise; income and notes say nothing.
    """
    random = np.random.default_rng(seed)
    age = random.integers(18, 80, rows).astype(float)
    city = random.choice(list(CITIES), rows)
    return pa.table(
        {
            "customer_id": [f"c{number:04d}" for number in range(rows)],
            "age": [None if number % 40 == 7 else value for number, value in enumerate(age)],
            "income": random.lognormal(10, 0.5, rows).round(2),
            "city": city,
            "country": [CITIES[name] for name in city],
            "plan": random.choice(["free", "basic", "pro"], rows),
            "email": [f"user{number}@example.org" if number % 60 != 11 else "unknown" for number in range(rows)],
            "signed_up": [f"2024-{1 + number % 12:02d}-{1 + number % 28:02d}" for number in range(rows)],
            "visits": random.poisson(6, rows),
            "note": [_NOTES[number % 4] for number in range(rows)],
            "spend": (age * 3 + random.normal(0, 20, rows)).round(2),
            "churned": np.where(age + 20 * (city == "Oslo") + random.normal(0, 8, rows) > 50, "yes", "no"),
        }
    )


def write_customers(folder: Path, *, rows: int = 2_000, seed: int = 0) -> Path:
    """Write `customers.csv`, and `new_customers.csv` with 50 more whose answers nobody knows."""
    whole = customers(rows + 50, seed=seed)
    path, new = free(folder / "customers.csv"), free(folder / "new_customers.csv")
    pa.csv.write_csv(whole.slice(0, rows), path)
    pa.csv.write_csv(whole.slice(rows).drop_columns(["churned"]), new)
    return path
