"""Losses: from a network's raw outputs and the targets to one number a row.

Classification losses take hard targets (class codes, 0/1) and soft ones (a share for each class, as mixing augmentations make).

Legend of shapes: `b` rows · `m` members · `o` outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor
from torch.nn import functional

from deepseek.data.targets import TargetKind, TargetSpec
from deepseek.data.targets.mask import IGNORED
from deepseek.errors import InputError
from deepseek.models.layers import Probability


class Loss(ABC):
    """One number a row that is smaller the better the outputs fit.

    Args:
        target: What is to be predicted.

    Attributes:
        kinds: The kinds of target that the loss makes sense for.

    Raises:
        InputError: The target is of another kind.
    """

    kinds: ClassVar[tuple[TargetKind, ...]]

    def __init__(self, target: TargetSpec, /) -> None:
        if target.kind not in self.kinds:
            raise InputError(
                f"the loss {type(self).__name__} is no loss for a target of kind {target.kind!r}",
                hint=f"it takes: {', '.join(self.kinds)}",
            )
        self.target = target

    @abstractmethod
    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return the losses before averaging, `[b, m, …]`.

        Args:
            out: Float `[b, m, o]`, at least float32.
            target: int64 `[b]` (class codes), or float `[b]` or `[b, o]`.
        """

    def rows(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`: the mean over members and outputs; of masks the mean over the places whose class is known.

        Args:
            out: `[b, m, o]`, of masks `[b, o, *space]`, of any float type; half precision is widened first, as a sum of exponentials needs.
            target: As in `terms`; of masks uint8 `[b, *space]`.
        """
        if self.target.kind == "mask":
            known = target != IGNORED
            codes = target.long().masked_fill(~known, 0).flatten()
            each = self.terms(widened(out).movedim(1, -1).reshape(-1, 1, out.shape[1]), codes)
            return mean_over_known(each.reshape(target.shape), known)
        return self.terms(widened(out), target).flatten(1).mean(dim=1)


class CrossEntropyLoss(Loss):
    """Cross-entropy of the softmax over classes.

    Args:
        label_smoothing: The share of each target that is spread evenly over all classes (Szegedy et al., 2016,
            https://arxiv.org/abs/1512.00567), in [0, 1).
    """

    kinds = ("classes", "mask")

    def __init__(self, target: TargetSpec, /, *, label_smoothing: Probability = 0.0) -> None:
        super().__init__(target)
        self.label_smoothing = label_smoothing

    def rows(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`; for a single member and class codes by torch's one kernel, a fifth of a small network's step."""
        if self.target.kind == "mask":
            each = functional.cross_entropy(
                widened(out), target.long(), ignore_index=IGNORED, reduction="none", label_smoothing=self.label_smoothing
            )
            return mean_over_known(each, target != IGNORED)
        if out.shape[1] == 1 and not target.is_floating_point():
            raw = widened(out).squeeze(1)
            return functional.cross_entropy(raw, target.long(), reduction="none", label_smoothing=self.label_smoothing)
        return super().rows(out, target)

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m]`."""
        log_probability = out.log_softmax(dim=-1)
        if target.is_floating_point():
            loss = -(log_probability * target.unsqueeze(1)).sum(dim=-1)
        else:
            loss = -log_probability.gather(-1, _codes(target, out)).squeeze(-1)
        if self.label_smoothing:
            loss = torch.lerp(loss, -log_probability.mean(dim=-1), self.label_smoothing)
        return loss


class BinaryCrossEntropyLoss(Loss):
    """Cross-entropy of the sigmoid, for each output by itself.

    Args:
        label_smoothing: Targets 0 and 1 become half of this and 1 less half of this, in [0, 1).
    """

    kinds = ("binary", "labels")

    def __init__(self, target: TargetSpec, /, *, label_smoothing: Probability = 0.0) -> None:
        super().__init__(target)
        self.label_smoothing = label_smoothing

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m, o]`."""
        wanted = by_output(target, out)
        if self.label_smoothing:
            wanted = wanted * (1.0 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(out, wanted.expand_as(out), reduction="none")


class FocalLoss(Loss):
    """Cross-entropy in which well-answered rows count less: `(1 - p)^gamma · -log p`.

    For targets whose rare class is drowned by easy rows of the common one. Source: Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017, https://arxiv.org/abs/1708.02002.

    Args:
        gamma: How fast easy rows fade; 0 is cross-entropy.
        alpha: The weight of the positive class, the negative one having `1 - alpha`, in (0, 1]; nothing for no weights. Not for several
            classes.

    Raises:
        InputError: `alpha` is given for a target with several classes.
    """

    kinds = ("binary", "classes", "labels", "mask")

    def __init__(
        self,
        target: TargetSpec,
        /,
        *,
        gamma: Annotated[float, Ge(0.0)] = 2.0,
        alpha: Annotated[float, Gt(0.0), Le(1.0)] | None = None,
    ) -> None:
        super().__init__(target)
        if alpha is not None and target.kind in ("classes", "mask"):
            raise InputError(
                "alpha is given for a target with several classes", hint="use the task's class_weights, or for masks the loss dice"
            )
        self.gamma, self.alpha = gamma, alpha

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m]` for several classes, else `[b, m, o]`."""
        if self.target.kind in ("classes", "mask"):
            log_probability = out.log_softmax(dim=-1)
            faded = self._faded(log_probability)
            if target.is_floating_point():
                return (faded * target.unsqueeze(1)).sum(dim=-1)
            return faded.gather(-1, _codes(target, out)).squeeze(-1)
        wanted = by_output(target, out)
        positive, negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1.0 - self.alpha)
        yes, no = self._faded(functional.logsigmoid(out)), self._faded(functional.logsigmoid(-out))
        return positive * wanted * yes + negative * (1.0 - wanted) * no

    def _faded(self, log_probability: Tensor) -> Tensor:
        # `1 - p` by expm1 keeps its digits where p is nearly 1; clamped as the power's slope at 0 is infinite for gamma below 1.
        return -((-torch.expm1(log_probability)).clamp(min=1e-12) ** self.gamma) * log_probability


class MeanSquaredLoss(Loss):
    """The squared difference, in standardised units."""

    kinds = ("values",)

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m, o]`."""
        return (out - by_output(target, out)) ** 2


