"""What augmentation brings where labels are few: MixUp and CutMix on images, easy data augmentation on texts.

Fashion-MNIST: a tenth of the training images (stratified, drawn by the seed) for training, half as many others for validation; the default
network for images, flips and crops in both arms, and MixUp and CutMix, each for half of the batches, in one of them. SST-2: a tenth of the
training sentences, and all 872 validation sentences; the default recipe for texts, and `eda` in one arm. Both arms of a seed have the same
rows, seed, network and number of epochs, and no early stopping; the official test rows are met once, at the end. Reported are both means,
the mean of the paired differences and its 95 % t-interval. `--share 1` takes nearly all labels (on images two thirds, as half as many
validate), `--share 0.0017` ten a class. Prints one JSON line for each set.

    python benchmarks/augmentation_gain.py fashion sst2 --seeds 5
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
import pyarrow.parquet as pq
from scipy import stats

import deepseek

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
MIXED = {"type": "image_augmenter", "methods": ["mixup", "cutmix"], "probabilities": [0.5, 0.5]}
MOVED = [{"type": "flip"}, {"type": "shift", "fraction": 0.07}]
Arms = dict[str, list[dict[str, Any]]]
ARMS: dict[str, Arms] = {
    "fashion": {"without": MOVED, "with": [*MOVED, MIXED]},
    "sst2": {"without": [], "with": [{"type": "eda", "probability": 0.5, "share": 0.1}]},
}
PARTS = ("train", "val", "test")


def fashion(seed: int, share: float, folder: Path) -> tuple[Path, list[str]]:
    """Write a share of the training images, others to validate on, and the test images; return the file and keys of the recipe."""
    with np.load(DATA / "fashion_mnist" / "fashion_mnist.npz") as file:
        images, labels = file["x_train"], file["y_train"]
        test = file["x_test"], file["y_test"]
    place = np.empty(len(labels), dtype=np.int64)  # of each row among those of its class, in random order
    order = np.random.default_rng(seed).permutation(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = np.arange(len(rows))
    whole = len(labels) // len(np.unique(labels))
    each = min(round(share * whole), whole * 2 // 3)
    kept = np.flatnonzero(place < each), np.flatnonzero((place >= each) & (place < each + each // 2))
    pairs = [*((images[rows], labels[rows]) for rows in kept), test]
    arrays = {f"{axis}_{part}": array for part, pair in zip(PARTS, pairs, strict=True) for axis, array in zip("xy", pair, strict=True)}
    np.savez(folder / "fashion.npz", **arrays)
    return folder / "fashion.npz", []


def sst2(seed: int, share: float, folder: Path) -> tuple[Path, list[str]]:
    """Write a share of the training sentences, and the validation and test rows; return the file and keys of the recipe."""
    found: dict[str, list[str]] = {"text": [], "y": [], "part": []}
    for name, part in (("train", "train"), ("dev", "validation"), ("test", "test")):
        text = (DATA / "sst2" / f"stsa.binary.{name}").read_text(encoding="latin-1")
        lines = [line for line in text.split("\n") if line]
        if part == "train":
            lines = [lines[row] for row in np.random.default_rng(seed).permutation(len(lines))[: round(share * len(lines))]]
        found["text"] += [line[2:] for line in lines]
        found["y"] += ["positive" if line[0] == "1" else "negative" for line in lines]
        found["part"] += [part] * len(lines)
    pq.write_table(pa.table(found), folder / "sst2.parquet")
    return folder / "sst2.parquet", ["data.split={column: part}", "data.fields={text: text}"]


SETS = {"fashion": fashion, "sst2": sst2}


def accuracy(name: str, arm: str, seed: int, arguments: argparse.Namespace) -> float:
    """Return one arm's accuracy on the test rows."""
    keys = [f"seed={seed}", f"train.epochs={arguments.epochs}", "train.early_stopping=false", f"data.augment={json.dumps(ARMS[name][arm])}"]
    keys += [f"train.max_steps={arguments.steps}"] if arguments.steps else []
    with tempfile.TemporaryDirectory() as folder:
        file, more = SETS[name](seed, arguments.share, Path(folder))
        run = deepseek.train(file, target="y", out=Path(folder) / "runs", overrides=[*keys, *more], progress=False)
    return float((run.metrics["test"] or {})["accuracy"])


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = []
    for seed in range(arguments.seeds):
        pairs.append([accuracy(name, arm, seed, arguments) for arm in ("without", "with")])
        print(f"{name} seed {seed}: without {pairs[-1][0]:.4f}, with {pairs[-1][1]:.4f}", file=sys.stderr, flush=True)
    table = np.array(pairs)
    difference = table[:, 1] - table[:, 0]
    spread = float(stats.t.ppf(0.975, len(table) - 1) * stats.sem(difference)) if len(table) > 1 else None
    mean = float(difference.mean())
    return {
        "benchmark": "augmentation_gain",
        "data": name,
        "share": arguments.share,
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
        "accuracy": {"without": round(float(table[:, 0].mean()), 4), "with": round(float(table[:, 1].mean()), 4)},
        "difference": round(mean, 4),
        "interval": None if spread is None else [round(mean - spread, 4), round(mean + spread, 4)],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.1, help="how much of the labelled rows is used")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--steps", type=int, help="the most steps, to try the script out")
    asked = parser.parse_args()
    for each in asked.data:
        print(json.dumps(measure(each, asked)), flush=True)
