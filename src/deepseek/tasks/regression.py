"""One or several numbers."""

from __future__ import annotations

from torch import Tensor

from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.registry import family, split_spec
from deepseek.tasks.base import LossSpec, MetricSpec, Task
from deepseek.tasks.losses import Loss, QuantileLoss, widened

OF_FORECASTS = frozenset({"mase", "pinball", "coverage"})
"""Metrics of what only forecasts have: quantiles, and a naive forecast to compare with."""


class RegressionTask(Task):
    """Predicts numbers. Network and targets are in standard deviations from the training mean; answers and metrics in the target's units.

    So a learning rate, a loss's threshold and an initialisation mean the same whether the target is in grams or in tons. The mean is taken
    off before the target becomes float32 and put back in float64, outside of the network: no digit of a target with a large mean is lost.

    Args:
        loss: The loss, computed in standardised units.
        metrics: The metrics beside the loss and `rmse`; the usual ones where not given.

    Raises:
        InputError: The loss, or a metric, is one of quantiles or of steps ahead.
    """

    kind = "values"
    monitor = "rmse"
    usual_metrics = ("rmse", "mae", "r2")

    def __init__(self, target: TargetSpec, /, *, loss: LossSpec = "mse", metrics: list[MetricSpec] | None = None) -> None:
        super().__init__(target)
        self._loss: Loss = family("loss").build(loss, target)
        if isinstance(self._loss, QuantileLoss):
            raise InputError(
                "the loss quantile answers several numbers for each value, and the task regression one",
                hint="take mae, which is least at the median, or the task forecasting for the next values of a series",
            )
        self._metrics = self.usual_metrics if metrics is None else metrics
        for name in (split_spec("metric", spec)[0] for spec in self._metrics):
            if name in OF_FORECASTS:
                usual = ", ".join(self.usual_metrics)
                raise InputError(f"the metric {name} is one of forecasts, and the task is regression", hint=f"the usual ones: {usual}")

    @property
    def outputs(self) -> int:
        """One for each target column."""
        return len(self.target.columns)

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`, for `[b, m, columns]` and standardised values `[b]` or `[b, columns]`."""
        return self._loss.rows(out, target.reshape(target.shape[0], self.outputs))

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `standardized`, float32 `[b, columns]`: standard deviations from the training mean."""
        return {"standardized": widened(out).mean(dim=1)}
