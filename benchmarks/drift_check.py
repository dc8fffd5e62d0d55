"""Checking a million rows of fifty columns for drift against a stored reference; beside Evidently, where it is installed.

Protocol: forty columns of numbers and ten of categories; in ten of them a shift is planted. The reference is made once from 100,000 rows
and stored as JSON, as a bundle has it; timed is what a check costs from then on: reading the JSON, folding every row and comparing.
Evidently has no stored reference: timed is its `DataDriftPreset` on the same reference rows and the same million, with its own choice of
tests. The contestants take turns, medians are compared. Verdicts on the planted and on the other columns are counted for both.

Usage: python benchmarks/drift_check.py [--rows 1000000] [--repeats 5] [--without-evidently]. Exit status 1 where a planted shift is missed,
another column is called drifted, or Evidently is there and less than 20 times slower.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.fields import Field, Kind
from deepseek.monitoring.columns import fold
from deepseek.monitoring.reference import sketch_inputs
from deepseek.statistics.sketch_drift import compare_sketches
from deepseek.statistics.sketches import ColumnSketch

NUMBERS, NAMES, REFERENCE_ROWS = 40, 10, 100_000
FIELDS = [Field(f"x{n}", Kind.NUMBER) for n in range(NUMBERS)] + [Field(f"c{n}", Kind.CATEGORY) for n in range(NAMES)]
PLANTED = {*(f"x{n}" for n in range(8)), "c0", "c1"}


def rows(count: int, seed: int, *, shifted: bool) -> pa.Table:
    draw = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for n in range(NUMBERS):
        shift = 0.5 if shifted and f"x{n}" in PLANTED else 0.0
        columns[f"x{n}"] = draw.standard_normal(count) + shift
    for n in range(NAMES):
        weights = np.arange(1, 21.0) if not (shifted and f"c{n}" in PLANTED) else np.arange(20, 0, -1.0)
        codes = draw.choice(20, count, p=weights / weights.sum()).astype(np.int32)
        columns[f"c{n}"] = pa.DictionaryArray.from_arrays(codes, [f"name {code}" for code in range(20)]).dictionary_decode()
    return pa.table(columns)


def ours(stored: str, table: pa.Table) -> set[str]:
    document = json.loads(stored)
    reference = {name: ColumnSketch.from_json(one["sketch"]) for name, one in document.items()}
    kinds = {name: Kind(one["kind"]) for name, one in document.items()}
    now = {name: sketch.empty() for name, sketch in reference.items()}
    for batch in table.to_batches(max_chunksize=1 << 17):
        fold(now, kinds, batch)
    return {one.column for one in compare_sketches(reference, now) if one.drifted}


def evidently(reference: Any, current: Any) -> set[str]:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    found = Report([DataDriftPreset()]).run(current, reference).dict()
    drifted = set()
    for metric in found["metrics"]:
        config = metric.get("config", {})
        if "column" not in config or not isinstance(metric["value"], float):
            continue
        small_is_drift = "p_value" in str(config.get("method", "")) or "p-value" in str(config.get("method", ""))
        limit = float(config.get("threshold", 0.05 if small_is_drift else 0.1))
        if (metric["value"] < limit) if small_is_drift else (metric["value"] >= limit):
            drifted.add(config["column"])
    return drifted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-evidently", action="store_true")
    given = parser.parse_args()
    known, current = rows(REFERENCE_ROWS, 0, shifted=False), rows(given.rows, 1, shifted=True)
    stored = json.dumps(sketch_inputs(known, FIELDS))
    contestants: dict[str, Callable[[], set[str]]] = {"framework": lambda: ours(stored, current)}
    if importlib.util.find_spec("evidently") and not given.without_evidently:
        frames = known.to_pandas(), current.to_pandas()
        contestants["evidently"] = lambda: evidently(*frames)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    verdicts: dict[str, set[str]] = {}
    for _ in range(given.repeats):
        for name, check in contestants.items():
            began = time.perf_counter()
            verdicts[name] = check()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(one) for name, one in seconds.items()}
    for name, found in verdicts.items():
        missed, others = sorted(PLANTED - found), sorted(found - PLANTED)
        result = {"what": name, "rows": given.rows, "columns": len(FIELDS), "median_s": round(medians[name], 3)}
        print(json.dumps({**result, "seconds": [round(one, 3) for one in seconds[name]], "missed": missed, "called_besides": others}))
    faster = medians.get("evidently", float("nan")) / medians["framework"]
    print(json.dumps({"reference_bytes": len(stored), "times_faster": round(faster, 1) if faster == faster else None}))  # noqa: PLR0124
    return int(verdicts["framework"] != PLANTED or faster < 20)


if __name__ == "__main__":
    sys.exit(main())
