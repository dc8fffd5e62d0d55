"""The next steps of a series: a value for each target column and step, and quantiles where they are asked for.

Legend of shapes: `b` windows · `m` members · `h` steps ahead · `c` target columns · `q` quantiles (1 where there are none).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from deepseek.data.targets import TargetSpec
from deepseek.registry import family, split_spec
from deepseek.tasks.answers import forecast_table
from deepseek.tasks.base import LossSpec, MetricSpec, Task
from deepseek.tasks.forecast_metrics import QuantileMetric
from deepseek.tasks.losses import Loss, QuantileLoss, widened
from deepseek.tasks.metrics import Metric

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.tasks.answers import Decoded


class ForecastingTask(Task):
    """Predicts the next `horizon` steps of every target column from the last `context_length`.

    Network and targets are in standard deviations from the training mean, by target column; answers and the metrics `rmse` and `mae` are
    in the data's units, `scaled_mse` and `scaled_mae` in standard deviations, as the literature reports them. Targets that are missing
    count in no loss and no metric.

    Args:
        horizon: How many steps are predicted.
        context_length: How many steps of the past are looked at.
        loss: The loss, in standardised units: `mse`, `mae`, `huber`, or `{type: quantile, levels: […]}`, whose middle level is then the
            prediction, and each level an answer of its own.
        metrics: The metrics beside the loss; the usual ones where not given.
    """

    kind = "values"
    monitor = "loss"
    usual_metrics: ClassVar[tuple[str, ...]] = ("scaled_mse", "scaled_mae", "rmse", "mae", "mase")

    def __init__(
        self,
        target: TargetSpec,
        /,
        *,
        horizon: Annotated[int, Ge(1)],
        context_length: Annotated[int, Ge(1)] = 100,
        loss: LossSpec = "mse",
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self.horizon, self.context_length = horizon, context_length
        self._loss: Loss = family("loss").build(loss, target)
        self.levels: tuple[float, ...] = self._loss.levels if isinstance(self._loss, QuantileLoss) else ()
        quantiles = ("pinball", "coverage") if self.levels else ()
        self._metrics = (*self.usual_metrics, *quantiles) if metrics is None else metrics

    @property
    def outputs(self) -> int:
        """`h · c · q`, in this order."""
        return self.horizon * len(self.target.columns) * max(len(self.levels), 1)

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a window, `[b]`, for `[b, m, h · c · q]` and standardised values `[b, h, c]`, NaN where missing.

        It is the mean over the values that are known; 0 where none is.
        """
        truth = target.reshape(target.shape[0], -1)
        known = ~truth.isnan()
        wide = widened(out)
        terms = self._loss.terms(wide, torch.where(known, truth, 0.0).to(wide.dtype))
        terms = terms.reshape(out.shape[0], out.shape[1], truth.shape[1], -1).mean(dim=(1, 3))
        return torch.where(known, terms, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `standardized` `[b, h, c]`, and `quantiles` `[b, h, c, q]` where there are levels: ascending, so that none cross."""
        values = widened(out).mean(dim=1).reshape(-1, self.horizon, len(self.target.columns), max(len(self.levels), 1))
        if not self.levels:
            return {"standardized": values.squeeze(-1)}
        quantiles = ascending(values)
        return {"standardized": quantiles[..., self.levels.index(0.5)], "quantiles": quantiles}

    def answer(self, decoded: Mapping[str, Decoded]) -> pa.Table:
        """Return a row for each window, whose columns are lists of `horizon` values in the data's units.

        `prediction` (of several targets `prediction_COLUMN`), and `quantile_LEVEL` beside it where there are levels.
        """
        return forecast_table(self.target, decoded, self.levels)

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics by name; those of quantiles know the levels.

        Raises:
            InputError: A metric of quantiles is asked for a level that the loss does not answer.
        """
        registry = family("metric")
        found: dict[str, Metric] = {}
        for spec in ("loss", *self._metrics):
            name, arguments = split_spec("metric", spec)
            takes = "levels" in registry.schema(name).model_fields and "levels" not in arguments
            levels = {"levels": list(self.levels)} if takes and self.levels else {}
            found[name] = registry.build({"type": name, **arguments, **levels}, self.target)
            if isinstance(metric := found[name], QuantileMetric):
                metric.look_among(self.levels)
        return found


def ascending(values: Tensor) -> Tensor:
    """Return the last dimension sorted, by pairwise exchanges: few numbers, and every format has a minimum and a maximum.

    Args:
        values: `[…, q]`, `q` small.

    Example:
        >>> ascending(torch.tensor([[3.0, 1.0, 2.0]]))
        tensor([[1., 2., 3.]])
    """
    columns = list(values.unbind(dim=-1))
    for last in range(len(columns) - 1, 0, -1):
        for place in range(last):
            low, high = columns[place], columns[place + 1]
            columns[place], columns[place + 1] = torch.minimum(low, high), torch.maximum(low, high)
    return torch.stack(columns, dim=-1)
