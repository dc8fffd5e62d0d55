"""Claim: "deep feature synthesis adds 0.12 to the AUC". Measured beside what it is added to, which decides.

Protocol, fixed before measuring. The tables of races in `$DEEPSEEK_DATA/f1_ergast`; questions about drivers thirty days apart: trained on
those before 2005, stopped on those from 2005 to 2010, measured on forty moments from 2010 on. Three labels over the thirty days after:
qualifying among the first three; a result other than `Finished` (which counts who was laps down); retiring. Arms: the table of drivers
alone; four features made by hand (mean qualifying position, mean finishing position, mean points, number of races, over the year before);
all features of depth 2 over the year before, and over all time. Each arm is trained by `deepseek.train` with its defaults on five seeds;
beside it, for orientation, scikit-learn's HistGradientBoostingClassifier with its defaults, without early stopping. Interval: 95 %, of the
mean over paired seeds, by Student's t.

Verdict: reproduced if the gain over the drivers alone is at least 0.12 for a label; beside it stands what is left over four by hand.

Usage: python benchmarks/claims/deep_features.py [--labels top3 dnf retired] [--seeds 5]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "related"))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from races import LABELS, questions, read, spec
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

import deepseek
from deepseek import progress
from deepseek.data.sources import open_source

AGGREGATIONS = ["count", "sum", "mean", "min", "max", "std", "last", "mode", "n_unique", "time_since_last"]
BY_HAND = ["MEAN(qualifying.position)", "MEAN(results.positionOrder)", "MEAN(results.points)", "COUNT(results)"]
GIVEN = ["driverId", "asked_at", "label", "part"]
CLAIMED = 0.12


def features(label: str) -> dict[str, pa.Table]:
    """The feature table of each arm, with the label and the part that a row is in."""
    tables = read()
    asked = questions(tables, label)

    def made(used: dict[str, Any], **more: Any) -> pa.Table:
        source = open_source(spec(used, asked, derive=["year", "time_since"], **more))
        return pa.Table.from_batches(list(source.read()), source.schema()).drop_columns(["driverId", "asked_at"])

    deep = {"aggregations": AGGREGATIONS, "depth": 2, "max_features": 2_000}
    year = made(tables, window="365d", **deep)
    return {
        "drivers alone": made({"drivers": tables["drivers"]}),
        "four by hand": year.select(["label", "part", *BY_HAND]),
        "deep, one year": year,
        "deep, all time": made(tables, **deep),
    }


def trained(table: pa.Table, seed: int, folder: str) -> float:
    run = deepseek.train(
        table, target="label", out=folder, overrides=["data.split.column=part", f"seed={seed}", "data.fields={label: binary}"]
    )
    test = run.metrics["test"]
    assert test is not None
    return test["auc"]


def boosted(table: pa.Table, seed: int) -> float:
    parts = {name: table.filter(pc.equal(table["part"], name)) for name in ("train", "validation", "test")}
    names = [name for name in table.column_names if name not in GIVEN]

    def numbers(part: pa.Table) -> np.ndarray:
        return np.column_stack([coded(table[name], part[name]) for name in names])

    known = pa.concat_tables([parts["train"], parts["validation"]])
    model = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
    model.fit(numbers(known), known["label"].to_numpy())
    return float(roc_auc_score(parts["test"]["label"].to_numpy(), model.predict_proba(numbers(parts["test"]))[:, 1]))


def coded(whole: pa.ChunkedArray, part: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(whole.type):
        return np.asarray(pc.fill_null(pc.index_in(part, pc.unique(whole)).cast(pa.float64()), float("nan")).to_numpy())
    return np.asarray(pc.fill_null(part.cast(pa.float64()), float("nan")).to_numpy())


def interval(gains: list[float]) -> list[float]:
    """The 95 % interval of the mean."""
    if len(gains) < 2:
        return [gains[0], gains[0]]
    width = stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
    return [round(statistics.mean(gains) - width, 4), round(statistics.mean(gains) + width, 4)]


def measure(label: str, seeds: int) -> dict[str, Any]:
    arms = features(label)
    scores: dict[str, list[float]] = {}
    for name, table in arms.items():
        with tempfile.TemporaryDirectory() as folder:
            scores[name] = [trained(table, seed, folder) for seed in range(seeds)]
    found: dict[str, Any] = {
        "rows": {part: int(pc.sum(pc.equal(arms["four by hand"]["part"], part)).as_py()) for part in ("train", "validation", "test")},
        "features": {name: table.num_columns - 2 for name, table in arms.items()},
        "auc": {name: round(statistics.mean(values), 4) for name, values in scores.items()},
        "boosting": {name: round(boosted(table, 0), 4) for name, table in arms.items()},
    }
    for deep in ("deep, one year", "deep, all time"):
        for base in ("drivers alone", "four by hand"):
            gains = [ours - theirs for ours, theirs in zip(scores[deep], scores[base], strict=True)]
            found[f"{deep} - {base}"] = {"gain": round(statistics.mean(gains), 4), "interval": interval(gains)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    progress.quiet(True)
    began = time.perf_counter()
    measured = {label: measure(label, given.seeds) for label in given.labels}
    best = max(found["deep, one year - drivers alone"]["interval"][0] for found in measured.values())
    verdict = "reproduced against the bare table" if best >= CLAIMED else "not reproduced"
    print(json.dumps({"claim": "DFS: AUC +0.12", "labels": measured, "verdict": verdict, "seconds": round(time.perf_counter() - began)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