class MeanAbsoluteLoss(Loss):
    """The absolute difference, in standardised units: pulls to the median, and minds outliers little."""

    kinds = ("values",)

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m, o]`."""
        return (out - by_output(target, out)).abs()


class HuberLoss(Loss):
    """Squared for small differences, absolute for large ones (Huber, 1964, https://doi.org/10.1214/aoms/1177703732).

    Args:
        delta: Where the one turns into the other, in standard deviations of the target, above 0.
    """

    kinds = ("values",)

    def __init__(self, target: TargetSpec, /, *, delta: Annotated[float, Gt(0.0)] = 1.0) -> None:
        super().__init__(target)
        self.delta = delta

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m, o]`."""
        return functional.huber_loss(out, by_output(target, out).expand_as(out), reduction="none", delta=self.delta)


class QuantileLoss(Loss):
    """The pinball loss of several quantiles at once: what lies above a level costs the level, what lies below it the rest of one.

    Its minimum is where a share `level` of the values lies below. Source: Koenker and Bassett, "Regression Quantiles", Econometrica 1978,
    https://doi.org/10.2307/1913643.

    Args:
        levels: The quantiles, ascending, each in (0, 1); 0.5 among them, which is the prediction.

    Raises:
        InputError: The levels are not in order, or lack 0.5.
    """

    kinds = ("values",)

    def __init__(self, target: TargetSpec, /, *, levels: list[Annotated[float, Gt(0.0), Lt(1.0)]] = [0.1, 0.5, 0.9]) -> None:  # noqa: B006
        super().__init__(target)
        if sorted(set(levels)) != list(levels) or 0.5 not in levels:
            raise InputError(f"the levels of the quantile loss are {levels}", hint="give them ascending, each once, 0.5 among them")
        self.levels = tuple(levels)

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, m, o]` for outputs `[b, m, o]`, in which the quantiles of each value stand together, and values `[b, o / q]`."""
        count = len(self.levels)
        levels = torch.tensor(self.levels, dtype=out.dtype, device=out.device)
        above = target.reshape(target.shape[0], 1, -1, 1).to(out.dtype) - out.reshape(*out.shape[:2], -1, count)
        return torch.maximum(levels * above, (levels - 1) * above).flatten(2)


def widened(out: Tensor) -> Tensor:
    """Return outputs in at least float32."""
    return out.to(torch.promote_types(out.dtype, torch.float32))


def mean_over_known(each: Tensor, known: Tensor) -> Tensor:
    """Return the mean over the places of each row that are known, `[b]`; 0 for a row of which nothing is known.

    Args:
        each: A number for each place, `[b, *space]`.
        known: Which of them count, bool `[b, *space]`.
    """
    known = known.flatten(1)
    return (each.flatten(1) * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def by_output(target: Tensor, out: Tensor) -> Tensor:
    """Return targets `[b]` or `[b, o]` as `[b, 1, o]`, in the outputs' type."""
    return target.reshape(target.shape[0], 1, out.shape[-1]).to(out.dtype)


def _codes(target: Tensor, out: Tensor) -> Tensor:
    return target.long()[:, None, None].expand(-1, out.shape[1], 1)
