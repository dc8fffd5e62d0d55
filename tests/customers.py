"""A small table of customers, for tests that start processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv


def write_customers(path: Path) -> None:
    """Write 300 customers, of whom age and city say nearly who has left."""
    random = np.random.default_rng(0)
    rows = 300
    age, city = random.normal(40, 12, rows).round(1), random.choice(["Rome", "Oslo", "Lima"], rows)
    churned = (age + 15 * (city == "Oslo") + random.normal(0, 5, rows)) > 45
    csv.write_csv(pa.table({"age": age, "city": city, "churned": np.where(churned, "yes", "no")}), path)
