"""How long a rank works on its rows, without the time in which it waits for others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Pace:
    """Adds up the time from the beginning of a step to the moment when its last gradient is there.

    On an accelerator, which works on while the processor goes ahead, two marks are set in its queue and looked at when the sum is asked
    for; nothing waits inside a step.

    Args:
        device: Where the rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began: float | torch.Event | None = None
        self._seconds = 0.0
        self._marks: list[tuple[torch.Event, torch.Event]] = []

    def begin(self) -> None:
        """A step begins."""
        self._began = self._mark()

    def end(self) -> None:
        """The gradients of the rank's rows are there."""
        if self._began is None:
            return
        began, ended = self._began, self._mark()
        if isinstance(began, float) and isinstance(ended, float):
            self._seconds += ended - began
        elif isinstance(began, torch.Event) and isinstance(ended, torch.Event):
            self._marks.append((began, ended))
        self._began = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out what is done meanwhile: waiting for others in the midst of a step."""
        running = self._began is not None
        self.end()
        yield
        if running:
            self.begin()

    def take(self) -> float:
        """Return the seconds since the last call; waits for an accelerator."""
        if self._marks:
            self._marks[-1][1].synchronize()
        taken = self._seconds + sum(began.elapsed_time(ended) for began, ended in self._marks) / 1e3
        self._seconds, self._marks = 0.0, []
        return taken

    def _mark(self) -> float | torch.Event:
        if self._device.type == "cpu":
            return time.perf_counter()
        mark = torch.Event(self._device, enable_timing=True)
        mark.record()
        return mark
