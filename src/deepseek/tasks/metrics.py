"""Metrics that add up: the sums of all batches and ranks give the number that the whole split would give.

State is float64 and lives where the batches are; `compute` is the only place that waits for the device.

Legend of shapes: `b` rows · `c` classes, labels or target columns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetKind, TargetSpec
from deepseek.errors import InputError
from deepseek.tasks.base import TARGET

SCORE_BINS = 1 << 14
FEWER_SCORE_BINS = 1 << 12
MANY_CLASSES = 64
_LOG_ODDS_RANGE = 17.0
_ROUNDING = 1e-12
_SMALLEST_PROBABILITY = 1.1920929e-07  # float32's precision, as in scikit-learn's log_loss


class Metric(ABC):
    """A number over many rows, gathered batch by batch.

    Args:
        target: What is predicted.

    Attributes:
        state: Sums, float64; the states of disjoint sets of rows add up to that of their union.
        listed: Those entries of the state that are lists `[rows, …]` instead, put one behind the other where sums are added up.
        higher_is_better: Whether a larger number is a better one.
        kinds: The kinds of target that the metric makes sense for.

    Raises:
        InputError: The target is of another kind.
    """

    higher_is_better: ClassVar[bool] = True
    kinds: ClassVar[tuple[TargetKind, ...]]
    listed: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, target: TargetSpec, /) -> None:
        if target.kind not in self.kinds:
            raise InputError(
                f"the metric {type(self).__name__} says nothing of a target of kind {target.kind!r}",
                hint=f"it takes: {', '.join(self.kinds)}",
            )
        self.target = target
        self.state: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Add a batch.

        Args:
            decoded: What the task's `decode` returned for it.
            batch: The batch; its weights count. Of soft targets, as mixing augmentations make, the class with the largest share counts as
                the true one, and a label or the positive class from one half on.
        """
        target = self._hardened(batch.targets[TARGET])
        self.state = {name: tensor.to(target.device) for name, tensor in self.state.items()}
        weight = torch.ones(target.shape[0], device=target.device) if batch.weight is None else batch.weight
        # an answer that is NaN has no place among bins and classes: it comes with the weight NaN, which no sum loses again
        broken = torch.stack([answer.isnan().flatten(1).any(dim=1) for answer in decoded.values()]).any(dim=0)
        self.observe(decoded, target, weight.double().masked_fill(broken, math.nan))

    @abstractmethod
    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add rows to `state`: `weight` is float64 `[b]`."""

    @abstractmethod
    def compute(self) -> float:
        """Return the number for all rows so far; NaN where it is not defined (no rows, a single class, or an answer that is NaN)."""

    def _hardened(self, target: Tensor) -> Tensor:
        if self.target.kind == "classes" and target.is_floating_point() and target.ndim == 2:
            return target.argmax(dim=1)
        return (target >= 0.5).to(target.dtype) if self.target.kind in ("binary", "labels") and target.is_floating_point() else target

    def by_column(self) -> dict[str, float]:
        """Return the number of each target column by its name; nothing where there is one column, or the metric knows none."""
        return {}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the state of other rows, of another rank for example."""
        self.state = {
            name: torch.cat([tensor, state[name].to(tensor.device)]) if name in self.listed else tensor + state[name].to(tensor.device)
            for name, tensor in self.state.items()
        }

    def reset(self) -> None:
        """Forget all rows."""
        self.state = {name: tensor[:0] if name in self.listed else torch.zeros_like(tensor) for name, tensor in self.state.items()}

    def _begin(self, **shapes: tuple[int, ...]) -> None:
        self.state = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}


