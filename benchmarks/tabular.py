"""Zero-config tables against scikit-learn's gradient boosting, paired: Adult, credit default, German credit.

Protocol: `deepseek train FILE --target COL` with nothing else said, five seeds; scikit-learn's HistGradientBoostingClassifier with its
defaults and categorical columns marked, on the same training rows (ours sets its own validation rows aside from them) and the same test
rows. Adult has its official test file, credit default a stratified 75/25 split (seed 0), German credit five times five folds. Reported:
the mean AUC of each, the mean of the paired differences and its 95 % t-interval. For credit default and Adult the pairs differ by seed,
for German by fold and repetition.

Usage: python benchmarks/tabular.py [adult|credit|german …] [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split

import deepseek

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
Split = tuple[int, pd.DataFrame, pd.DataFrame]


def adult(seeds: int) -> Iterator[Split]:
    def read(name: str) -> pd.DataFrame:
        frame = pd.read_csv(DATA / "adult" / name, header=None, skipinitialspace=True, na_values="?")
        frame.columns = [*(f"c{i}" for i in range(14)), "target"]
        return frame.assign(target=frame.target.str.rstrip("."))

    train, test = read("adult-train.csv"), read("adult-test.csv")
    for seed in range(seeds):
        yield seed, train, test


def credit(seeds: int) -> Iterator[Split]:
    frame = pd.read_csv(DATA / "credit_default" / "UCI_Credit_Card.csv").drop(columns="ID")
    frame = frame.rename(columns={frame.columns[-1]: "target"})
    train, test = train_test_split(frame, test_size=0.25, stratify=frame.target, random_state=0)
    for seed in range(seeds):
        yield seed, train, test


def german(seeds: int) -> Iterator[Split]:
    frame = pd.read_csv(DATA / "german" / "german.csv", header=None)
    frame.columns = [*(f"c{i}" for i in range(frame.shape[1] - 1)), "target"]
    for seed in range(seeds):
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(frame, frame.target):
            yield seed, frame.iloc[train], frame.iloc[test]


def boosting(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> np.ndarray:
    x, z = train.drop(columns="target"), test.drop(columns="target")
    for name in x.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in x.dtypes]]:
        levels = pd.CategoricalDtype(sorted(x[name].dropna().unique()))
        x, z = x.assign(**{name: x[name].astype(levels)}), z.assign(**{name: z[name].astype(levels)})
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=seed).fit(x, train.target)
    return model.predict_proba(z)[:, 1]


def ours(train: pd.DataFrame, test: pd.DataFrame, seed: int, folder: Path) -> tuple[np.ndarray, float]:
    train.to_csv(folder / "train.csv", index=False)
    started = time.perf_counter()
    run = deepseek.train(folder / "train.csv", target="target", out=folder / "runs", overrides=[f"seed={seed}", *SPLIT], progress=False)
    seconds = time.perf_counter() - started
    answers = deepseek.load(run.run).predict(test.drop(columns="target"))
    return answers.iloc[:, -1].to_numpy(), seconds


SPLIT = ("data.split.train=0.85", "data.split.validation=0.15", "data.split.test=0")


def measure(name: str, seeds: int) -> dict[str, object]:
    rows: list[tuple[float, float, float, float, float]] = []
    for seed, train, test in {"adult": adult, "credit": credit, "german": german}[name](seeds):
        positive = (test.target == sorted(test.target.unique())[1]).to_numpy()
        baseline = boosting(train, test, seed)
        with tempfile.TemporaryDirectory() as folder:
            answer, seconds = ours(train, test, seed, Path(folder))
        rows.append(
            (
                roc_auc_score(positive, baseline),
                roc_auc_score(positive, answer),
                accuracy_score(positive, baseline > 0.5),
                accuracy_score(positive, answer > 0.5),
                seconds,
            )
        )
        print(f"{name} seed {seed}: boosting {rows[-1][0]:.4f} ours {rows[-1][1]:.4f} in {seconds:.1f} s", file=sys.stderr)
    table = np.array(rows)
    difference = table[:, 1] - table[:, 0]
    half = stats.t.ppf(0.975, len(rows) - 1) * difference.std(ddof=1) / np.sqrt(len(rows))
    return {
        "benchmark": "tabular",
        "dataset": name,
        "pairs": len(rows),
        "auc_boosting": round(float(table[:, 0].mean()), 5),
        "auc_ours": round(float(table[:, 1].mean()), 5),
        "difference": round(float(difference.mean()), 5),
        "interval_95": [round(float(difference.mean() - half), 5), round(float(difference.mean() + half), 5)],
        "accuracy_boosting": round(float(table[:, 2].mean()), 4),
        "accuracy_ours": round(float(table[:, 3].mean()), 4),
        "seconds_median": round(float(np.median(table[:, 4])), 1),
        "seconds_max": round(float(table[:, 4].max()), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", default=["adult", "credit", "german"])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        print(json.dumps(measure(dataset, arguments.seeds)), flush=True)
