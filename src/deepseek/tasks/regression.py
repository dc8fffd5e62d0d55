"""One or several numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepseek.data.targets import TargetSpec
from deepseek.registry import component, family
from deepseek.tasks.answers import Decoded, value_table
from deepseek.tasks.base import Task
from deepseek.tasks.losses import Loss, widened

if TYPE_CHECKING:
    import pyarrow as pa

    LossSpec = dict[str, Any] | str
    MetricSpec = dict[str, Any] | str
else:
    LossSpec = component("loss")
    MetricSpec = component("metric")


class RegressionTask(Task):
    """Predicts numbers. The network works in standard deviations from the training mean; answers and metrics are in the target's units.

    So a learning rate, a loss's threshold and an initialisation mean the same whether the target is in grams or in tons.

    Args:
        loss: The loss, computed in standardised units.
        metrics: The metrics beside the loss and `rmse`; the usual ones where not given.
    """

    kind = "values"
    monitor = "rmse"
    usual_metrics = ("rmse", "mae", "r2")

    def __init__(self, target: TargetSpec, /, *, loss: LossSpec = "mse", metrics: list[MetricSpec] | None = None) -> None:
        super().__init__(target)
        self._loss: Loss = family("loss").build(loss, target)
        self._metrics = self.usual_metrics if metrics is None else metrics

    @property
    def outputs(self) -> int:
        """One for each target column."""
        return len(self.target.columns)

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`, for `[b, m, columns]` and values `[b]` or `[b, columns]` in the target's units."""
        return self._loss.rows(out, self.standardize(target))

    def standardize(self, values: Tensor) -> Tensor:
        """Turn values `[b]` or `[b, columns]` in the target's units into standard deviations from the mean, `[b, columns]`."""
        # Numbers, not tensors: they need no copy to a device, and become constants of an exported graph.
        columns = values.reshape(values.shape[0], self.outputs).unbind(dim=1)
        parts = [(x - mean) / std for x, mean, std in zip(columns, self.target.mean, self.target.std, strict=True)]
        return torch.stack(parts, dim=1)

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `value`, float32 `[b, columns]`, in the target's units."""
        columns = widened(out).mean(dim=1).unbind(dim=1)
        parts = [x * std + mean for x, mean, std in zip(columns, self.target.mean, self.target.std, strict=True)]
        return {"value": torch.stack(parts, dim=1)}

    def answer(self, decoded: Mapping[str, Decoded]) -> pa.Table:
        """Return `prediction`, or one `prediction_COLUMN` column each where there are several targets."""
        return value_table(self.target, decoded["value"])
