"""On how many devices a run is worth making: one first, and more where they bring enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from deepseek.pipeline.planning.memory import RunMemory
from deepseek.pipeline.planning.timing import RunTime

LEAST_EFFICIENCY = 0.7
"""A device more is worth having where the devices together still do this part of what so many times one would."""
LINK_BYTES_S = 10e9
"""What is taken to go between two devices in a second, where nobody says."""
LATENCY_S = 5e-5
_GATHERED = 3
"""A part of the weights that is gathered at once where devices share them: one of so many."""


@dataclass(frozen=True)
class Scaling:
    """What a run comes to on some devices.

    Attributes:
        devices: How many.
        rows: The rows of each one's share of a batch.
        step_s: Seconds a step.
        speedup: How many times as fast as one device.
        efficiency: The speedup over the number of devices.
        peak_bytes: What each device holds at most.
        fits: Whether that is within the budget.
    """

    devices: int
    rows: int
    step_s: float
    speedup: float
    efficiency: float
    peak_bytes: int
    fits: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def scalings(time: RunTime, memory: RunMemory, *, most: int, budget: int, accumulate: int, baseline: int = 0) -> list[Scaling]:
    """Return what one device comes to, and 2, 4, … up to as many as there are, each with a copy of the network and a share of the batch.

    Several ranks on a processor are no devices of their own: they share its cores, which one rank would use alone, and its memory, of which
    each takes the libraries anew.

    Args:
        time: How long the run takes on one device.
        memory: What it takes of a device.
        most: How many devices there are.
        budget: What may be taken of each one's memory.
        accumulate: The micro-batches of a share.
        baseline: What a process holds before anything is built; beside the budget.
    """
    rows = time.batch_rows
    alone = _step_s(time, memory, rows, 1, accumulate)
    found = []
    for devices in sorted({1, most, *(1 << power for power in range(1, most.bit_length()) if 1 << power <= most)}):
        share = -(-rows // devices)
        if devices > 1 and devices * memory.least_rows > rows:
            continue  # some would have no row at all, or too few
        step_s = _step_s(time, memory, share, devices, accumulate)
        peak = memory.peak(share, accumulate=min(accumulate, share), devices=devices)
        speedup = alone / step_s if step_s else 1.0
        within = (budget + baseline) // devices - baseline if memory.host else budget
        found.append(Scaling(devices, share, step_s, speedup, speedup / devices, peak, peak <= within))
    return found


def worthwhile(found: list[Scaling]) -> Scaling:
    """Return one device, or the most of those that memory suffices on and that are used well; the fewest where it suffices on none."""
    fitting = [one for one in found if one.fits]
    good = [one for one in fitting if one.efficiency >= LEAST_EFFICIENCY]
    return (good or fitting or found)[-1 if good else 0]


def sharded_peak(memory: RunMemory, rows: int, devices: int, *, accumulate: int = 1) -> int:
    """Return what each of several devices holds at most that share weights, gradients and the optimizer's state among them.

    Args:
        memory: What the run takes of one device.
        rows: The rows of each one's share.
        devices: How many.
        accumulate: The micro-batches that they are computed in.
    """
    whole = memory.weights + memory.gradients + memory.update.state_bytes
    return memory.peak(rows, accumulate=accumulate) - whole + -(-whole // devices) + memory.weights // _GATHERED


def _step_s(time: RunTime, memory: RunMemory, share: int, devices: int, accumulate: int) -> float:
    parts = min(accumulate, share)
    sent = 2 * (devices - 1) / devices * memory.gradients / LINK_BYTES_S + (LATENCY_S if devices > 1 else 0.0)
    crowd = devices if memory.host else 1  # so many ranks want the cores at once
    return crowd * parts * time.step.seconds(share / parts) + sent
