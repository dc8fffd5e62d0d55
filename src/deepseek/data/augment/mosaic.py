"""Mosaic: pictures put together from the quarters of two, and their boxes with them.

Legend of shapes: `b` rows · `h`, `w` height and width · `c` channels · `n` boxes of a picture, padding included · `k` numbers of a box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw, Known
from deepseek.data.augment.mixing import neighbours
from deepseek.data.batch import Batch
from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

_CROWD = 5
"""Where a box of a target says that nothing is to be asked of what lies in it."""
_CENTRE = (0.25, 0.75)


class Mosaic(Augmentation):
    """Cuts two pictures crosswise at one point and swaps two opposite quarters: objects are seen beside others, and cut at other places.

    Nothing is made smaller, and of the two pictures together nothing is lost or seen twice. Of an object that is cut the larger piece
    counts, if enough of it is left; at its other pieces nothing is asked, neither that it is found nor that it is not. The weight of a row
    becomes that of both in the shares of their areas.

    As with `mixup`, each row meets its neighbour in the global batch, so that N ranks do what one would while each holds an even number
    of rows. Source: Bochkovskiy, Wang and Liao, "YOLOv4", 2020, https://arxiv.org/abs/2004.10934, which puts four pictures together.

    Args:
        inputs: The batch's inputs.
        probability: How likely a pair of pictures is cut.
        least_visible: Which share of its area must be left of an object that counts, over 0 and at most 1.

    Raises:
        InputError: There is not exactly one input and it is a picture, or the target is none of boxes.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        probability: Annotated[float, Ge(0), Le(1)] = 0.5,
        least_visible: Annotated[float, Gt(0), Le(1)] = 0.5,
    ) -> None:
        super().__init__(inputs)
        self.require_images()
        others = [name for name, spec in inputs.items() if spec.kind not in (Kind.IMAGE, Kind.BOXES)]
        if others or len(self.images) != 1:
            raise InputError(
                f"mosaic is given {', '.join(map(repr, inputs))}, and cuts a picture and its boxes alone",
                hint="leave it out of data.augment",
            )
        self.probability, self.least_visible = probability, least_visible

    def begin(self, known: Known) -> None:
        """See that the target is one of boxes.

        Raises:
            InputError: It is another one.
        """
        if known.target is not None and known.target.kind != "boxes":
            raise InputError(
                f"mosaic moves boxes, and the target is of kind {known.target.kind!r}", hint="take cutmix, which mixes classes by area"
            )

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with pictures and boxes of pairs put together."""
        rows, (image,) = len(batch), self.images
        place = torch.arange(draw.start, draw.start + rows) // 2 * 2
        drawn = Draw(draw.generator, 0, draw.total).uniform(draw.total, 3)[place]
        partner = neighbours(rows, draw.start)
        height, width = batch.inputs[image].shape[1:3]
        low, high = _CENTRE
        x, y = (((low + (high - low) * drawn[:, 1 + axis]) * size).round() for axis, size in enumerate((width, height)))
        cut = (drawn[:, 0] < self.probability) & (partner != torch.arange(rows))
        own = ((torch.arange(width) < x[:, None])[:, None, :] == (torch.arange(height) < y[:, None])[:, :, None]) | ~cut[:, None, None]
        pixels, there = batch.inputs[image], own[..., None].to(batch.inputs[image].device)
        inputs = {**batch.inputs, image: torch.where(there, pixels, pixels[partner.to(pixels.device)])}
        targets = dict(batch.targets)
        quarters = _quarters(x, y, size=(height, width), cut=cut)
        for name in self.of_kind(Kind.BOXES):
            holder = next((held for held in (inputs, targets) if name in held), None)
            if holder is not None:
                holder.update(self._boxes(name, holder, quarters, partner))
        weight = batch.weight
        if weight is not None:
            share = own.float().mean(dim=(1, 2)).to(weight.device)
            weight = torch.lerp(weight[partner.to(weight.device)], weight, share)
        return replace(batch, inputs=inputs, targets=targets, weight=weight)

    def _boxes(self, name: str, held: Mapping[str, Tensor], quarters: tuple[Tensor, Tensor], partner: Tensor) -> dict[str, Tensor]:
        """Return the boxes of both pictures that are to be seen, `[b, n', k]`, and which places hold one where that was told."""
        boxes, mask = held[name], held.get(mask_name(name))
        found = [
            self._seen(boxes[order], None if mask is None else mask[order], parts.to(boxes.device))
            for order, parts in zip((torch.arange(len(partner)), partner), quarters, strict=True)
        ]
        seen, there = torch.cat([one for one, _ in found], dim=1), torch.cat([one for _, one in found], dim=1)
        most = max(int(there.sum(dim=1).amax()) if len(there) else 0, 1)
        first = (~there).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        seen, there = seen.gather(1, first[..., None].expand(-1, -1, seen.shape[2])), there.gather(1, first)
        return {name: seen} if mask is None else {name: seen, mask_name(name): there.to(mask.dtype)}

    def _seen(self, boxes: Tensor, mask: Tensor | None, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pieces of boxes that are seen through two rectangles `[b, 2, 4]`: `[b, 2 · n, k]`, zeros where there is none."""
        edges = boxes[:, :, None, :4].float()
        low, high = torch.maximum(edges[..., :2], parts[:, None, :, :2]), torch.minimum(edges[..., 2:], parts[:, None, :, 2:])
        areas = (high - low).clamp(min=0.0).prod(dim=-1)
        whole = (edges[..., 2:] - edges[..., :2]).clamp(min=0.0).prod(dim=-1)
        larger = torch.arange(2, device=areas.device) == areas.argmax(dim=2, keepdim=True)
        counts = larger & (areas > 0) & (areas >= self.least_visible * whole)
        told, there = boxes[:, :, None, 4:].expand(-1, -1, 2, -1), counts
        if boxes.shape[-1] > _CROWD:  # of other pieces nothing is asked
            there, crowd = areas > 0, torch.where(counts[..., None], told[..., 1:2], 1.0)
            told = torch.cat([told[..., :1], crowd, told[..., 2:]], dim=-1)
        if mask is not None:
            there = there & mask.bool()[..., None]
        pieces = torch.cat([torch.cat([low, high], dim=-1).to(boxes.dtype), told], dim=-1) * there[..., None]
        return pieces.flatten(1, 2), there.flatten(1)


def _quarters(x: Tensor, y: Tensor, *, size: tuple[int, int], cut: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two rectangles in which a row's own picture is seen, and the two in which its partner's is, `[b, 2, 4]` each."""
    nothing, right, bottom = torch.zeros_like(x), torch.full_like(x, size[1]), torch.full_like(x, size[0])
    whole = torch.stack([nothing, nothing, right, bottom], dim=1)
    empty = torch.zeros_like(whole)
    own = [torch.stack(edges, dim=1) for edges in ((nothing, nothing, x, y), (x, y, right, bottom))]
    other = [torch.stack(edges, dim=1) for edges in ((x, nothing, right, y), (nothing, y, x, bottom))]
    kept = [torch.where(cut[:, None], part, uncut) for part, uncut in zip(own, (whole, empty), strict=True)]
    taken = [torch.where(cut[:, None], part, empty) for part in other]
    return torch.stack(kept, dim=1), torch.stack(taken, dim=1)
