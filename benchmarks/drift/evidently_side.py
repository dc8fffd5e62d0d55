"""Evidently's side of `drift_check.py`, in an environment of its own: checks once for each line that comes, and prints what it took.

Usage: PYTHON benchmarks/drift/evidently_side.py ROWS; needs evidently and pandas. The tables are made beforehand and are in memory.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
from planted import REFERENCE_ROWS, columns, names


def frame(rows: int, seed: int, *, shifted: bool) -> pd.DataFrame:
    made = columns(rows, seed, shifted=shifted)
    return pd.DataFrame({name: names()[column] if name[0] == "c" else column for name, column in made.items()})


def drifted(found: dict) -> dict[str, str]:
    """Return the columns that Evidently calls drifted, by its own choice of test and threshold, and the test."""
    called = {}
    for metric in found["metrics"]:
        config = metric.get("config", {})
        if "column" not in config or not isinstance(metric["value"], float):
            continue
        method = str(config["method"])
        by_probability = "p_value" in method or "p-value" in method
        limit = float(config["threshold"]) if config.get("threshold") is not None else 0.05 if by_probability else 0.1
        if (metric["value"] < limit) if by_probability else (metric["value"] >= limit):
            called[config["column"]] = method
    return called


def main() -> int:
    known, current = frame(REFERENCE_ROWS, 0, shifted=False), frame(int(sys.argv[1]), 1, shifted=True)
    print(json.dumps({"evidently": version("evidently"), "pandas": version("pandas")}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        found = Report([DataDriftPreset()]).run(current, known).dict()
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "drifted": drifted(found)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
