"""Ways to train the compact network on few images: which is steady, and which generalises?

Protocol: digits (1,200 of 8 x 8 pixels), the shapes of `deepseek example photos` (1,200 of 32 x 32), 1,000 of Fashion-MNIST and
PneumoniaMNIST (4,708 of 28 x 28), each with validation and test rows of its own. All arms have the same epochs and no early stopping.
Arms are chosen by validation; test rows are met once, at the end. The highest validation loss of any epoch says how steady an arm is.

Usage: python benchmarks/small_images.py [digits|photos|fashion|pneumonia …] [--epochs 24] [--seeds 1]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import deepseek
from deepseek.data.examples.photos import SHAPES, picture

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
_SMOOTH = ["train.schedule={type: cosine, warmup: 0.1}", "train.clip_norm=1.0", "train.ema=0.99", "train.early_stopping=false"]
_SGD = "train.optimizer={type: sgd, momentum: 0.9, nesterov: true, weight_decay: 0.0005}"
Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def arms(rows: int) -> dict[str, list[str]]:
    """Return the recipe keys of each arm: the default, gentler SGD, and SGD as it is for many images."""
    batch = 64 if rows > 2_000 else 32
    adamw = ["train.optimizer={type: adamw, weight_decay: 0.05}", "train.learning_rate=0.002"]
    large = ["train.schedule={type: linear, warmup: 0.25}", "train.clip_norm=null", "train.ema=null", "train.early_stopping=false"]
    return {
        "adamw": [*adamw, *_SMOOTH, f"train.batch_size={batch}"],
        "gentle sgd": [_SGD, "train.learning_rate=0.05", *_SMOOTH, f"train.batch_size={batch}"],
        "large sgd": [_SGD, "train.learning_rate=0.1", *large, "train.batch_size=64"],
    }


def digits() -> Parts:
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = (found.images * 15).astype(np.uint8)
    return {name: (images[rows], found.target[rows]) for name, rows in _cut(order, 1_200, 300)}


def photos() -> Parts:
    random = np.random.default_rng(5)
    labels = np.arange(3_200) % len(SHAPES)
    images = np.stack([np.asarray(picture(SHAPES[label], random)) for label in labels])
    return {name: (images[rows], labels[rows]) for name, rows in _cut(np.arange(3_200), 1_200, 1_000)}


def fashion() -> Parts:
    with np.load(DATA / "fashion_mnist" / "fashion_mnist.npz") as file:
        images, labels, order = file["x_train"], file["y_train"], np.random.default_rng(0).permutation(60_000)
        parts = {"train": order[:1_000], "val": order[20_000:22_000]}
        return {**{name: (images[rows], labels[rows]) for name, rows in parts.items()}, "test": (file["x_test"], file["y_test"])}


def pneumonia() -> Parts:
    with np.load(DATA / "pneumoniamnist" / "pneumoniamnist.npz") as file:
        return {name: (file[f"{name}_images"], file[f"{name}_labels"].reshape(-1)) for name in ("train", "val", "test")}


SETS = {"digits": digits, "photos": photos, "fashion": fashion, "pneumonia": pneumonia}


def _cut(order: np.ndarray, train: int, validation: int) -> list[tuple[str, np.ndarray]]:
    return list(zip(("train", "val", "test"), np.split(order, [train, train + validation]), strict=True))


def measure(name: str, parts: Parts, arm: str, *, seed: int, epochs: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.npz"
        np.savez(file, **{f"{axis}_{part}": array for part, pair in parts.items() for axis, array in zip("xy", pair, strict=True)})
        overrides = [f"seed={seed}", f"train.epochs={epochs}", *arms(len(parts["train"][1]))[arm]]
        run = deepseek.train(file, target="y", out=Path(folder) / "runs", overrides=overrides, progress=False)
        events = [json.loads(line) for line in (Path(run.run) / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [event["metrics"]["loss"] for event in events if event["event"] == "validation"]
    kept = {
        f"{key}_{split}": round(run.metrics[split][key], 4)
        for split in ("validation", "test")
        for key in ("accuracy", "log_loss", "auc")
        if key in run.metrics[split]
    }
    row = {"benchmark": "small_images", "dataset": name, "arm": arm, "seed": seed, "epochs": epochs, **kept}
    return {**row, "highest_validation_loss": round(max(losses), 2), "seconds": round(run.seconds, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", default=list(SETS))
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        read = SETS[dataset]()
        for number in range(arguments.seeds):
            for way in arms(len(read["train"][1])):
                print(json.dumps(measure(dataset, read, way, seed=number, epochs=arguments.epochs)), flush=True)
