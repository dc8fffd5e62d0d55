"""Writes curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deepseek.training.callbacks.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from deepseek.training.trainer import Trainer


class TensorBoard(Tracker):
    """Writes loss, learning rate, speed and metrics as TensorBoard scalars.

    Args:
        path: The folder of the event files; `tensorboard` in the run's folder where not given.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    library: ClassVar[str] = "tensorboard"

    def __init__(self, *, path: Path | None = None) -> None:
        super().__init__()
        self.path = path
        self._writer: SummaryWriter | None = None

    def wanted(self, trainer: Trainer) -> bool:
        """Whether there is a folder to write to."""
        return self.path is not None or trainer.folder is not None

    def open(self, run: TrackedRun) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.path or (run.folder / "tensorboard" if run.folder else None)
        self._writer = SummaryWriter(str(folder), purge_step=run.step or None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers as of a step."""
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, failed: bool) -> None:
        """Close the event file."""
        assert self._writer is not None
        self._writer.close()
