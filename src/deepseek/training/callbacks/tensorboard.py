"""Writes curves for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepseek.errors import MissingExtraError
from deepseek.training.callbacks.base import Callback

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from deepseek.training.trainer import Trainer


class TensorBoard(Callback):
    """Writes loss, learning rate, speed and validation metrics as TensorBoard scalars.

    Args:
        path: The folder of the event files; `tensorboard` in the run's folder where not given.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, *, path: Path | None = None) -> None:
        self.path = path
        self._writer: SummaryWriter | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the event file."""
        folder = self.path or (trainer.folder / "tensorboard" if trainer.folder else None)
        if folder is None or not trainer.is_main:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("tensorboard", "track", "the callback 'tensorboard'") from None
        self._writer = SummaryWriter(str(folder), purge_step=trainer.state.step or None)

    def on_log(self, trainer: Trainer) -> None:
        """Write the running loss and the speed."""
        progress = trainer.progress
        self._scalar("train/loss", progress.loss, trainer)
        self._scalar("train/learning_rate", progress.learning_rate, trainer)
        self._scalar("train/samples_per_s", progress.samples_per_s, trainer)

    def on_validation(self, trainer: Trainer) -> None:
        """Write the metrics."""
        for name, value in trainer.history[-1].items():
            if name in trainer.metric_names:
                self._scalar(f"validation/{name}", value, trainer)

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Close the event file."""
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the event file."""
        self._close()

    def _scalar(self, tag: str, value: float, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, value, trainer.state.step)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
