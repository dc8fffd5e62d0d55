"""The contract of every callback: what happens beside the training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer


class Callback:
    """Something that looks on while a network is trained; each method does nothing unless it is overridden.

    A callback reads `trainer.state`, `trainer.history` and `trainer.model`, and may call `trainer.stop(reason)`. It gets no tensors of
    the step, so that it cannot slow it down. State that must survive a resume goes through `state_dict` and `load_state_dict`, as plain
    JSON values. Callbacks run on every rank; one that writes asks `trainer.is_main`.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """The first step is about to be made (again, after a resume)."""

    def on_step(self, trainer: Trainer) -> None:
        """An optimizer step has been made; `trainer.state.step` counts it."""

    def on_log(self, trainer: Trainer) -> None:
        """The running loss has been looked at: at most `log_every` steps, and about half a second, after the last time."""

    def on_validation(self, trainer: Trainer) -> None:
        """Validation metrics are in: `trainer.history[-1]` holds step, epoch, seconds and the metrics."""

    def on_checkpoint(self, trainer: Trainer) -> None:
        """A checkpoint has been written."""

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Training is about to end with this error."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Training is over; the best weights are back in the model where that was asked for."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a resume, as plain JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
