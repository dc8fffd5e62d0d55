"""How well a device is used, by two figures that are never mixed: the share of the time it is busy, and how much of its arithmetic is used.

A device that waits for data is idle; one that runs small or slow kernels is busy and may use a hundredth of what it can. Busy shares are
read from the system; the use of the arithmetic (model FLOPs utilisation; Chowdhery et al., "PaLM", 2022, https://arxiv.org/abs/2204.02311)
is what the network asks for, counted once on a few rows, over what the device could have done in the time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepseek.processors import usable_cores
from deepseek.training.callbacks.base import Callback
from deepseek.training.carried import remembering
from deepseek.training.flops import known_peak, step_flops

if TYPE_CHECKING:
    from torch import nn

    from deepseek.data.prepared import PreparedDataset
    from deepseek.training.trainer import Trainer

COUNTED_ROWS = 2
"""On how many rows what a network asks for is counted."""


class Usage(Callback):
    """Measures both figures where the loss is looked at anyway.

    Args:
        peak_tflops: What the device can do at most, in 10¹² operations a second; looked up by the device's name where not given.

    Attributes:
        busy_share: Of an accelerator, the share of the last moments in which it ran any kernel, where NVML tells; of a processor, the share
            of its cores' time since the last look that this process used. Nothing where it is not known.
        mfu: What the network asks for over what the device can do at most; nothing where that is not known.
        flops_per_row: What a training row asks for, forward and backward, in matrix products, convolutions and attention.
    """

    def __init__(self, *, peak_tflops: float | None = None) -> None:
        self.peak_tflops = peak_tflops
        self.busy_share: float | None = None
        self.mfu: float | None = None
        self.flops_per_row: float | None = None
        self._cpu_s = self._at = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Count what a row asks for, where it can be set against what the device can do."""
        self._cpu_s, self._at = time.process_time(), time.perf_counter()
        if not trainer.placement.shards:  # of a model in parts nobody can call it all: that was counted before it was shared out
            self.count(trainer.model, trainer.loader.dataset, device=trainer.ranks.device, precision=trainer.precision.name)

    def count(self, model: nn.Module, rows: PreparedDataset, *, device: torch.device, precision: str) -> None:
        """Count what a training row asks for, where it can be set against what the device can do.

        Args:
            model: The whole network, wherever it is.
            rows: The training rows.
            device: Where it is trained.
            precision: `fp32`, `bf16` or `fp16`.
        """
        if self.peak_tflops is None:
            self.peak_tflops = known_peak(device, precision)
        if self.peak_tflops is not None and not any(remembering(model)):
            batch = rows.take(np.arange(min(COUNTED_ROWS, len(rows))))
            self.flops_per_row = step_flops(model, batch.to(next(model.parameters()).device)) / len(batch)

    def on_log(self, trainer: Trainer) -> None:
        """Take both figures."""
        now, spent = time.perf_counter(), time.process_time()
        if trainer.ranks.device.type == "cpu":
            cores = max(usable_cores() / trainer.ranks.ranks, 1e-9)
            self.busy_share = min((spent - self._cpu_s) / max(now - self._at, 1e-9) / cores, 1.0)
        else:
            self.busy_share = busy_share(trainer.ranks.device)
        self._cpu_s, self._at = spent, now
        if self.flops_per_row is not None and self.peak_tflops is not None:
            asked = self.flops_per_row * trainer.progress.samples_per_s
            self.mfu = asked / (self.peak_tflops * 1e12 * trainer.ranks.ranks)

    def figures(self) -> dict[str, float]:
        """Return what is known, by name: `busy_share`, `mfu`."""
        known = {"busy_share": self.busy_share, "mfu": self.mfu}
        return {name: value for name, value in known.items() if value is not None}

    def __str__(self) -> str:
        busy = None if self.busy_share is None else f"busy {self.busy_share:.0%}"
        used = None if self.mfu is None else f"MFU {self.mfu:.1%}"
        return ", ".join(part for part in (busy, used) if part)


def busy_share(device: torch.device) -> float | None:
    """Return which share of the last moments an accelerator was busy, as NVML tells; nothing where it cannot be asked."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device)) / 100.0
    except Exception:  # noqa: BLE001 - NVML is foreign: none there, no package for it, or a device in parts, each an error of its own
        return None
