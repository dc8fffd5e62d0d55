"""Wide and deep on MovieLens 100K by time: each part alone, both, logistic regression and popularity.

Protocol: who gives a film four stars or five (a rating is a row; nothing is drawn). The ratings in the order of time: the first 80 % train,
the next 10 % are for validation, the last 10 % are met once, at the end. Columns: user, film, age, sex, occupation, genres (their
combination), year of release. All contestants meet the same columns and the same training rows; the year and the age are numbers, all
else is categories. Every network has the same crosses, settings of its deep part and way of training, and keeps the weights of its best
epoch by validation log-loss; logistic regression takes its C of six by validation AUC, and popularity is a film's share of fours and fives
among the training rows, shrunk to the overall share by ten ratings. AUC on the test rows; the networks' pairs differ by seed, and the
interval of a difference is a 95 % t-interval over seeds. In a split by time most users of the test rows have no row in training.

Usage: python benchmarks/movielens.py [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import deepseek
from deepseek import progress

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data")) / "movielens100k"
CATEGORIES = ["user", "film", "sex", "occupation", "genres"]
NUMBERS = ["age", "year"]
PARTS = ["train", "validation", "test"]
CROSSES = [
    ["user", "genres"],
    ["sex", "genres"],
    ["occupation", "genres"],
    ["age", "genres"],
    ["sex", "film"],
    ["age", "film"],
    ["occupation", "film"],
]
CONTESTANTS = {"wide": {"deep": False}, "deep": {"wide": False}, "both": {}}


def ratings() -> pd.DataFrame:
    """Return the ratings with what is known of users and films, in the order of time, and the part each belongs to."""
    names = (DATA / "u.genre").read_text().split()
    genres = [line.split("|")[0] for line in names]
    log = pd.read_csv(DATA / "u.data", sep="\t", names=["user", "film", "stars", "time"])
    users = pd.read_csv(DATA / "u.user", sep="|", names=["user", "age", "sex", "occupation", "zip"])
    films = pd.read_csv(DATA / "u.item", sep="|", encoding="latin-1", names=["film", "title", "released", "video", "link", *genres])
    films["genres"] = films[genres].apply(lambda row: "+".join(name for name in genres if row[name]), axis=1)
    films["year"] = pd.to_datetime(films["released"], format="%d-%m-%Y").dt.year.fillna(1995).astype(float)
    table = log.merge(users.drop(columns="zip"), on="user").merge(films[["film", "genres", "year"]], on="film")
    table = table.sort_values(["time", "user", "film"], kind="stable").reset_index(drop=True)
    table["liked"] = np.where(table["stars"] >= 4, "yes", "no")
    place = np.searchsorted([0.8 * len(table), 0.9 * len(table)], np.arange(len(table)), side="right")
    table["part"] = np.array(PARTS)[place]
    return table[[*CATEGORIES, *NUMBERS, "liked", "part"]]


def logistic_regression(rows: dict[str, pd.DataFrame]) -> float:
    truth = {name: part["liked"] == "yes" for name, part in rows.items()}

    def fitted(c: float) -> object:
        encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), CATEGORIES), (StandardScaler(), NUMBERS))
        return make_pipeline(encoder, LogisticRegression(C=c, max_iter=500)).fit(rows["train"], truth["train"])

    def auc(model: object, name: str) -> float:
        return float(roc_auc_score(truth[name], model.predict_proba(rows[name])[:, 1]))

    return auc(max((fitted(c) for c in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)), key=lambda model: auc(model, "validation")), "test")


def popularity(rows: dict[str, pd.DataFrame]) -> float:
    train = rows["train"].assign(good=rows["train"]["liked"] == "yes")
    mean = train["good"].mean()
    films = train.groupby("film")["good"].agg(["sum", "count"])
    shares = (films["sum"] + 10 * mean) / (films["count"] + 10)
    return float(roc_auc_score(rows["test"]["liked"] == "yes", rows["test"]["film"].map(shares).fillna(mean)))


def network(table: Path, settings: dict[str, bool], seed: int, folder: Path) -> tuple[float, float]:
    started = time.perf_counter()
    recipe = {
        "name": "movies",
        "seed": seed,
        "data": {
            "source": str(table),
            "target": "liked",
            "split": {"column": "part"},
            "fields": dict.fromkeys(CATEGORIES, "category"),
        },
        "model": {"type": "wide_deep", "crosses": CROSSES, "width": 64, "depth": 2, "dropout": 0.2, **settings},
        "train": {"epochs": 12, "batch_size": 1024, "learning_rate": 0.003, "precision": "fp32"},
    }
    with progress.hushed():
        run = deepseek.run(recipe, out=folder / "runs")
    return run.metrics["test"]["auc"], time.perf_counter() - started


def interval(difference: np.ndarray) -> list[float]:
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
    return [round(float(difference.mean() + sign * half), 4) for sign in (-1, 1)]


def measure(seeds: int) -> dict[str, object]:
    table = ratings()
    rows = {name: table[table["part"] == name] for name in PARTS}
    fixed = {"logistic_regression": logistic_regression(rows), "popularity": popularity(rows)}
    found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ratings.csv"
        table.to_csv(file, index=False)
        for seed in range(seeds):
            for name, settings in CONTESTANTS.items():
                auc, took = network(file, settings, seed, Path(folder))
                found[name].append(auc)
                seconds[name].append(took)
                print(f"seed {seed} {name}: {auc:.4f} in {took:.0f} s", file=sys.stderr, flush=True)
    each = {name: np.array(values) for name, values in found.items()}
    beside = {**each, **{name: np.full(seeds, value) for name, value in fixed.items()}}
    differences = {name: each["both"] - other for name, other in beside.items() if name != "both"}
    known = set(rows["train"]["user"])
    return {
        "benchmark": "movielens",
        "rows": {name: len(part) for name, part in rows.items()},
        "test_rows_of_users_in_training": round(float(rows["test"]["user"].isin(known).mean()), 3),
        "seeds": seeds,
        "threads": torch.get_num_threads(),
        "auc": {name: round(float(values.mean()), 4) for name, values in beside.items()},
        "both_minus": {name: {"mean": round(float(one.mean()), 4), "interval_95": interval(one)} for name, one in differences.items()},
        "seconds_median": {name: round(float(np.median(values)), 1) for name, values in seconds.items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    print(json.dumps(measure(parser.parse_args().seeds)), flush=True)
