"""Writes what happens to a file, one JSON object a line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from deepseek.artifacts.files import plain_disk_errors
from deepseek.optim import Told
from deepseek.training.callbacks.base import Callback
from deepseek.training.communication import exchange_figures

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer


class JsonLines(Callback):
    """Appends events to `events.jsonl`: `start`, `log`, `validation`, `checkpoint`, `loss_spike`, `stall`, `error`, `end`.

    Every line is whole and flushed, so that the file can be followed while training runs and survives a kill. A resumed run appends; where
    it repeats steps, the later line counts.

    Args:
        path: The file; `events.jsonl` in the run's folder where not given.
    """

    def __init__(self, *, path: Path | None = None) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._told = 0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the file and say what is about to happen."""
        path = self.path or (trainer.folder / "events.jsonl" if trainer.folder else None)
        if path is None or not trainer.is_main:
            return
        with plain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        self._write(trainer, "start", total_steps=trainer.total_steps, decisions=trainer.state.decisions)

    def on_log(self, trainer: Trainer) -> None:
        """Write the running loss and the speed and, of several ranks, what they have sent."""
        progress = trainer.progress
        self._tell(trainer)
        self._write(
            trainer,
            "log",
            loss=progress.loss,
            learning_rate=progress.learning_rate,
            samples_per_s=progress.samples_per_s,
            data_wait_share=progress.data_wait_share,
            skipped_steps=progress.skipped_steps,
            **exchange_figures(trainer),
            **_of_gradients(progress.told),
            **trainer.usage.figures(),
        )

    def on_validation(self, trainer: Trainer) -> None:
        """Write the metrics."""
        self._write(trainer, "validation", metrics=trainer.history[-1])

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Write which checkpoint there is."""
        self._write(trainer, "checkpoint", path=str(trainer.checkpoint))

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Write what went wrong, and close the file."""
        self._tell(trainer)
        self._write(trainer, "error", error=type(error).__name__, message=str(error))
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Write how it ended, and close the file."""
        self._tell(trainer)
        best = trainer.state.best
        self._write(trainer, "end", stopped_reason=trainer.stopped_reason, best=best.metrics if best else None)
        self._close()

    def _tell(self, trainer: Trainer) -> None:
        """Write what was said since the last time."""
        for remark in trainer.remarks.since(self._told):
            self._told += 1
            self._write(trainer, remark.event, noticed_at_step=remark.step, **remark.values)

    def _write(self, trainer: Trainer, event: str, **values: Any) -> None:
        if self._file is None:
            return
        line = {"event": event, "time": time.time(), "step": trainer.state.step, "epoch": trainer.state.epoch, **values}
        with plain_disk_errors(Path(self._file.name)):
            self._file.write(json.dumps(line, default=str) + "\n")
            self._file.flush()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _of_gradients(told: Told) -> dict[str, Any]:
    """Return what clippings and rates by layer tell, where there are any."""
    clipped = {} if told.clipped_share is None else {"clipped_share": told.clipped_share}
    spikes = {} if told.left_out is None else {"spikes": told.left_out.steps}
    return {**clipped, **spikes, **({"layer_rates": dict(told.layer_rates)} if told.layer_rates else {})}
