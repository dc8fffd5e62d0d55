"""Claim: "convolution layers get 2.3 times the rate of dense layers". What rates by gradient variance really give, network by network.

Protocol, fixed before measuring. Three convolutional networks with dense layers behind them learn 3,000 images of Fashion-MNIST for 300
steps of 64 images, Adam, five seeds, with `train.layer_rates: {type: gradient_variance, every: 1}`. After every step but the first the mean
factor of the convolutions is divided by that of the dense layers; reported is the mean over steps, over seeds with its 95 % interval, and
the largest of any step. Beside it, on the same gradients: the same ratio by the articles' formula, `1 + 0.5 (1 - exp(-0.1 var))`, and that
of the variances themselves.

Verdict: reproduced if 2.3 lies within or below the interval of a network.

Usage: python benchmarks/claims/layer_rate_ratio.py [--seeds 5] [--small]. Prints one JSON line. `--small` takes scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from paired import fashion, interval
from torch import nn

from deepseek import progress
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.modules import ImageModule
from deepseek.fields import Kind
from deepseek.registry import family
from deepseek.tasks.model import TaskModel
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback

CLAIMED, CLASSES, BATCH = 2.3, 10, 64
DENSE = {"type": "mlp", "depth": 2, "width": 64, "dropout": 0.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"type": "cnn", "channels": [16, 32, 64], "blocks": [0, 0, 0], "normalization": "none", "trunk": DENSE},
    "batch normalisation": {"type": "cnn", "channels": [16, 32, 64], "blocks": [0, 0, 0], "trunk": DENSE},
    "residual": {"type": "cnn", "channels": [16, 32, 64], "blocks": [0, 1, 1], "trunk": DENSE},
}
RATES = {"type": "gradient_variance", "every": 1, "warmup": 20}


class Watch(Callback):
    """Compares convolutions and dense layers after each step."""

    def __init__(self, model: nn.Module) -> None:
        kinds = {"convolutions": nn.Conv2d, "dense": nn.Linear}
        self.layers = {what: {name: one for name, one in model.named_modules() if isinstance(one, kind)} for what, kind in kinds.items()}
        self.ratios: dict[str, list[float]] = {"rate": [], "formula": [], "variance": []}

    def on_step(self, trainer: Trainer) -> None:
        if trainer.state.step <= RATES["warmup"]:
            return
        rates = trainer.step.told().layer_rates
        variances = {name: self._variance(one) for named in self.layers.values() for name, one in named.items()}
        self._note("rate", dict(rates))
        self._note("variance", variances)
        self._note("formula", {name: 1 + 0.5 * (1 - math.exp(-0.1 * value)) for name, value in variances.items()})

    def _note(self, what: str, values: dict[str, float]) -> None:
        means = [statistics.mean(values[name] for name in self.layers[kind]) for kind in ("convolutions", "dense")]
        self.ratios[what].append(means[0] / means[1])

    @staticmethod
    def _variance(layer: nn.Module) -> float:
        return float(torch.cat([one.grad.flatten() for one in layer.parameters() if one.grad is not None]).var())


def images(*, small: bool) -> tuple[np.ndarray, np.ndarray]:
    if small:
        from sklearn.datasets import load_digits

        found = load_digits()
        return (found.images * 15).astype(np.uint8)[..., None], found.target
    x, y = fashion(3_000, 1_000)["train"]
    return x.reshape(len(x), 28, 28, 1), y


def measure(spec: dict[str, Any], x: np.ndarray, y: np.ndarray, *, seed: int, steps: int) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    inputs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), x.shape[1:], "uint8")}
    task = MulticlassTask(TargetSpec("classes", ("y",), tuple(map(str, range(CLASSES))), (1,) * CLASSES, CLASSES))
    model = TaskModel(family("model").build(spec, inputs, {"photo": ImageModule([127.0], [60.0])}), task)
    rows = PreparedDataset.from_arrays({"photo": x}, {"target": y.astype(np.int64)})
    watch = Watch(model)
    settings = TrainSettings(
        epochs=1_000,
        max_steps=steps,
        batch_size=BATCH,
        precision="fp32",
        optimizer="adam",
        layer_rates=RATES,
        seed=seed,
        channels_last=False,
    )
    Trainer(model, task, rows, settings=settings, callbacks=[watch]).fit()
    return watch.ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="few steps on small images: to try the script out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    progress.quiet(True)
    began, (x, y) = time.perf_counter(), images(small=given.small)
    seeds, steps = (2, 60) if given.small else (given.seeds, 300)
    found = {}
    for name, spec in NETWORKS.items():
        runs = [measure(spec, x, y, seed=seed, steps=steps) for seed in range(seeds)]
        means = {what: [statistics.mean(run[what]) for run in runs] for what in ("rate", "formula", "variance")}
        found[name] = {
            **{what: round(statistics.mean(values), 4) for what, values in means.items()},
            "interval_95": interval(means["rate"]),
            "formula_interval_95": interval(means["formula"]),
            "largest_of_a_step": round(max(max(run["rate"]) for run in runs), 3),
        }
    reproduced = [name for name, one in found.items() if one["interval_95"][1] >= CLAIMED]
    line = {
        "claim": "convolution layers get 2.3 times the rate of dense layers",
        "dataset": "digits" if given.small else "Fashion-MNIST, 3,000 images",
        "seeds": seeds,
        "measured": {name: one["rate"] for name, one in found.items()},
        "networks": found,
        "small": given.small,
        "verdict": "none: tried out only" if given.small else f"reproduced on {', '.join(reproduced)}" if reproduced else "not reproduced",
        "seconds": round(time.perf_counter() - began),
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
