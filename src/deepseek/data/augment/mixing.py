"""MixUp and CutMix: two rows become one, and so do their targets.

Legend of shapes: `b` rows · `h`, `w` height and width · `c` channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional

from deepseek.data.augment.base import Augmentation, Draw, Known
from deepseek.data.augment.selection import picked, put
from deepseek.data.augment.warp import blocks
from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec, require_plain
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

BLOCK_ELEMENTS = 1 << 19
Pairs = Literal["neighbours", "shuffled"]


class Mixing(Augmentation):
    """What mixing two rows has in common: who is mixed with whom, how much, and what becomes of the targets.

    The share of a row in the mixture is drawn from Beta(alpha, alpha). Targets become shares of classes, mixed numbers, or both's labels
    in part, such that the loss is the weighted sum of the losses for the two rows' own targets, class weights and row weights included.

    Each row is mixed with its neighbour in the global batch, which is a random row, as batches come in random order. So N ranks mix what
    one would, as long as each holds an even number of rows; where a boundary cuts a pair in two, its rows are mixed with other neighbours.

    Args:
        inputs: The batch's inputs.
        alpha: Both parameters of the Beta distribution: below 1 most mixtures are nearly one row, at 1 every share is as likely.
        probability: How likely a batch (or a row, see `each`) is mixed.
        each: Whether a `batch` shares one draw, as in the papers, or each pair of rows has its own (`row`).
        pairs: Who is mixed with whom: `neighbours`, or rows `shuffled` at random among those that a rank holds, for batches in a fixed
            order.
        classes: How many classes there are, where it is not known from the task: in a loop of one's own.

    Raises:
        InputError: An input is of a kind that cannot be mixed.
    """

    softens = True
    kinds: tuple[Kind, ...] = (Kind.IMAGE,)

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        alpha: Annotated[float, Gt(0)] = 1.0,
        probability: Annotated[float, Ge(0), Le(1)] = 1.0,
        each: Literal["batch", "row"] = "batch",
        pairs: Pairs = "neighbours",
        classes: Annotated[int, Ge(2)] | None = None,
    ) -> None:
        super().__init__(inputs)
        for name, spec in inputs.items():
            if spec.kind not in self.kinds or spec.ragged:
                raise InputError(
                    f"{type(self).__name__.lower()} cannot mix the input {name!r}, which is of kind {spec.kind.value!r}",
                    hint=f"it mixes {', '.join(kind.value for kind in self.kinds)}; leave it out of data.augment",
                )
        self.alpha, self.probability, self.each, self.pairs, self.classes = alpha, probability, each, pairs, classes
        self._target: TargetSpec | None = None

    def begin(self, known: Known) -> None:
        """Learn how many classes there are.

        Raises:
            InputError: The target cannot be mixed in this way.
        """
        self._target = known.target
        if known.target is not None:
            require_plain(known.target.kind, f"the augmentation {self.names[0]}", hint="leave it out of data.augment")
        if known.target is not None and known.target.kind == "classes":
            self.classes = len(known.target.classes)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with each row mixed with its partner, targets and weights too."""
        rows = len(batch)
        chosen, share = self._draw(draw, rows)
        partner = self._partners(draw, rows)
        share = torch.where(chosen, share, 1.0)
        inputs, share = self.mixed(batch, share, partner, draw=draw)
        return mix_targets(replace(batch, inputs={**batch.inputs, **inputs}), share, partner, classes=self.classes)

    @abstractmethod
    def mixed(self, batch: Batch, share: Tensor, partner: Tensor, *, draw: Draw) -> tuple[dict[str, Tensor], Tensor]:
        """Return the mixed inputs, and how much each row's own part in them really is, float32 `[b]`.

        Args:
            batch: The rows.
            share: How much of itself a row keeps, `[b]`.
            partner: With which row of the batch it is mixed, int64 `[b]`.
            draw: Further randomness.
        """

    def _draw(self, draw: Draw, rows: int) -> tuple[Tensor, Tensor]:
        """Return which rows are mixed, and their shares: alike for the two rows of a pair, or for the whole batch."""
        place = self._place(draw, rows)
        whole = Draw(draw.generator, 0, draw.total)
        return whole.uniform(draw.total)[place] < self.probability, whole.beta(draw.total, self.alpha)[place]

    def _place(self, draw: Draw, rows: int) -> Tensor:
        """Return which row's draw holds for each row: the first of its pair, or the first of the batch, int64 `[b]`."""
        return torch.arange(draw.start, draw.start + rows) // 2 * 2 if self.each == "row" else torch.zeros(rows, dtype=torch.int64)

    def _partners(self, draw: Draw, rows: int) -> Tensor:
        if self.pairs == "shuffled":
            order = draw.uniform(rows).argsort()
            return torch.empty_like(order).index_copy_(0, order, order.roll(-1))  # one ring through all: nobody meets himself
        return neighbours(rows, draw.start)


