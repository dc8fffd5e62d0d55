"""Pneumonia on chest X-rays of 28 by 28 pixels, with nothing said but the file: zero configuration.

PneumoniaMNIST: 4,708 images train, 524 validate, 624 test, as published. The threshold is chosen on validation rows, where sensitivity and
specificity together are largest (Youden, 1950), and used once on the test rows. Reported are the mean and the spread over the seeds. One
thread. Prints one JSON line.

    python benchmarks/pneumonia.py
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import deepseek

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data")) / "pneumoniamnist"
SEEDS = 3


def best_threshold(score: np.ndarray, truth: np.ndarray) -> float:
    """Return the score from which on a row is called positive, where sensitivity and specificity add up to the most."""
    found = [(np.mean(score[truth] >= cut) + np.mean(score[~truth] < cut), cut) for cut in np.unique(score)]
    return float(max(found)[1])


def one(seed: int, file: Path) -> dict[str, Any]:
    """Train with one seed and return what the test rows say."""
    with tempfile.TemporaryDirectory() as given:
        began = time.process_time()
        result = deepseek.train(file, target="labels", out=Path(given) / "runs", overrides=[f"seed={seed}"], progress=False)
        spent = time.process_time() - began
        predictor, arrays = deepseek.load(result), np.load(file)
        score, truth = {}, {}
        for split in ("val", "test"):
            images = {"images": arrays[f"{split}_images"]}
            score[split] = predictor.predict_proba(images)[:, 1]
            truth[split] = arrays[f"{split}_labels"].ravel() == 1
        cut = best_threshold(score["val"], truth["val"])
        said, true = score["test"] >= cut, truth["test"]
        return {
            "auc": result.metrics["test"]["auc"],
            "accuracy": float((said == true).mean()),
            "sensitivity": float(said[true].mean()),
            "specificity": float((~said[~true]).mean()),
            "cpu_minutes": spent / 60,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    (file,) = sorted(DATA.glob("*.npz"))
    runs = [one(seed, file) for seed in range(settings.seeds)]
    summary = {
        name: {"mean": round(float(np.mean([run[name] for run in runs])), 4), "std": round(float(np.std([run[name] for run in runs])), 4)}
        for name in runs[0]
    }
    print(json.dumps({"name": "pneumonia", "seeds": settings.seeds, **summary}))


if __name__ == "__main__":
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: set DEEPSEEK_DATA")
    main()
