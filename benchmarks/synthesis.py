"""One table of features out of five related ones, as of many cut-offs; beside Featuretools, where an environment has it.

Protocol: the tables of races in `$DEEPSEEK_DATA/f1_ergast` (races, drivers, results, qualifying, standings: 72,000 rows), asked about
drivers at `--stamps` moments thirty days apart, about twenty drivers each; count, sum, mean, smallest, largest and standard deviation,
depth 2. Timed is from tables in memory to the last batch of the feature table, finding the features included; of Featuretools, which gets
its list of features and its entity set beforehand, `calculate_feature_matrix` alone, one process. The contestants take turns, medians are
compared, and so are the values of all features that both have; keys, which only Featuretools gives, are left out. Beside it what the work
hangs on: made-up customers with events, one cut-off each, and a hundredth of them as of a hundred cut-offs.

Featuretools wants old libraries: `python -m venv ENV && ENV/bin/pip install featuretools==1.31.0 'setuptools<81' 'pandas<3'`.

Usage: python benchmarks/synthesis.py [--stamps 40] [--repeats 3] [--featuretools-python ENV/bin/python]. Prints one JSON line; without an
environment Featuretools' figures are null. Exit status 1 where a value differs or Featuretools is less than ten times slower.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "related"))  # what both sides share lies beside Featuretools'

import numpy as np
import pandas as pd
import pyarrow as pa

from deepseek import progress
from deepseek.data.sources import open_source

FOLDER = Path(__file__).parent / "related"
TARGET = 10
GIVEN = {"aggregations": ["count", "sum", "mean", "min", "max", "std"], "depth": 2}
USED = ("drivers", "races", "results", "qualifying", "standings")


def made(spec: dict[str, Any]) -> tuple[float, pa.Table]:
    began = time.perf_counter()
    source = open_source(spec)
    table = pa.Table.from_batches(list(source.read()), source.schema())
    return time.perf_counter() - began, table


def races_spec(stamps: int) -> dict[str, Any]:
    from races import questions, read, spec

    tables = read()
    asked = questions(tables, "top3").drop(columns=["label", "part"])
    asked = asked[asked["asked_at"].isin(asked["asked_at"].drop_duplicates().tail(stamps))]
    used = {name: tables[name].drop(columns=["statusId"], errors="ignore") for name in USED}
    return spec(used, asked, derive=[], **GIVEN)


def customers_spec(customers: int, events: int, stamps: int) -> dict[str, Any]:
    """Made-up events of customers; with one moment each customer has one of their own."""
    random = np.random.default_rng(0)
    day = np.timedelta64(1, "D")
    start = np.datetime64("2024-01-01", "us")
    table = pa.table(
        {
            "event": np.arange(events),
            "customer": random.integers(0, customers, events),
            "at": start + (random.random(events) * 365 * 86_400e6).astype("timedelta64[us]"),
            "amount": random.normal(20, 5, events),
            "kind": pa.array(["buy", "look", "call"]).take(pa.array(random.integers(0, 3, events))),
        }
    )
    if stamps == 1:
        asked = {"customer": np.arange(customers), "when": start + random.integers(30, 365, customers) * day}
    else:
        asked = {
            "customer": np.tile(np.arange(customers), stamps),
            "when": np.repeat(start + np.linspace(30, 365, stamps).astype(int) * day, customers),
        }
    tables = {
        "customers": {"source": {"customer": np.arange(customers)}, "static": True},
        "events": {"source": table, "index": "event", "time": "at", "fields": {"kind": "category"}},
    }
    return {
        "type": "related_tables",
        "target_table": "customers",
        "tables": tables,
        "relationships": ["customers.customer -> events.customer"],
        "cutoffs": {"source": asked, "time": "when"},
        "depth": 1,
        "derive": [],
        "aggregations": ["count", "sum", "mean", "std", "min", "max", "n_unique", "last", "time_since_last"],
    }


class Featuretools:
    """Featuretools in another environment's process."""

    def __init__(self, python: str, stamps: int, file: Path) -> None:
        command = [python, "-W", "ignore", str(FOLDER / "featuretools_side.py"), str(stamps), str(file), json.dumps(GIVEN)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.file, self.about = file, self._line()

    def run(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("make\n")
        self.process.stdin.flush()
        return float(self._line()["seconds"])

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"Featuretools' process ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


def compared(ours: pa.Table, file: Path) -> dict[str, Any]:
    """How many features both have, and how many values of them differ."""
    theirs = pd.read_csv(file, parse_dates=["time"])
    frame = ours.to_pandas().rename(columns={"asked_at": "time"}).merge(theirs, on=["driverId", "time"], suffixes=("", " theirs"))
    names = [name for name in ours.column_names if f"{name} theirs" in frame and frame[name].dtype.kind in "fi"]
    differ = [
        name
        for name in names
        if not np.allclose(frame[name].to_numpy(float), frame[f"{name} theirs"].to_numpy(float), rtol=1e-9, atol=1e-9, equal_nan=True)
    ]
    return {"rows": len(frame), "features": len(names), "differ": differ}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--featuretools-python", default=os.environ.get("FEATURETOOLS_PYTHON"), help="a Python that has featuretools")
    given = parser.parse_args()
    progress.quiet(True)
    scale = {
        "one cut-off each": made(customers_spec(given.customers, 10 * given.customers, 1)),
        "100 cut-offs for all": made(customers_spec(given.customers // 100, 10 * given.customers, 100)),
    }
    result: dict[str, Any] = {
        "made_up": {
            name: {"seconds": round(took, 2), "rows": table.num_rows, "features": table.num_columns - 2}
            for name, (took, table) in scale.items()
        },
        "events": 10 * given.customers,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    passed = True
    if (Path(os.environ.get("DEEPSEEK_DATA", "data")) / "f1_ergast").is_dir():
        spec = races_spec(given.stamps)
        with tempfile.TemporaryDirectory() as folder:
            other = (
                Featuretools(given.featuretools_python, given.stamps, Path(folder) / "matrix.csv") if given.featuretools_python else None
            )
            made(spec)  # before the clock runs
            seconds: dict[str, list[float]] = {"framework": [], "featuretools": []}
            for _ in range(given.repeats):
                took, table = made(spec)
                seconds["framework"].append(took)
                if other:
                    seconds["featuretools"].append(other.run())
            result |= {
                "rows": table.num_rows,
                "features": table.num_columns - 2,
                "seconds": {name: [round(one, 3) for one in part] for name, part in seconds.items()},
            }
            if other:
                medians = {name: statistics.median(part) for name, part in seconds.items()}
                same = compared(table, other.file)
                faster = medians["featuretools"] / medians["framework"]
                result |= {"featuretools": other.about, "compared": same, "times_faster": round(faster, 1), "target": TARGET}
                passed = faster >= TARGET and not same["differ"] and same["rows"] == table.num_rows
                other.end()
    print(json.dumps({**result, "passed": passed}))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
