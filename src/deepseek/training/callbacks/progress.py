"""Shows how training goes: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deepseek.training.callbacks.base import Callback
from deepseek.training.communication import exchange_words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from deepseek.training.trainer import Trainer


WORTH_SAYING = 0.1
"""From this share of the time on, waiting for data is what to look at first."""
FIRST_METRICS = 2
"""How many metrics a line tells of besides the monitored one: the loss and the task's first."""


class ProgressBar(Callback):
    """Shows steps, loss, samples a second and the share of time spent waiting for data, on the standard error.

    A terminal gets a bar; a file or pipe gets one line a validation.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the bar, where there is a terminal."""
        self.quiet = self.quiet or not trainer.is_main
        if self.quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=trainer.total_steps, completed=trainer.state.step)
        self._bar.start()

    def on_log(self, trainer: Trainer) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            described = f"training loss {trainer.progress.loss:.4g}, {_speed(trainer)}"
            self._bar.update(self._task, completed=trainer.state.step, description=described)

    def on_validation(self, trainer: Trainer) -> None:
        """Write a line with the loss, the monitored metric and the task's first one; `events.jsonl` has all."""
        entry = trainer.history[-1]
        shown = dict.fromkeys(("loss", trainer.monitor, *trainer.metric_names[:FIRST_METRICS]))
        metrics = "  ".join(f"{name} {entry[name]:.4g}" for name in shown if name in entry)
        best = "  best so far" if trainer.state.best is not None and trainer.state.best.step == trainer.state.step else ""
        done = f"epoch {trainer.state.epoch}  step {trainer.state.step:,}/{trainer.total_steps:,}"
        self._line(f"{done}  training loss {trainer.progress.loss:.4g}  {metrics}  {_speed(trainer)}{best}")

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the terminal back and say how it ended."""
        self._close()
        self._line(f"stopped after step {trainer.state.step}: {trainer.stopped_reason}")
        if words := exchange_words(trainer):
            self._line(words)

    def _line(self, text: str) -> None:
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            sys.stderr.write(text + "\n")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _speed(trainer: Trainer) -> str:
    progress = trainer.progress
    waiting = f", {progress.data_wait_share:.0%} of it waiting for data" if progress.data_wait_share >= WORTH_SAYING else ""
    used = f", {trainer.usage}" if str(trainer.usage) else ""
    return f"{progress.samples_per_s:,.0f} rows/s{waiting}{used}"
