"""What clipping by history, rates by layer, averaging and logging add to a training step: beside a bare PyTorch loop with fused AdamW.

Two networks: small, an MLP of three hidden layers of 128 and batches of 32, where a step is mostly calls; middle, four hidden layers of
512 and batches of 256, where it is mostly arithmetic. One thread, float32, data in memory. Arms: the bare loop; a `Trainer` by default; the
same with `autoclip`, with rates by layer, with an average of the weights, and with all three and a log of JSON lines. Every arm makes
whole fits of the same number of steps, in turns, so that a noisy neighbour disturbs all alike; each round's times are divided by its bare
loop's, and the median over the rounds is printed. Targets: 1.07 by default, 1.25 with everything. Prints one JSON line.

    python benchmarks/step_overhead.py --steps 1500 --rounds 7
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek import progress
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.json_lines import JsonLines

CLASSES = 10
CLIP = {"type": "autoclip", "per": "group"}
RATES = {"type": "gradient_variance"}
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "clipping": {"clip": [CLIP]},
    "layer_rates": {"layer_rates": RATES},
    "average": {"ema": 0.999},
    "everything": {"clip": [CLIP], "layer_rates": RATES, "ema": 0.999},
}
TARGETS = {"default": 1.07, "everything": 1.25}


@dataclass(frozen=True)
class Size:
    rows: int
    features: int
    width: int
    depth: int
    batch: int
    part: float
    """Of the steps asked for, as larger steps take longer."""


SIZES = {"small": Size(20_000, 32, 128, 3, 32, 1.0), "middle": Size(20_000, 64, 512, 4, 256, 0.1)}


class Model(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = [size.features, *[size.width] * size.depth]
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(size.width, CLASSES))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.net(inputs["x"]).unsqueeze(1)


class Clock(Callback):
    """Seconds from before the first step to after the last."""

    seconds = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        self.seconds = -time.perf_counter()

    def on_fit_end(self, trainer: Trainer) -> None:
        self.seconds += time.perf_counter()


def data(size: Size) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size.rows, size.features, generator=generator), torch.randint(0, CLASSES, (size.rows,), generator=generator)


def bare(size: Size, steps: int) -> float:
    x, y = data(size)
    net = Model(size).net
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    began, done = time.perf_counter(), 0
    while done < steps:
        for rows in torch.randperm(size.rows).split(size.batch)[: steps - done]:
            optimizer.zero_grad()
            functional.cross_entropy(net(x.index_select(0, rows)), y.index_select(0, rows)).backward()
            optimizer.step()
            done += 1
    return (time.perf_counter() - began) / steps


def ours(size: Size, steps: int, *, logged: bool, **changes: Any) -> float:
    x, y = data(size)
    rows = PreparedDataset.from_arrays({"x": x.numpy()}, {"target": y.numpy()})
    task = MulticlassTask(TargetSpec("classes", ("y",), tuple(map(str, range(CLASSES))), (1,) * CLASSES, CLASSES))
    settings = TrainSettings(epochs=10_000, max_steps=steps, batch_size=size.batch, precision="fp32", **changes)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        log = [JsonLines(path=Path(folder) / "events.jsonl")] if logged else []
        Trainer(Model(size), task, rows, settings=settings, callbacks=[clock, *log]).fit()  # type: ignore[arg-type]
    return clock.seconds / steps


def measure(size: Size, steps: int, rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in ("bare", *ARMS)}
    for _ in range(rounds):
        times["bare"].append(bare(size, steps))
        for name, changes in ARMS.items():
            times[name].append(ours(size, steps, logged=name == "everything", **changes))
    found = {}
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times["bare"], strict=True)]
        found[name] = {
            "us_per_step": round(statistics.median(values) * 1e6, 1),
            "of_bare": round(statistics.median(ratios), 3),
            "best_of_bares_best": round(min(values) / min(times["bare"]), 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    progress.quiet(True)
    found = {name: measure(SIZES[name], max(int(given.steps * SIZES[name].part), 20), given.rounds) for name in given.sizes}
    met = all(found[size][arm]["of_bare"] <= target for size in found for arm, target in TARGETS.items())
    line = {"benchmark": "step_overhead", "torch": torch.__version__, "steps": given.steps, "targets": TARGETS, "met": met, "result": found}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