class MixUp(Mixing):
    """Adds to each row another one, pixel by pixel, and mixes their targets alike (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    Images, numbers, sound and series can be mixed; a target of numbers is mixed too.

    Args:
        inputs: The batch's inputs.
        alpha: Both parameters of the Beta distribution: below 1 most mixtures are nearly one row, at 1 every share is as likely.
        probability: How likely a batch (or a row, see `each`) is mixed.
        each: Whether a `batch` shares one draw, as in the paper, or each pair of rows has its own (`row`).
        pairs: Who is mixed with whom: `neighbours`, or rows `shuffled` at random among those that a rank holds, for batches in a fixed
            order.
        classes: How many classes there are, where it is not known from the task: in a loop of one's own.
    """

    kinds = (Kind.IMAGE, Kind.NUMBER, Kind.AUDIO, Kind.SERIES, Kind.VOLUME)

    def mixed(self, batch: Batch, share: Tensor, partner: Tensor, *, draw: Draw) -> tuple[dict[str, Tensor], Tensor]:
        """Return weighted sums of the rows, and the shares as they were given."""
        changed = {}
        for name in self.inputs:
            x = batch.inputs[name]
            own, other = share.to(x.device).view(-1, *[1] * (x.ndim - 1)), partner.to(x.device)
            out = torch.empty_like(x, memory_format=torch.contiguous_format)
            for part in blocks(x, BLOCK_ELEMENTS // max(x[:1].numel(), 1)):
                made = torch.lerp(x[other[part]].float(), x[part].float(), own[part])
                put(out[part], made if x.is_floating_point() else made.add_(0.5))
            changed[name] = out
        return changed, share


class CutMix(Mixing):
    """Pastes a rectangle of another image into each, and mixes their targets by area (Yun et al. 2019, https://arxiv.org/abs/1905.04899).

    Args:
        inputs: The batch's inputs.
        alpha: Both parameters of the Beta distribution that the area kept is drawn from.
        probability: How likely a batch (or a row, see `each`) is mixed.
        each: Whether a `batch` shares one rectangle, as in the paper, or each pair of rows has its own (`row`).
        pairs: Who is mixed with whom: `neighbours`, or rows `shuffled` at random among those that a rank holds, for batches in a fixed
            order.
        classes: How many classes there are, where it is not known from the task: in a loop of one's own.

    Raises:
        InputError: An input is no image, or the target is a number, of which an area is no share.
    """

    kinds = (Kind.IMAGE,)

    def begin(self, known: Known) -> None:
        """Learn how many classes there are."""
        if known.target is not None and known.target.kind == "values":
            raise InputError("cutmix mixes targets by area, and the target is a number", hint="take mixup, which mixes numbers too")
        super().begin(known)

    def mixed(self, batch: Batch, share: Tensor, partner: Tensor, *, draw: Draw) -> tuple[dict[str, Tensor], Tensor]:
        """Return images with a rectangle of their partners', and the share of the area that was kept: what the border cuts off counts."""
        y, x = Draw(draw.generator, 0, draw.total).uniform(draw.total, 2)[self._place(draw, len(batch))].unbind(1)
        side = (1 - share).sqrt()
        changed, kept = {}, []
        for name in self.inputs:
            image = batch.inputs[name]
            down, across = _span(y, side, image.shape[1]), _span(x, side, image.shape[2])
            kept.append(1 - down.float().mean(dim=1) * across.float().mean(dim=1))
            down, across = down.to(image.device), across.repeat_interleave(image.shape[3], dim=1).to(image.device)
            flat, other = image.flatten(2), partner.to(image.device)
            out = torch.empty_like(flat)
            for part in blocks(flat, BLOCK_ELEMENTS // max(flat[:1].numel(), 1)):
                inside = down[part].view(torch.uint8)[:, :, None] & across[part].view(torch.uint8)[:, None, :]
                out[part] = picked(inside.view(torch.bool), flat[other[part]], flat[part])
            changed[name] = out.view(image.shape)
        return changed, kept[0]


def neighbours(rows: int, start: int) -> Tensor:
    """Return each row's neighbour in the global batch, int64 `[rows]`, by its place here; another one where a share cuts a pair.

    Args:
        rows: How many rows there are here.
        start: Where they begin in the global batch.
    """
    partner = ((torch.arange(rows) + start) ^ 1) - start
    partner = torch.where(partner < 0, 1, partner)
    partner = torch.where(partner >= rows, rows - 2, partner)
    return partner.clamp(0, max(rows - 1, 0))


def mix_targets(batch: Batch, share: Tensor, partner: Tensor, *, classes: int | None = None) -> Batch:
    """Return the batch with targets and weights mixed, such that its loss is the weighted sum of the losses for both rows' own targets.

    Class codes become shares; floats (0 and 1, labels, shares, numbers) are mixed as they are. Where rows have weights, the mixture weighs
    `share · w + (1 - share) · w'`, and classes count by each row's part of that.

    Args:
        batch: The rows, inputs mixed already.
        share: How much of itself each row keeps, float32 `[b]`.
        partner: With which row it is mixed, int64 `[b]`.
        classes: How many classes codes stand for.
    """
    batch = softened(batch, classes)
    weight = batch.weight
    if weight is not None:
        own, other = weight, weight[partner.to(weight.device)]
        share = share.to(weight.device)
        weight = torch.lerp(other, own, share)
        share = torch.where(weight > 0, share * own / weight.clamp(min=torch.finfo(weight.dtype).tiny), share)
    targets = {}
    for name, target in batch.targets.items():
        own = share.to(target.device, target.dtype).view(-1, *[1] * (target.ndim - 1))
        targets[name] = torch.lerp(target[partner.to(target.device)], target, own)
    return replace(batch, targets=targets, weight=weight)


def softened(batch: Batch, classes: int | None) -> Batch:
    """Return the batch with class codes as shares: 1 for the row's class, float32 `[b, classes]`.

    Args:
        batch: The rows.
        classes: How many classes there are.

    Raises:
        InputError: There are codes, and nobody said of how many classes.
    """
    if any(not target.is_floating_point() for target in batch.targets.values()) and classes is None:
        raise InputError("targets are class codes, and how many classes there are is not known", hint="give classes=, or shares of classes")
    targets = {
        name: target if target.is_floating_point() else functional.one_hot(target.long(), int(classes or 0)).float()
        for name, target in batch.targets.items()
    }
    return replace(batch, targets=targets)


def _span(centre: Tensor, side: Tensor, size: int) -> Tensor:
    """Return bool `[b, size]`: the places along an axis that a rectangle covers; cut off at the border."""
    length = (side * size).round()
    start = (centre * size - length / 2).round()
    place = torch.arange(size)
    return (place >= start[:, None]) & (place < (start + length)[:, None])
