"""Checking a million rows of fifty columns for drift against a stored reference; beside Evidently, where an environment has it.

Protocol: forty columns of numbers and ten of categories; ten of the fifty have a planted shift (of mean, of spread, two humps of the
same mean and variance, a tail, shares turned round, a new name), the others are as they were. The reference is made once from 100,000
rows and stored as JSON, as a bundle has it; timed is what a check costs from then on: reading the JSON, folding every row of an Arrow
table in memory and comparing. Evidently has no stored reference: timed is its `DataDriftPreset` on the same reference rows and the same
million, in pandas frames in memory, with its own choice of tests and thresholds, in a process of its own that has loaded everything and
made one check before the clock runs. Both get the same number of threads. The contestants take turns, medians are compared. Verdicts on
the planted and on the other columns are compared for both.

Evidently wants a pandas that others do not: `python -m venv ENV && ENV/bin/pip install evidently==0.7.23 'pandas<3.1'`.

Usage: python benchmarks/drift_check.py [--rows 1000000] [--repeats 3] [--threads 2] [--evidently-python ENV/bin/python]. Prints one
JSON line; without an environment Evidently's figures are null. Exit status 1 where a planted shift is missed or another column called
drifted, or Evidently is less than 20 times slower or comes to other verdicts on the planted columns.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent / "drift"
sys.path.insert(0, str(FOLDER))  # what both sides share lies beside Evidently's
TARGET = 20


class Ours:
    """This project's check, from the stored reference."""

    def __init__(self, rows: int, threads: int) -> None:
        import pyarrow as pa
        from planted import NAMES, NUMBERS, REFERENCE_ROWS, columns, names

        from deepseek.fields import Field, Kind
        from deepseek.monitoring.reference import sketch_inputs

        pa.set_cpu_count(threads)

        def table(count: int, seed: int, *, shifted: bool) -> pa.Table:
            made = columns(count, seed, shifted=shifted)
            texts = pa.array(names())
            return pa.table({name: texts.take(pa.array(column)) if name[0] == "c" else column for name, column in made.items()})

        fields = [Field(f"x{n}", Kind.NUMBER) for n in range(NUMBERS)] + [Field(f"c{n}", Kind.CATEGORY) for n in range(NAMES)]
        self.stored = json.dumps(sketch_inputs(table(REFERENCE_ROWS, 0, shifted=False), fields))
        self.current = table(rows, 1, shifted=True)

    def check(self) -> tuple[float, list[str]]:
        from deepseek.fields import Kind
        from deepseek.monitoring.columns import fold
        from deepseek.statistics.sketch_drift import compare_sketches
        from deepseek.statistics.sketches import ColumnSketch

        began = time.perf_counter()
        document = json.loads(self.stored)
        reference = {name: ColumnSketch.from_json(one["sketch"]) for name, one in document.items()}
        kinds = {name: Kind(one["kind"]) for name, one in document.items()}
        now = {name: sketch.empty() for name, sketch in reference.items()}
        for batch in self.current.to_batches(max_chunksize=1 << 17):
            fold(now, kinds, batch)
        found = [one.column for one in compare_sketches(reference, now) if one.drifted]
        return time.perf_counter() - began, found


class Evidently:
    """Evidently's check, in another environment's process."""

    def __init__(self, python: str, rows: int) -> None:
        command = [python, str(FOLDER / "evidently_side.py"), str(rows)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._line()
        self.tests: dict[str, str] = {}

    def check(self) -> tuple[float, list[str]]:
        assert self.process.stdin is not None
        self.process.stdin.write("check\n")
        self.process.stdin.flush()
        found = self._line()
        self.tests = found["drifted"]
        return found["seconds"], list(found["drifted"])

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"Evidently's process ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    here = sys.executable if importlib.util.find_spec("evidently") else None
    parser.add_argument("--evidently-python", default=os.environ.get("EVIDENTLY_PYTHON", here), help="a Python that has evidently")
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[name] = str(given.threads)  # before NumPy and Polars are imported, here and in the other process
    from planted import found_by

    contestants: dict[str, Any] = {"framework": Ours(given.rows, given.threads)}
    if given.evidently_python:
        contestants["evidently"] = Evidently(given.evidently_python, given.rows)
    verdicts = {name: one.check()[1] for name, one in contestants.items()}  # before the clock runs
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(given.repeats):
        for name, one in contestants.items():
            took, verdicts[name] = one.check()
            seconds[name].append(took)
    medians = {name: statistics.median(one) for name, one in seconds.items()}
    other = contestants.get("evidently")
    faster = medians["evidently"] / medians["framework"] if other else None
    ours, theirs = found_by(verdicts["framework"]), found_by(verdicts["evidently"]) if other else None
    same = theirs is None or ours["missed"] == theirs["missed"]
    passed = not ours["missed"] and not ours["called_besides"] and same and (faster is None or faster >= TARGET)
    result = {
        "rows": given.rows, "columns": 50, "threads": given.threads, "reference_bytes": len(contestants["framework"].stored),
        "seconds": {name: [round(one, 3) for one in part] for name, part in seconds.items()},
        "median_s": {name: round(one, 3) for name, one in medians.items()},
        "times_faster": None if faster is None else round(faster, 1), "target": TARGET,
        "verdicts": {"framework": ours, "evidently": theirs}, "same_on_planted": None if theirs is None else same,
        "evidently": other and {**other.about, "tests": other.tests}, "passed": passed,
    }  # fmt: skip
    if other:
        with other:
            pass
    print(json.dumps(result))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
