"""Where the two parts of the hippocampus are in magnetic resonance volumes: U-Net of three dimensions, with attention gates and without.

119 volumes of the Medical Segmentation Decathlon, of about 35×51×35 voxels, with masks of two parts. 83 train, 12 validate and 24 test,
drawn once by the seed. Both networks are the same but for the gates, which add less than half a percent of the parameters, and are trained
alike, from patches of 32×48×32 voxels. The weights of the best validation are kept; the test volumes are met once, whole. Dice is of each
volume and part, averaged over volumes, then over the two parts. One thread. Prints one JSON line; with `--gates yes` or `no` that network
alone, and `--join FILE…` puts two such lines together.

    python benchmarks/hippocampus.py
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import deepseek
from deepseek.inference import Predictor
from deepseek.inference.backends.torch import TorchBackend
from deepseek.models.network import parameter_count

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data")) / "hippocampus" / "hippocampus_119.tar"
PARTS = {"train": 83, "validation": 12, "test": 24}
SEED = 0
EPOCHS = 30


def unpack(folder: Path) -> Path:
    """Unpack the volumes and write a table of them: image, mask, and which split each is in."""
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    names = sorted(path.name for path in (folder / "images").iterdir())
    splits = np.repeat(list(PARTS), list(PARTS.values()))
    order = np.random.default_rng(SEED).permutation(len(names))
    assert len(names) == len(splits)
    table = folder / "volumes.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mask", "split"])
        rows.writerows(
            [str(folder / "images" / names[place]), str(folder / "labels" / names[place]), split]
            for place, split in zip(order, splits, strict=True)
        )
    return table


def one(*, gates: bool, epochs: int) -> dict[str, Any]:
    """Train one network and return what it reached."""
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        recipe = {
            "name": "hippocampus",
            "seed": SEED,
            "data": {
                "source": {"type": "csv", "path": str(unpack(folder))},
                "target": "mask",
                "split": {"column": "split"},
                "transforms": {"image": {"type": "volume", "size": [48, 56, 48]}},
                "augment": [{"type": "patch", "size": [32, 48, 32]}],
            },
            "model": {"type": "unet3d", "width": 16, "depth": 3, "attention_gates": gates},
            "train": {"epochs": epochs, "precision": "fp32", "channels_last": False, "compile": "off"},
        }
        began = time.process_time()
        result = deepseek.run(recipe, out=folder / "runs")
        spent = time.process_time() - began
        backend = Predictor.load(result.bundle, backend="torch").backend
        assert isinstance(backend, TorchBackend)
        test = result.metrics["test"]
        return {
            "gates": gates,
            "parameters": parameter_count(backend.model),
            "dice": round(test["dice"], 4),
            "dice_1": round(test["dice_1"], 4),
            "dice_2": round(test["dice_2"], 4),
            "validation": round(result.metrics["validation"]["dice"], 4),
            "cpu_minutes": round(spent / 60, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gates", choices=["yes", "no"])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--join", nargs="+", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.join:
        parts = [json.loads(path.read_text().splitlines()[-1]) for path in settings.join]
    elif settings.gates:
        print(json.dumps(one(gates=settings.gates == "yes", epochs=settings.epochs)))
        return
    else:
        parts = [one(gates=gates, epochs=settings.epochs) for gates in (True, False)]
    print(json.dumps({"name": "hippocampus", "splits": PARTS, "seed": SEED, "epochs": settings.epochs, "networks": parts}))


if __name__ == "__main__":
    if not DATA.is_file():
        sys.exit(f"{DATA} is not there: set DEEPSEEK_DATA")
    main()
