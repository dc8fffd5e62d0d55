"""Planted wrong labels on Fashion-MNIST: how many does `deepseek suspects` find, and how many of those it tells of are wrong?

Protocol: training images drawn at random, one label in ten made wrong; `uniform`: any other class alike; `by class`: shirts become
T-shirts, pullovers coats, ankle boots sneakers and so on, as people err. All rows are for training, of each fold's network a small
convolutional one (16, 32 and 64 channels), validated on nothing. The true labels are looked at once, at the end. The set's own labels are
not all right: what is told of beyond the planted errors counts as false all the same. Intervals are Wilson's, 95 %.

Usage: python benchmarks/label_quality.py [--rows 20000] [--folds 4] [--epochs 8] [--noise uniform|by_class …] [--seeds 1]
With `--keep FOLDER` a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import deepseek
from deepseek.statistics.confident import find_suspects
from deepseek.statistics.intervals import wilson

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
SHARE = 0.1
TAKEN_FOR = np.array([6, 3, 4, 0, 2, 7, 0, 9, 5, 7])
"""What a hasty person takes each of the ten classes for."""
MODEL = {"type": "cnn", "channels": [16, 32, 64], "blocks": [0, 0, 0]}
METHODS = ("both", "class", "noise_rate", "joint")


def planted(labels: np.ndarray, noise: str, random: np.random.Generator) -> np.ndarray:
    """Return labels of which one in ten is wrong."""
    wrong = random.random(len(labels)) < SHARE
    other = TAKEN_FOR[labels] if noise == "by_class" else (labels + random.integers(1, 10, len(labels))) % 10
    return np.where(wrong, other, labels)


def measure(noise: str, *, rows: int, folds: int, epochs: int, seed: int, keep: Path) -> dict[str, object]:
    random = np.random.default_rng(seed)
    with np.load(DATA / "fashion_mnist" / "fashion_mnist.npz") as file:
        chosen = random.permutation(len(file["y_train"]))[:rows]
        images, true = file["x_train"][chosen], file["y_train"][chosen].astype(np.int64)
    given = planted(true, noise, random)
    source = keep / f"{noise}-{rows}-{seed}.npz"
    if not source.exists():
        np.savez(source, x=images, y=given)
    recipe = {
        "name": f"{noise}-{rows}-{folds}-{epochs}-{seed}",
        "seed": seed,
        "data": {"source": str(source), "target": "y", "split": {"train": 1, "validation": 0, "test": 0, "on_leak": "ignore"}},
        "model": MODEL,
        "train": {"epochs": epochs, "batch_size": 128, "learning_rate": 0.004, "precision": "bf16"},
    }
    out = keep / "runs"
    begun = any((out / str(recipe["name"])).glob("suspects-*"))
    found = deepseek.suspects(recipe, folds=folds, out=out, examples=False, resume=begun)
    judged = np.load(found.folder / "judged.npz")
    wrong = (given != true)[judged["rows"]]
    result: dict[str, object] = {
        "benchmark": "label_quality",
        "noise": noise,
        "rows": rows,
        "folds": folds,
        "epochs": epochs,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "accuracy_out_of_fold": round(found.facts["accuracy"], 4),
        "share_wrong": round(float(wrong.mean()), 4),
        "share_estimated": round(found.facts["share"], 4),
        "seconds": found.facts["seconds"],
    }
    for method in METHODS:
        told = find_suspects(judged["given"], judged["probability"], method=method).rows
        recall, precision = wilson(wrong[told].sum(), wrong.sum()), wilson(wrong[told].sum(), len(told))
        result[method] = {
            "told": len(told),
            **{
                name: [round(value, 4) for value in (one.value, one.low, one.high)]
                for name, one in (("recall", recall), ("precision", precision))
            },
        }
    guess = judged["probability"].argmax(axis=1) != judged["given"]
    result["likeliest_class_differs"] = {
        "recall": round(float(wrong[guess].sum() / wrong.sum()), 4),
        "precision": round(float(wrong[guess].mean()), 4),
    }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--noise", nargs="*", default=["uniform", "by_class"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = told.keep or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        for kind in told.noise:
            for number in range(told.seeds):
                line = measure(kind, rows=told.rows, folds=told.folds, epochs=told.epochs, seed=number, keep=home)
                print(json.dumps(line), flush=True)
