"""What self-training brings where one row in twenty has a label, and whether it ever costs anything.

Adult: 5 % of the training file's rows keep their label (stratified, drawn by the seed; a fifth of them validate), all others of the file
are rows without a label; the official test file is met once, at the end. Each seed gives one pair: the model of the labelled rows alone
(round 0) and the model that self-training keeps, chosen by validation rows only. Beside them stands the last round, which is what would
be deployed without a choice. Reported are the means, the mean of the paired differences and its 95 % t-interval, and how many seeds
became worse. Prints one JSON line. A seed at a time is measured with `--seed 3`, and put together with `--join FILE…`.

    python benchmarks/self_training.py
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from scipy import stats

import deepseek
from deepseek.artifacts import read_json

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data")) / "adult"
NAMES = ["age", "workclass", "fnlwgt", "education", "years", "marital", "occupation", "relationship", "race", "sex", "gain", "loss"]
NAMES += ["hours", "country", "income"]
SEEDS = 5
METRICS = ("auc", "accuracy")


def table(name: str) -> pa.Table:
    """Return one of the files, spaces and the full stop of the test file's classes taken off."""
    rows = [line.strip().rstrip(".").split(", ") for line in (DATA / name).read_text().splitlines() if line.count(",") == 14]
    return pa.table({column: [row[place] for row in rows] for place, column in enumerate(NAMES)})


def write(seed: int, share: float, folder: Path) -> None:
    """Write labelled rows, rows without a label, and test rows."""
    rows = table("adult-train.csv")
    income = np.array(rows["income"].to_pylist())
    draw = np.random.default_rng(seed)
    labelled = np.zeros(len(income), dtype=bool)
    for name in np.unique(income):
        places = draw.permutation(np.flatnonzero(income == name))
        labelled[places[: round(share * len(places))]] = True
    pa.csv.write_csv(rows.filter(pa.array(labelled)), folder / "few.csv")
    pa.csv.write_csv(rows.filter(pa.array(~labelled)).drop_columns(["income"]), folder / "many.csv")
    pa.csv.write_csv(table("adult-test.csv"), folder / "test.csv")


def one(seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """Return the test metrics of the three models of one seed."""
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        write(seed, settings.share, folder)
        recipe = {
            "name": "adult",
            "seed": seed,
            "data": {"source": "few.csv", "test": "test.csv", "target": "income", "split": {"train": 0.8, "validation": 0.2, "test": 0}},
            "train": {"monitor": "auc", **({"max_steps": settings.steps} if settings.steps else {})},
            "self_training": {"unlabelled": "many.csv", "rounds": settings.rounds, **json.loads(settings.set)},
        }
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        run = deepseek.run(folder / "recipe.yaml", out=folder / "runs")
        told = read_json(run.run / "decisions.json")["self_training"]
        last = told["rounds"][-1]["number"]
        found = {
            "without": deepseek.evaluate(run.run / "rounds" / "0" / "bundle", folder / "test.csv")["metrics"],
            "kept": run.metrics["test"],
            "last": deepseek.evaluate(run.run / "rounds" / str(last) / "bundle", folder / "test.csv")["metrics"],
        }
    metrics = {arm: {name: float(values[name]) for name in METRICS} for arm, values in found.items()}
    return {"seed": seed, "round": told["kept"], "rows": [one["rows"] for one in told["rounds"]], **metrics}


def joined(pairs: list[dict[str, Any]], settings: argparse.Namespace) -> dict[str, Any]:
    """Return what all seeds come to."""
    result: dict[str, Any] = {"benchmark": "self_training", "data": "adult", "share": settings.share, "seeds": len(pairs)}
    result["rounds_kept"] = [pair["round"] for pair in pairs]
    for name in METRICS:
        values = {arm: np.array([pair[arm][name] for pair in pairs]) for arm in ("without", "kept", "last")}
        result[name] = {arm: round(float(one.mean()), 4) for arm, one in values.items()}
        for arm in ("kept", "last"):
            difference = values[arm] - values["without"]
            mean, spread = (
                float(difference.mean()),
                float(stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(difference)) if len(pairs) > 1 else 0,
            )
            result[name][f"{arm}_gain"] = [round(one, 4) for one in (mean, mean - spread, mean + spread)]
            result[name][f"{arm}_worse"] = int((difference < 0).sum())
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, help="measure this seed alone")
    parser.add_argument("--join", nargs="*", metavar="FILE", help="put together what --seed printed")
    parser.add_argument("--share", type=float, default=0.05, help="how many of the training rows keep their label")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", default="{}", help="further keys of self_training, as JSON")
    parser.add_argument("--steps", type=int, help="the most steps, to try the script out")
    asked = parser.parse_args()
    if asked.seed is not None:
        print(json.dumps(one(asked.seed, asked)), flush=True)
        sys.exit()
    each = [json.loads(Path(file).read_text()) for file in asked.join or ()] or [one(seed, asked) for seed in range(SEEDS)]
    print(json.dumps(joined(each, asked)), flush=True)
