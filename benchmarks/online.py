"""Learning online from Elec2: progressive accuracy with and without detectors, beside the no-change predictor.

Protocol: the 45,312 rows of Elec2 in their order; each batch is answered first and learned from afterwards. A small perceptron on the
table's six numbers, scaled by the first 1,000 rows (which are counted like all others), with the previous row's truth as a seventh
input or without. A detector's alarm makes the learner forget its rehearsal and its optimizer's memory. `random` forgets as often as
ADWIN does, at random places: what an alarm that means nothing is worth here. The no-change predictor's accuracy is printed beside each.

Usage: DEEPSEEK_DATA=… python benchmarks/online.py [--seeds 3] [--rows 45312].
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.learning import OnlineLearner, progressive_validation
from deepseek.statistics.detectors import Adwin, Ddm, PageHinkley
from deepseek.tasks.binary import BinaryTask

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
BATCH = 8
ROWS = 45_312


def elec2(*, previous: bool) -> tuple[np.ndarray, np.ndarray]:
    with (DATA / "elec2" / "elec.csv").open() as file:
        table = np.array([list(map(float, row)) for row in list(csv.reader(file))[1:]], dtype=np.float32)
    inputs, truth = table[:, :-1], table[:, -1]
    inputs = (inputs - inputs[:1000].mean(axis=0)) / (inputs[:1000].std(axis=0) + 1e-3)
    before = np.concatenate([[0.0], truth[:-1]])[:, None].astype(np.float32)
    return (np.concatenate([inputs, before], axis=1) if previous else inputs).clip(-10, 10), truth


class Perceptron(nn.Module):
    """A network with its task, as `TaskModel` is one."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))
        self.task = BinaryTask(TargetSpec("binary", ("class",), ("0", "1"), (1, 1), 2))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layers(inputs["x"]).unsqueeze(1)

    def predict(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.task.decode(self(inputs))


class AtRandom:
    """Alarms at given places."""

    def __init__(self, places: set[int]) -> None:
        self.places, self.seen = places, -1

    def update(self, value: float) -> bool:
        self.seen += 1
        return self.seen in self.places


def batches(inputs: np.ndarray, truth: np.ndarray) -> Iterator[Batch]:
    for start in range(0, len(truth), BATCH):
        part = slice(start, start + BATCH)
        yield Batch({"x": torch.from_numpy(inputs[part])}, {"target": torch.from_numpy(truth[part])})


def measure(name: str, *, previous: bool, seed: int, rows: int, alarms: int = 0) -> dict[str, object]:
    inputs, truth = (array[:rows] for array in elec2(previous=previous))
    learner = OnlineLearner(Perceptron(inputs.shape[1], seed), optimizer={"type": "adam", "learning_rate": 0.003}, replay=64, seed=seed)
    places = set(np.random.default_rng(seed).choice(rows, alarms, replace=False).tolist())
    makers = {"adwin": Adwin, "ddm": Ddm, "page_hinkley": PageHinkley, "random": lambda: AtRandom(places)}
    detectors = {name: makers[name]()} if name in makers else {}
    found = progressive_validation(learner, batches(inputs, truth), detectors=detectors, forget_at=name if detectors else None)
    return {
        "detector": name,
        "previous_truth_as_input": previous,
        "seed": seed,
        "accuracy": round(found.accuracy, 4),
        "no_change": round(found.no_change, 4),
        "alarms": len(found.changes.get(name, [])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS)
    given = parser.parse_args()
    for previous in (False, True):
        for seed in range(given.seeds):
            alarms = 0
            for name in ("none", "adwin", "ddm", "page_hinkley", "random"):
                result = measure(name, previous=previous, seed=seed, rows=given.rows, alarms=alarms)
                alarms = int(str(result["alarms"])) if name == "adwin" else alarms
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
