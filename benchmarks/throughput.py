"""Images a second in training: ResNet-18, 224 × 224 pixels, batch 16: this framework's defaults against hand-written loops.

Contestants take turns step by step, so that a noisy neighbour disturbs all alike, and medians are compared. `fp32` is the plain loop and
counts as 1; `tuned_fp32` and `tuned_bf16` are what an expert would write for a processor without and with units for bfloat16. The
hand-written loops get ready float images; ours gathers stored pixels and normalises them. Prints one JSON line; with `--narrow` one more,
from a process in which oneDNN may use AVX2 only, as on the processors of ten years ago, where bfloat16 is emulated.

    python benchmarks/throughput.py --threads 2 --steps 6 --narrow
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

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

SIDE, BATCH, CLASSES, ROWS = 224, 16, 10, 64
AVX2 = "AVX2"


def pixels() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8), generator.integers(0, CLASSES, ROWS)


def task() -> MulticlassTask:
    return MulticlassTask(TargetSpec("classes", ("y",), tuple(map(str, range(CLASSES))), (1,) * CLASSES, CLASSES))


def model(*, stored: bool) -> TaskModel:
    torch.manual_seed(0)
    shape, dtype = ((SIDE, SIDE, 3), "uint8") if stored else ((3, SIDE, SIDE), "float32")
    inputs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), shape, dtype)}
    graph: dict[str, nn.Module] = {"photo": ImageModule([127.0] * 3, [60.0] * 3)} if stored else {}
    return TaskModel(family("model").build({"type": "resnet", "depth": 18}, inputs, graph), task())


def by_hand(*, bf16: bool, channels_last: bool, fused: bool) -> Iterator[float]:
    """Make a step of a hand-written loop each time it is asked, and say how long it took."""
    net = model(stored=False)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), fused=fused)
    images, labels = pixels()
    x = functional.normalize(torch.from_numpy(images).permute(0, 3, 1, 2).float(), dim=1)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    y = torch.from_numpy(labels)
    while True:
        for rows in torch.randperm(ROWS).split(BATCH):
            began = time.perf_counter()
            step(net, optimizer, x.index_select(0, rows), y.index_select(0, rows), bf16=bf16)
            yield time.perf_counter() - began


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, *, bf16: bool) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = functional.cross_entropy(net({"photo": x})[:, 0], y)
    loss.backward()
    optimizer.step()


class _Clock(Callback):
    """Hands each step's time out as soon as the step is made."""

    def __init__(self, count: int) -> None:
        self.count, self.times = count, list[float]()
        self.last = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        self.last = time.perf_counter()

    def on_step(self, trainer: Trainer) -> None:
        now = time.perf_counter()
        self.times.append(now - self.last)
        self.last = now


def ours(steps: int, decided: dict[str, object] | None) -> tuple[list[float], dict[str, object], float]:
    """Return the times of a fit's steps, what `auto` came to, and the seconds before the first step."""
    images, labels = pixels()
    rows = PreparedDataset.from_arrays({"photo": images}, {"target": labels})
    known = {key: decided[key] for key in ("precision", "channels_last")} if decided else {}
    settings = TrainSettings(epochs=1000, max_steps=steps, batch_size=BATCH, restore_best=False, **known)  # type: ignore[arg-type]
    clock = _Clock(steps)
    trainer = Trainer(model(stored=True), task(), rows, settings=settings, callbacks=[clock])
    began = time.perf_counter()
    trainer.fit()
    return clock.times, trainer.state.decisions, time.perf_counter() - began - sum(clock.times)


def measure(steps: int, *, slow_bf16: bool) -> dict[str, object]:
    hands: dict[str, Iterator[float]] = {
        "fp32": by_hand(bf16=False, channels_last=False, fused=False),
        "tuned_fp32": by_hand(bf16=False, channels_last=True, fused=True),
    }
    if not slow_bf16:  # half a minute a step there
        hands["tuned_bf16"] = by_hand(bf16=True, channels_last=True, fused=True)
    times: dict[str, list[float]] = {name: [] for name in (*hands, "ours")}
    for hand in hands.values():
        next(hand)
    _, decisions, deciding_s = ours(1, None)
    for _ in range(-(-steps // 2)):
        for name, hand in hands.items():
            times[name] += [next(hand), next(hand)]
        times["ours"] += ours(3, decisions)[0][1:]
    return {"decisions": decisions, "deciding_s": round(deciding_s, 2), **_compared(times)}


def _compared(times: dict[str, list[float]]) -> dict[str, object]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(medians[name] for name in medians if name.startswith("tuned"))
    speed: Callable[[str], dict[str, float]] = lambda name: {  # noqa: E731  one line a contestant
        "images_per_s": round(BATCH / medians[name], 2),
        "of_fp32": round(medians["fp32"] / medians[name], 3),
    }
    return {"result": {name: speed(name) for name in medians}, "ours_of_best_by_hand": round(best / medians["ours"], 3)}


def processor() -> dict[str, bool]:
    flags = torch.cpu.get_capabilities()
    return {name: bool(flags.get(name)) for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--narrow", action="store_true", help="also with AVX2 only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    head = {"benchmark": "throughput", "torch": torch.__version__, "threads": arguments.threads, "isa": isa, "processor": processor()}
    sys.stdout.write(json.dumps({**head, **measure(arguments.steps, slow_bf16=isa == AVX2)}) + "\n")
    sys.stdout.flush()
    if arguments.narrow:
        command = [sys.executable, __file__, "--threads", str(arguments.threads), "--steps", str(arguments.steps)]
        subprocess.run(command, check=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": AVX2})


if __name__ == "__main__":
    main()
