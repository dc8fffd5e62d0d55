"""Patch: train on a part of each picture, another one each time.

Legend of shapes: `b` rows · `*space` height and width, or depth, height and width · `c` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, MaxLen, MinLen
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.augment.geometry import is_volume_mask
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind


class Patch(Augmentation):
    """Cuts a part of one size out of each picture or volume, at a random place, and the same part out of its mask.

    For what is too large to be trained on whole: a network of convolutions learns from patches and answers pictures of any size. A side
    that is shorter than the patch's stays as it is.

    Args:
        inputs: The batch's inputs.
        size: Height and width, or depth, height and width, in pixels or voxels.

    Raises:
        InputError: No input is a picture or volume, or one has boxes, which a patch would cut.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, size: Annotated[list[Annotated[int, Ge(1)]], MinLen(2), MaxLen(3)]) -> None:
        super().__init__(inputs)
        self.size = tuple(size)
        self.require("pictures", Kind.IMAGE, Kind.VOLUME)
        if self.of_kind(Kind.BOXES):
            raise InputError("patches are cut out of pictures with boxes", hint="leave the augmentation patch out, or take crop")
        wanted = {2: Kind.IMAGE, 3: Kind.VOLUME}[len(self.size)]
        if other := [name for name in self.of_kind(Kind.IMAGE, Kind.VOLUME) if self.inputs[name].kind is not wanted]:
            sides = "height and width" if wanted is Kind.VOLUME else "depth, height and width"
            raise InputError(f"the patch has {len(self.size)} sides, and {other[0]!r} is no {wanted.value}", hint=f"give {sides}")

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch of patches."""
        drawn = draw.uniform(len(batch), len(self.size))
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        for name in self.of_kind(Kind.IMAGE, Kind.VOLUME, Kind.MASK):
            held = inputs if name in inputs else targets
            if name in held:
                if self.inputs[name].kind is Kind.MASK and is_volume_mask(held[name]) != (len(self.size) == 3):
                    raise InputError(f"the mask {name!r} has not the sides of its picture", hint="give one mask a picture")
                held[name] = self._cut(held[name], drawn)
        return replace(batch, inputs=inputs, targets=targets)

    def _cut(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Return the part of each row, `[b, *size, …]`, in one gather."""
        rows, sides = x.shape[0], len(self.size)
        index: list[Tensor] = [torch.arange(rows, device=x.device).reshape(-1, *[1] * sides)]
        for axis, wanted in enumerate(self.size):
            there = x.shape[axis + 1]
            length = min(wanted, there)
            start = (drawn[:, axis] * (there - length + 1)).long().clamp(max=there - length).to(x.device)
            place = start[:, None] + torch.arange(length, device=x.device)
            index.append(place.reshape(rows, *[length if other == axis else 1 for other in range(sides)]))
        return x[tuple(index)]