class MeanLoss(Metric):
    """The task's loss. It is fed the loss's two sums through `add`, as only the training step has the raw outputs."""

    higher_is_better = False
    kinds = ("binary", "classes", "labels", "values", "mask", "boxes", "tokens", "tags", "features")

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(numerator=(), denominator=())

    @torch.no_grad()
    def add(self, numerator: Tensor, denominator: Tensor) -> None:
        """Add what the task's `loss` returned for a batch."""
        self.state = {
            "numerator": self.state["numerator"].to(numerator.device) + numerator.double(),
            "denominator": self.state["denominator"].to(denominator.device) + denominator.double(),
        }

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Do nothing: decoded answers have no loss."""

    def compute(self) -> float:
        """Return the mean loss."""
        return quotient(self.state["numerator"], self.state["denominator"])


class _Mean(Metric):
    """A weighted mean of one number a row."""

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(total=(), weight=())

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add rows."""
        self.state["total"] += (self.rows(decoded, target).double() * weight).sum()
        self.state["weight"] += weight.sum()

    @abstractmethod
    def rows(self, decoded: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Return one number a row, `[b]`."""

    def compute(self) -> float:
        """Return the mean."""
        return quotient(self.state["total"], self.state["weight"])


class Accuracy(_Mean):
    """The share of rows answered rightly; of labels, the share of single yes-or-no answers."""

    kinds = ("binary", "classes", "labels")

    def rows(self, decoded: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Return whether each row is right (of labels, how much of it)."""
        probability = decoded["probability"]
        if self.target.kind == "labels":
            return ((probability >= 0.5) == (target >= 0.5)).double().mean(dim=1)
        return probability.argmax(dim=1) == target.long()


class LogLoss(_Mean):
    """The mean of `-log p` of what was true; over the labels, where there are several."""

    higher_is_better = False
    kinds = ("binary", "classes", "labels")

    def rows(self, decoded: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Return each row's loss."""
        probability = decoded["probability"].double()
        if self.target.kind == "labels":
            probability = probability.clamp(_SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
            return -(target * probability.log() + (1 - target) * torch.log1p(-probability)).mean(dim=1)
        return -probability.gather(1, target.long()[:, None]).squeeze(1).clamp(min=_SMALLEST_PROBABILITY).log()


class Brier(_Mean):
    """The mean squared distance between probabilities and what came true (Brier, 1950).

    For two classes that of the positive class; for several the sum over classes; for labels the mean over them.
    """

    higher_is_better = False
    kinds = ("binary", "classes", "labels")

    def rows(self, decoded: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Return each row's squared distance."""
        probability = decoded["probability"].double()
        if self.target.kind == "binary":
            return (probability[:, 1] - target) ** 2
        if self.target.kind == "labels":
            return ((probability - target) ** 2).mean(dim=1)
        return ((probability - _one_hot(target, probability.shape[1])) ** 2).sum(dim=1)


class BalancedAccuracy(Metric):
    """The mean over the classes of the share of their rows that is answered rightly; classes without rows are left out."""

    kinds = ("binary", "classes")

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(right=(len(target.classes),), rows=(len(target.classes),))

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add rows."""
        truth = target.long()
        self.state["right"].index_add_(0, truth, weight * (decoded["probability"].argmax(dim=1) == truth))
        self.state["rows"].index_add_(0, truth, weight)

    def compute(self) -> float:
        """Return the mean recall."""
        return mean_defined(self.state["right"], self.state["rows"])


class F1(Metric):
    """The harmonic mean of precision and recall: of the positive class, or the plain mean over classes or labels.

    A class that is neither true of nor predicted for any row is left out of the mean.
    """

    kinds = ("binary", "classes", "labels")

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        classes = (1 if target.kind == "binary" else len(target.classes),)
        self._begin(hits=classes, predicted=classes, true=classes)

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add rows."""
        probability = decoded["probability"]
        if self.target.kind == "labels":
            chosen, truth = (probability >= 0.5).double(), (target >= 0.5).double()
        else:
            chosen, truth = _one_hot(probability.argmax(dim=1), probability.shape[1]), _one_hot(target, probability.shape[1])
        if self.target.kind == "binary":
            chosen, truth = chosen[:, 1:], truth[:, 1:]
        self.state["hits"] += weight @ (chosen * truth)
        self.state["predicted"] += weight @ chosen
        self.state["true"] += weight @ truth

    def compute(self) -> float:
        """Return the (mean) F1."""
        return mean_defined(2 * self.state["hits"], self.state["predicted"] + self.state["true"])


class AreaUnderCurve(Metric):
    """The area under the ROC curve: how likely a true row has a higher score than a false one; ties count one half.

    For several classes or labels the mean over them, each against the rest. Scores are counted in 16 384 bins of their log-odds (4 096
    with more than 64 classes), so that state adds up; what falls in one bin counts as a tie. `exact_auc` has no such grain.
    """

    kinds = ("binary", "classes", "labels")

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        classes = 1 if target.kind == "binary" else len(target.classes)
        self._begin(counts=(classes, 2, SCORE_BINS if classes <= MANY_CLASSES else FEWER_SCORE_BINS))

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add rows."""
        probability = decoded["probability"].double()
        if self.target.kind == "binary":
            odds, truth = probability[:, 1:].log() - probability[:, :1].log(), (target >= 0.5).long().reshape(-1, 1)
        else:
            odds = probability.log() - torch.log1p(-probability)
            truth = (target >= 0.5).long() if self.target.kind == "labels" else _one_hot(target, probability.shape[1]).long()
        counts = self.state["counts"]
        classes, _, bins = counts.shape
        place = ((odds / _LOG_ODDS_RANGE + 1) * (bins / 2)).nan_to_num().clamp(0, bins - 1).long()
        which = torch.arange(classes, device=counts.device) * 2 + truth
        counts.view(-1).index_add_(0, (which * bins + place).reshape(-1), weight[:, None].expand_as(odds).reshape(-1))

    def compute(self) -> float:
        """Return the (mean) area."""
        false, true = self.state["counts"].unbind(dim=1)
        pairs = (true * (false.cumsum(dim=1) - false / 2)).sum(dim=1)
        return mean_defined(pairs, true.sum(dim=1) * false.sum(dim=1))


class _Columns(Metric):
    """A mean over the target columns of a number made of sums over rows, in standard deviations from the training mean."""

    kinds = ("values",)

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        columns = (len(target.columns),)
        self._begin(error=columns, first=columns, second=columns, weight=columns)

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add rows."""
        predicted = decoded["standardized"].double()
        truth = target.double().reshape(predicted.shape)
        if predicted.ndim == 3:  # a forecast: each step is a row, but for what is missing of it
            steps = predicted.shape[1]
            predicted, truth, weight = predicted.flatten(0, 1), truth.flatten(0, 1), weight.repeat_interleave(steps)
            known = ~truth.isnan()
            self._observe_known(torch.where(known, predicted, 0.0), torch.where(known, truth, 0.0), weight[:, None] * known)
            return
        self.state["error"] += weight @ self.error(predicted - truth)
        self.state["first"] += weight @ truth
        self.state["second"] += weight @ truth**2
        self.state["weight"] += weight.sum()

    def _observe_known(self, predicted: Tensor, truth: Tensor, weight: Tensor) -> None:
        """Add values `[b, c]`, each with a weight of its own."""
        self.state["error"] += (weight * self.error(predicted - truth)).sum(dim=0)
        self.state["first"] += (weight * truth).sum(dim=0)
        self.state["second"] += (weight * truth**2).sum(dim=0)
        self.state["weight"] += weight.sum(dim=0)

    def error(self, difference: Tensor) -> Tensor:
        """Return what is summed of the differences `[b, c]`; their squares, unless overridden."""
        return difference**2

    def in_units(self, errors: Tensor) -> Tensor:
        """Return `[c]` errors in standard deviations in the target's units."""
        return errors.cpu() * torch.tensor(self.target.std, dtype=torch.float64)

    @abstractmethod
    def columns(self) -> Tensor:
        """Return each column's number, `[c]`."""

    def compute(self) -> float:
        """Return the mean over the columns."""
        return float(self.columns().mean())

    def by_column(self) -> dict[str, float]:
        """Return each column's number where there are several."""
        several = len(self.target.columns) > 1
        return dict(zip(self.target.columns, self.columns().tolist(), strict=True)) if several else {}


class RootMeanSquaredError(_Columns):
    """The root of the mean squared error, in the target's units; of several columns the mean of theirs, and each beside it."""

    higher_is_better = False

    def columns(self) -> Tensor:
        """Return the errors."""
        return self.in_units((self.state["error"] / self.state["weight"]).sqrt())


class MeanAbsoluteError(_Columns):
    """The mean absolute error, in the target's units; of several columns the mean of theirs, and each beside it."""

    higher_is_better = False

    def error(self, difference: Tensor) -> Tensor:
        """Return absolute differences."""
        return difference.abs()

    def columns(self) -> Tensor:
        """Return the errors."""
        return self.in_units(self.state["error"] / self.state["weight"])


class R2(_Columns):
    """The share of the target's variance that the predictions explain: 1 at best, 0 for the mean's prediction, negative for worse ones.

    NaN for a constant target. Of several columns the mean of theirs for which it is defined, and each beside it.
    """

    def compute(self) -> float:
        """Return the mean over the columns that are not constant."""
        return mean_defined(*self._explained())

    def columns(self) -> Tensor:
        """Return the shares."""
        explained, spread = self._explained()
        return torch.where(spread <= 0, math.nan, explained / spread)

    def _explained(self) -> tuple[Tensor, Tensor]:
        """Return the explained sums of squares and all of them, `[c]`."""
        state = self.state
        spread = state["second"] - state["first"] ** 2 / state["weight"]
        spread = spread.masked_fill(spread <= _ROUNDING * state["second"], 0.0)  # a constant target far from the training mean
        return spread - state["error"], spread


def exact_auc(scores: np.ndarray, labels: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the area under the ROC curve of all scores at once; ties count one half.

    Args:
        scores: `[rows]`, higher for rows more likely true.
        labels: `[rows]`, 0 or 1.
        weight: `[rows]`, not negative; all 1 where not given.

    Returns:
        The area, or NaN where all rows are of one class or a score is NaN.

    Example:
        >>> exact_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
        0.875
    """
    weights = np.ones(len(scores)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    values, truth, weights = np.asarray(scores)[order], np.asarray(labels)[order].astype(bool), weights[order]
    if not len(values) or np.isnan(values[-1]):
        return math.nan
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    true = np.add.reduceat(np.where(truth, weights, 0.0), starts)
    false = np.add.reduceat(np.where(truth, 0.0, weights), starts)
    pairs = true.sum() * false.sum()
    return float((true * (false.cumsum() - false / 2)).sum() / pairs) if pairs > 0 else math.nan


def _one_hot(codes: Tensor, classes: int) -> Tensor:
    return (codes.long()[:, None] == torch.arange(classes, device=codes.device)).double()


def quotient(numerator: Tensor, denominator: Tensor) -> float:
    """Return a quotient of two sums, scalars; NaN where both are 0: no rows, no number."""
    return float(numerator / denominator)


def mean_defined(numerator: Tensor, denominator: Tensor) -> float:
    """Return the mean of the quotients whose denominator is above zero; NaN where there is none, or one is NaN."""
    defined = ~(denominator <= 0)
    return float((numerator[defined] / denominator[defined]).mean())
