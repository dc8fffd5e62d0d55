"""Zero-config texts against TF-IDF with logistic regression, paired: SMS spam, SST-2, IMDB.

Protocol: `deepseek train FILE --target label` with nothing else said but the seed and which rows are for what, five seeds. Against it
scikit-learn on the same training rows: words and pairs of words, TF-IDF, logistic regression with C = 10 (`plain`), and the same with
sublinear counts and without terms met in one text only (`tuned`). SST-2 and IMDB have their official training,
validation and test rows; validation rows choose our best epoch, and the baselines have no use for them. SMS spam is split 80/20,
stratified, by the seed, and ours sets its own validation rows aside from the 80. Reported: the mean accuracy of each, the mean of the
paired differences and its 95 % t-interval over the seeds; with official test rows it says nothing of other test rows.

Usage: python benchmarks/text.py [sms|sst2|imdb …] [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

import deepseek

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
Split = tuple[int, pd.DataFrame, pd.DataFrame]
"""The seed, the rows to learn from (`text`, `label` and, where the set says so, `split`), the test rows."""
BASELINES: dict[str, dict[str, Any]] = {"plain": {}, "tuned": {"sublinear_tf": True, "min_df": 2}}
OWN_SPLIT = ("data.split.train=0.85", "data.split.validation=0.15", "data.split.test=0")
GIVEN_SPLIT = ("data.split.column=split",)


def sms(seeds: int) -> Iterator[Split]:
    lines = (DATA / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t", 1) for line in lines if line.startswith(("ham\t", "spam\t"))]
    frame = pd.DataFrame(rows, columns=["label", "text"])
    for seed in range(seeds):
        train, test = train_test_split(frame, test_size=0.2, stratify=frame.label, random_state=seed)
        yield seed, train, test


def sst2(seeds: int) -> Iterator[Split]:
    def read(name: str) -> pd.DataFrame:
        lines = (DATA / "sst2" / f"stsa.binary.{name}").read_text(encoding="latin-1").split("\n")
        return pd.DataFrame([(line[2:], "positive" if line[0] == "1" else "negative") for line in lines if line], columns=["text", "label"])

    yield from _official(read("train"), read("dev"), read("test"), seeds)


def imdb(seeds: int) -> Iterator[Split]:
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "val": [], "test": []}
    with tarfile.open(DATA / "imdb" / "aclImdb.tar.xz") as archive:
        for member in archive:
            folder, label = Path(member.name).parts[-3:-1] if member.name.count("/") >= 2 else ("", "")
            content = archive.extractfile(member) if folder in rows and label in {"pos", "neg"} else None
            if content is not None:
                rows[folder].append((content.read().decode(), label))
    train, validation, test = (pd.DataFrame(rows[name], columns=["text", "label"]) for name in ("train", "val", "test"))
    yield from _official(train, validation, test, seeds)


def _official(train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, seeds: int) -> Iterator[Split]:
    learned = pd.concat([train.assign(split="train"), validation.assign(split="validation")])
    for seed in range(seeds):
        yield seed, learned, test


def linear(train: pd.DataFrame, test: pd.DataFrame, **settings: Any) -> float:
    """Return the test accuracy of logistic regression on TF-IDF of words and pairs of words."""
    rows = train[train.split == "train"] if "split" in train else train
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), **settings), LogisticRegression(C=10, max_iter=2000))
    return float(model.fit(rows.text, rows.label).score(test.text, test.label))


def ours(train: pd.DataFrame, test: pd.DataFrame, seed: int, folder: Path) -> tuple[float, float]:
    """Return the test accuracy and the seconds from file to finished run."""
    train.to_parquet(folder / "train.parquet", index=False)
    split = GIVEN_SPLIT if "split" in train else OWN_SPLIT
    started = time.perf_counter()
    run = deepseek.train(folder / "train.parquet", target="label", out=folder / "runs", overrides=[f"seed={seed}", *split], progress=False)
    seconds = time.perf_counter() - started
    metrics = deepseek.load(run.run).evaluate(test)["metrics"]
    return float(metrics["accuracy"]), seconds


def measure(name: str, seeds: int) -> dict[str, object]:
    rows: list[tuple[float, ...]] = []
    known: dict[str, float] = {}
    for seed, train, test in {"sms": sms, "sst2": sst2, "imdb": imdb}[name](seeds):
        if not (known and "split" in train):  # with official splits nothing about the baselines goes by the seed
            known = {key: linear(train, test, **settings) for key, settings in BASELINES.items()}
        with tempfile.TemporaryDirectory() as folder:
            accuracy, seconds = ours(train, test, seed, Path(folder))
        rows.append((*known.values(), accuracy, seconds))
        print(f"{name} seed {seed}: {known} ours {accuracy:.4f} in {seconds:.1f} s", file=sys.stderr, flush=True)
    table = np.array(rows)
    return {
        "benchmark": "text",
        "dataset": name,
        "pairs": len(rows),
        **{f"accuracy_{key}": round(float(table[:, column].mean()), 4) for column, key in enumerate(BASELINES)},
        "accuracy_ours": round(float(table[:, 2].mean()), 4),
        **{f"versus_{key}": _paired(table[:, 2] - table[:, column]) for column, key in enumerate(BASELINES)},
        "seconds_median": round(float(np.median(table[:, 3])), 1),
        "seconds_max": round(float(table[:, 3].max()), 1),
    }


def _paired(difference: np.ndarray) -> dict[str, object]:
    if len(difference) < 2:
        return {"difference": round(float(difference.mean()), 4)}
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
    ends = [round(float(difference.mean() + sign * half), 4) for sign in (-1, 1)]
    return {"difference": round(float(difference.mean()), 4), "interval_95": ends}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", default=["sms", "sst2", "imdb"])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        print(json.dumps(measure(dataset, arguments.seeds)), flush=True)
