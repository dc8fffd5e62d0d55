"""Zero-config images: Fashion-MNIST from its npz file, official test split, accuracy and wall-clock seconds.

Protocol: `deepseek train fashion_mnist.npz --target y`, nothing else said; the file's own test rows are met once, at the end. The seconds
include reading, preparing, training and evaluating.

Usage: python benchmarks/fashion_mnist.py [--seeds 1]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch

import deepseek

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))


def measure(seed: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        run = deepseek.train(
            DATA / "fashion_mnist" / "fashion_mnist.npz", target="y", out=Path(folder), overrides=[f"seed={seed}"], progress=False
        )
    return {
        "benchmark": "fashion_mnist",
        "seed": seed,
        "threads": torch.get_num_threads(),
        "accuracy_test": run.metrics["test"]["accuracy"],
        "accuracy_validation": run.metrics["validation"]["accuracy"],
        "seconds": round(run.seconds, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    for number in range(parser.parse_args().seeds):
        print(json.dumps(measure(number)), flush=True)
