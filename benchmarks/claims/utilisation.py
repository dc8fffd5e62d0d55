"""Claim: "mixed precision raises the utilisation of the device by 40 %, to 78 %". Two figures that are never mixed, on the device here.

The claim does not say which utilisation. The share of the time in which a device runs any kernel (NVML) can be brought from low to high
by not letting it wait for data, and says nothing of how well it works; the share of its arithmetic that training uses (MFU) is usually
a tenth to a quarter for convolutions. Both are what the trainer writes to its log.

Protocol. ResNet-50 on 2,048 generated images of 224 × 224 pixels, batch 128, AdamW, 60 steps an arm, arms in turns, five rounds;
reported is each arm's median of both figures, and the differences to the first. Arms: float32, batches gathered between the steps;
float32, gathered ahead; bfloat16; bfloat16 with channels last; the same, compiled. Without a GPU the verdict is that the claim cannot
be tested, and a small network shows on the processor that the figures are taken (`--small`).

Run: python benchmarks/claims/utilisation.py [--small]
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.distributed import RankContext
from deepseek.distributed.devices import pick_device
from deepseek.fields import Kind
from deepseek.registry import family
from deepseek.tasks.model import TaskModel
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback

ARMS: dict[str, dict[str, Any]] = {
    "fp32, not ahead": {"precision": "fp32", "channels_last": False},
    "fp32": {"precision": "fp32", "channels_last": False},
    "bf16": {"precision": "bf16", "channels_last": False},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "bf16, channels last, compiled": {"precision": "bf16", "channels_last": True, "compile": "model"},
}
CLASSES = tuple("abcdefghij")


class Figures(Callback):
    """Keeps what each look at the device has found."""

    def __init__(self, *, ahead: bool) -> None:
        self.ahead = ahead
        self.busy: list[float] = []
        self.mfu: list[float] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        if not self.ahead:
            trainer.loader._costly = False  # noqa: SLF001 - batches are gathered between the steps, whatever they cost

    def on_log(self, trainer: Trainer) -> None:
        figures = trainer.usage.figures()
        self.busy += [figures["busy_share"]] if "busy_share" in figures else []
        self.mfu += [figures["mfu"]] if "mfu" in figures else []


def fitted(arm: str, *, small: bool, device: torch.device) -> Figures:
    side, rows, batch, steps, depth = (32, 256, 32, 6, 18) if small else (224, 2_048, 128, 60, 50)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
    spec = InputSpec("image", Kind.IMAGE, ("image",), (side, side, 3), "uint8")
    data = PreparedDataset.from_arrays({"image": pixels}, {"target": random.integers(0, len(CLASSES), rows)})
    graph = {"image": Pixels()}
    network = family("model").build({"type": "resnet", "depth": depth}, {"image": spec}, graph)
    task = MulticlassTask(TargetSpec("classes", ("y",), CLASSES, tuple([rows // 10] * 10), rows))
    settings = TrainSettings(batch_size=batch, max_steps=steps, epochs=1_000, log_every=10, peak_tflops=1.0 if small else None, **ARMS[arm])
    figures = Figures(ahead=arm != "fp32, not ahead")
    trainer = Trainer(TaskModel(network, task), task, data, settings=settings, callbacks=[figures], ranks=RankContext(device=device))
    trainer.fit()
    return figures


class Pixels(torch.nn.Module):
    """Turns stored pixels `[b, h, w, c]` into what convolutions take."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2).float() / 255.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="A small network, for trying the script out")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    device = pick_device()
    line: dict[str, Any] = {"claim": "mixed precision raises the utilisation of the device by 40 %, to 78 %", "device": device.type}
    if device.type != "cuda" and not given.small:
        print(json.dumps({**line, "verdict": "not testable here: there is no GPU"}))
        return
    found: dict[str, dict[str, list[float]]] = {arm: {"busy_share": [], "mfu": []} for arm in ARMS}
    for _ in range(1 if given.small else given.rounds):
        for arm in list(ARMS)[: 2 if given.small else None]:
            figures = fitted(arm, small=given.small, device=device)
            found[arm]["busy_share"] += figures.busy
            found[arm]["mfu"] += figures.mfu
    medians = {arm: {name: round(statistics.median(values), 4) for name, values in part.items() if values} for arm, part in found.items()}
    if given.small:
        print(json.dumps({**line, "arms": medians, "verdict": "not testable here: a small network on a processor"}))
        return
    busy = [part.get("busy_share", 0.0) for part in medians.values()]
    raised, highest = max(busy) - busy[0], max(part.get("mfu", 0.0) for part in medians.values())
    verdict = "reproduced as time busy" if raised >= 0.4 else "not reproduced as time busy"
    verdict += ", and as use of the arithmetic" if highest >= 0.78 else ", not as use of the arithmetic"
    print(json.dumps({**line, "arms": medians, "busy_raised": round(raised, 4), "highest_mfu": highest, "verdict": verdict}))


if __name__ == "__main__":
    main()
