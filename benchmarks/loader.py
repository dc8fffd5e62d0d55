"""How fast batches come: the loader against torch's TensorDataset and DataLoader, on 1 M rows of 30 float32 columns, one thread.

Prints two JSON lines, each with the median seconds of both (runs interleaved) and their ratio: the batches alone, and a whole epoch of
training a small MLP (two hidden layers of 64, Adam) on them, with the same loop for both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset


def run_framework(loader: Loader, epoch: int, steps: int) -> float:
    began = time.perf_counter()
    for _, batch in zip(range(steps), loader.batches(epoch), strict=False):
        _ = batch.inputs["numbers"], batch.targets["target"]
    return time.perf_counter() - began


def run_torch(loader: DataLoader, steps: int) -> float:
    began = time.perf_counter()
    for _ in zip(range(steps), loader, strict=False):
        pass
    return time.perf_counter() - began


def train(batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    torch.manual_seed(0)
    first = next(batches)
    model = nn.Sequential(nn.Linear(first[0].shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    began = time.perf_counter()
    for numbers, target in batches:
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(numbers).squeeze(1), target).backward()
        optimizer.step()
    return time.perf_counter() - began


def train_framework(loader: Loader, epoch: int) -> float:
    return train((batch.inputs["numbers"], batch.targets["target"]) for batch in loader.batches(epoch))


def train_torch(loader: DataLoader) -> float:
    return train((numbers, target) for numbers, target in loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=0, help="batches a run; 0 for whole epochs")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((arguments.rows, arguments.columns), dtype=np.float32)
    target = rng.integers(0, 2, arguments.rows).astype(np.float32)
    ours = Loader(PreparedDataset.from_arrays({"numbers": numbers}, {"target": target}), batch_size=arguments.batch_size)
    theirs = DataLoader(TensorDataset(torch.from_numpy(numbers), torch.from_numpy(target)), batch_size=arguments.batch_size, shuffle=True)
    steps = arguments.steps or ours.steps
    seconds: dict[str, list[float]] = {"framework": [], "torch": []}
    for repeat in range(arguments.repeats):
        seconds["framework"].append(run_framework(ours, repeat, steps))
        seconds["torch"].append(run_torch(theirs, steps))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "benchmark": "loader",
        "rows": arguments.rows,
        "columns": arguments.columns,
        "batch_size": arguments.batch_size,
        "steps": steps,
        "framework_s": round(medians["framework"], 5),
        "torch_s": round(medians["torch"], 5),
        "microseconds_a_batch": round(medians["framework"] / steps * 1e6, 1),
        "speedup": round(medians["torch"] / medians["framework"], 1),
    }
    print(json.dumps(result), flush=True)
    seconds = {"framework": [], "torch": []}
    for repeat in range(arguments.repeats):
        seconds["framework"].append(train_framework(ours, repeat))
        seconds["torch"].append(train_torch(theirs))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        json.dumps(
            {
                "benchmark": "loader_epoch",
                "rows": arguments.rows,
                "columns": arguments.columns,
                "batch_size": arguments.batch_size,
                "framework_s": round(medians["framework"], 3),
                "torch_s": round(medians["torch"], 3),
                "speedup": round(medians["torch"] / medians["framework"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
