"""ETTh1, hourly, all seven columns from each other's past: the literature's protocol, with figures that need no training as its check.

Protocol (Zhou et al. 2021, https://arxiv.org/abs/2012.07436; Zeng et al. 2023, https://arxiv.org/abs/2205.13504): of the hourly table the
first 12 months of 30 days train, 4 validate, 4 test; columns are standardised by the training months; every window of the test months is
forecast 96 hours ahead, contexts reach back into the months before. Reported: MSE and MAE over all windows, hours and columns, in standard
deviations. Repeating the last value gives the literature's 1.295 and 0.713, or the protocol is another one. `default` says nothing of model
or training and looks back 336 hours, as DLinear does in its paper; the others are named in the output with what they were told.

All files stay in a temporary folder. Usage: python benchmarks/etth1.py [default nlinear "tft, scale of training" …] [--seeds 1]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import deepseek
from deepseek import progress
from deepseek.artifacts import Bundle, StageCache
from deepseek.data.windows.dataset import WindowDataset
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.analysis.horizons import horizon_facts
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
COLUMNS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
HORIZON, DAY = 96, 24
PERIODS = {"validation_from": "2017-06-26", "test_from": "2017-10-24", "until": "2018-02-21"}
QUANTILES = {"type": "quantile", "levels": [0.1, 0.5, 0.9]}
CONTESTANTS: dict[str, dict[str, Any]] = {
    "default": {"context": 336},
    "nlinear": {"context": 336, "model": {"type": "nlinear"}},
    "series_rnn": {"context": 100, "model": {"type": "series_rnn"}},
    "tft": {
        "context": 100,
        "model": {"type": "tft", "width": 32, "dropout": 0.3},
        "known": ["date"],
        "loss": QUANTILES,
        "train": {"epochs": 5, "batch_size": 128},
    },
}
for name in ("series_rnn", "tft"):
    told = CONTESTANTS[name]
    CONTESTANTS[f"{name}, scale of training"] = {**told, "model": {**told["model"], "window_scale": False}}


def recipe(told: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the recipe of a contestant."""
    data = {"source": str(DATA / "ett" / "ETTh1.csv"), "time": "date", "target": COLUMNS, "split": PERIODS, "known": told.get("known", [])}
    task = {"type": "forecasting", "horizon": HORIZON, "context_length": told["context"], "loss": told.get("loss", "mse")}
    rest = {key: told[key] for key in ("model", "train") if key in told}
    return {"name": "etth1", "seed": seed, "data": data, "task": task, **rest}


def measured(told: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Train a contestant once; return its figures, and those of the naive forecasts on the same windows."""
    value = recipe(told, seed)
    began = time.perf_counter()
    run = deepseek.run(value, out=folder)
    seconds = time.perf_counter() - began
    windows = make_dataset(load_recipe(value), StageCache(folder / ".cache")).open("test")
    assert isinstance(windows, WindowDataset)
    facts = horizon_facts(TorchBackend(Bundle.open(run.bundle)).model, windows, season=DAY)
    found = {who: {"mse": facts.mse(who), "mae": facts.mae(who)} for who in facts.squared}
    quantiles = {name: run.metrics["test"][name] for name in ("pinball", "coverage") if name in (run.metrics["test"] or {})}
    return {"windows": facts.windows, "seconds": seconds, **found, "quantiles": quantiles}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("contestants", nargs="*", default=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    progress.quiet(True)
    results: dict[str, Any] = {"benchmark": "etth1", "horizon": HORIZON, "threads": torch.get_num_threads(), "contestants": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.contestants:
            told = CONTESTANTS[name]
            runs = [measured(told, seed, Path(folder)) for seed in range(given.seeds)]
            figures = {key: round(float(np.mean([run["model"][key] for run in runs])), 4) for key in ("mse", "mae")}
            spread = round(float(np.ptp([run["model"]["mse"] for run in runs])), 4)
            quantiles = {key: round(float(np.mean([run["quantiles"][key] for run in runs])), 4) for key in runs[0]["quantiles"]}
            seconds = round(float(np.median([run["seconds"] for run in runs])), 1)
            results["contestants"][name] = {**figures, "mse_range": spread, **quantiles, "seconds": seconds, "told": told}
            results["windows"] = runs[0]["windows"]
            for who in ("repeat last", "seasonal naive"):
                results[who] = {key: round(value, 4) for key, value in runs[0][who].items()}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
