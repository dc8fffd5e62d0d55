"""On how many devices a run is worth making: one first, and more where they bring enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from deepseek.pipeline.planning.memory import RunMemory
from deepseek.pipeline.planning.timing import RunTime
from deepseek.training.memory.live import most_rows_within

LEAST_EFFICIENCY = 0.7
"""A device more is worth having where the devices together still do this part of what so many times one would."""
LINK_BYTES_S = 10e9
"""What is taken to go between two devices in a second, where nobody says."""
LATENCY_S = 5e-5
_GATHERED = 3
"""A part of the weights that is gathered at once where devices share them: one of so many."""


@dataclass(frozen=True)
class Share:
    """What each of a run's devices holds: its rows of every batch, with a copy of the network or a part of it.

    Attributes:
        memory: What the run takes of one device.
        devices: How many share a batch.
        sharded: Whether they share out weights, gradients and the optimizer's state among them, too.
    """

    memory: RunMemory
    devices: int = 1
    sharded: bool = False

    def rows(self, batch: int) -> int:
        """Return the most rows of a batch that one has."""
        return -(-batch // self.devices)

    def peak(self, batch: int, *, accumulate: int = 1) -> int:
        """Return what one holds at most.

        Args:
            batch: The rows of the whole batch.
            accumulate: The micro-batches that each computes its rows in.
        """
        return max(self.moments(batch, accumulate=accumulate).values())

    def moments(self, batch: int, *, accumulate: int = 1) -> dict[str, int]:
        """Return what one holds at each moment, by what happens in it."""
        rows, memory = self.rows(batch), self.memory
        held = memory.kept + memory.exchanged(self.devices) - self._elsewhere()
        return {name: held + size for name, size in memory.moments(rows, accumulate=min(accumulate, rows)).items()}

    def parts(self, batch: int, *, accumulate: int = 1) -> dict[str, int]:
        """Return what one holds at its highest moment, by part; the parts add up to `peak`."""
        rows = self.rows(batch)
        parts = self.memory.parts(rows, accumulate=min(accumulate, rows), devices=self.devices)
        return {**parts, "held by other devices": -self._elsewhere()} if self.sharded else parts

    def most(self, budget: int, *, accumulate: int = 1, most: int) -> int:
        """Return the largest batch with which each stays within a budget; 0 where not even one row a device does."""
        each = most_rows_within(lambda rows: self.peak(rows * self.devices, accumulate=accumulate), budget, most=most // self.devices)
        return each * self.devices

    def within(self, budget: int, *, baseline: int = 0) -> int:
        """Return what may be taken by one.

        Several ranks on a processor are no devices of their own: they share its memory, of which each takes the libraries anew.

        Args:
            budget: What may be taken of a device's memory.
            baseline: What a process holds before anything is built; beside the budget.
        """
        return (budget + baseline) // self.devices - baseline if self.memory.host else budget

    def _elsewhere(self) -> int:
        """Return what others hold of weights, gradients and the optimizer's state, less the weights that are gathered at once."""
        if not self.sharded:
            return 0
        whole = self.memory.weights + self.memory.gradients + self.memory.update.state_bytes
        return whole - -(-whole // self.devices) - self.memory.weights // _GATHERED


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


def scalings(time: RunTime, asked: Share, *, most: int, budget: int, accumulate: int, baseline: int = 0) -> list[Scaling]:
    """Return what 1, 2, 4, … devices come to, up to as many as there are, and as many as are asked for, each with a share of the batch.

    Ranks on a processor share its cores, too, which one rank would use alone.

    Args:
        time: How long the run takes on one device.
        asked: What the recipe asks for; other numbers of devices share the network as it does.
        most: How many devices there are.
        budget: What may be taken of each one's memory.
        accumulate: The micro-batches of a share.
        baseline: What a process holds before anything is built; beside the budget.
    """
    batch, memory = time.batch_rows, asked.memory
    alone = _step_s(time, memory, batch, 1, accumulate)
    found = []
    for devices in sorted({1, most, asked.devices, *(1 << power for power in range(1, most.bit_length()) if 1 << power <= most)}):
        if devices > 1 and devices * memory.least_rows > batch:
            continue  # some would have no row at all, or too few
        share = Share(memory, devices, sharded=asked.sharded and devices > 1)
        step_s, peak = _step_s(time, memory, share.rows(batch), devices, accumulate), share.peak(batch, accumulate=accumulate)
        speedup = alone / step_s if step_s else 1.0
        fits = peak <= share.within(budget, baseline=baseline)
        found.append(Scaling(devices, share.rows(batch), step_s, speedup, speedup / devices, peak, fits))
    return found


def worthwhile(found: list[Scaling]) -> Scaling:
    """Return one device, or the most of those that memory suffices on and that are used well; the fewest where it suffices on none."""
    fitting = [one for one in found if one.fits]
    good = [one for one in fitting if one.efficiency >= LEAST_EFFICIENCY]
    return (good or fitting or found)[-1 if good else 0]


def _step_s(time: RunTime, memory: RunMemory, share: int, devices: int, accumulate: int) -> float:
    parts = min(accumulate, share)
    sent = 2 * (devices - 1) / devices * memory.gradients / LINK_BYTES_S + (LATENCY_S if devices > 1 else 0.0)
    crowd = devices if memory.host else 1  # so many ranks want the cores at once
    return crowd * parts * time.step.seconds(share / parts) + sent
