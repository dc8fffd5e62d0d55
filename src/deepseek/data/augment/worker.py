"""Images and labels in any type and layout, handed to an augmentation and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw, mix_seed
from deepseek.data.augment.mixing import Mixing
from deepseek.data.augment.one_of import OneOf
from deepseek.data.batch import Batch
from deepseek.errors import InputError

Layout = Literal["auto", "hwc", "chw"]
IMAGE, LABEL = "image", "label"
_CHANNELS = (1, 3, 4)


@dataclass
class Worker:
    """Augments images and labels as they lie about in the world, in any type and layout.

    Attributes:
        augmenter: What to do.
        seed: From which everything drawn follows.
        layout: Where the channels are.
        classes: How many classes there are, once known.
    """

    augmenter: OneOf
    seed: int = 0
    layout: Layout = "auto"
    classes: int | None = None

    def __call__(self, images: Any, labels: Any, *place: int) -> tuple[Any, Any]:
        """Return images and labels augmented, each in the type that it was given in.

        Args:
            images: `[b, h, w]`, `[b, h, w, c]` or `[b, c, h, w]`, as an array or a tensor.
            labels: Class codes `[b]`, or floats, as an array, a tensor or a list.
            place: What the draws follow from besides the seed: an epoch and a step, for example.
        """
        x, back = self._channels_last(images)
        y = torch.as_tensor(np.asarray(labels) if not isinstance(labels, Tensor) else labels)
        mixes = self.augmenter.softens
        batch = Batch({IMAGE: x}, {LABEL: y} if mixes else {})
        made = self.apply(batch, *place)
        return back(made.inputs[IMAGE]), _as_given(made.targets[LABEL], labels) if mixes else labels

    def apply(self, batch: Batch, *place: int) -> Batch:
        """Return a batch augmented by the draws of a place."""
        for part in (self.augmenter, *self.augmenter.parts):
            _tell(part, self.classes)
        generator = torch.Generator().manual_seed(mix_seed(self.seed, *place))
        return self.augmenter.apply(batch, Draw(generator, 0, len(batch)))

    def needs_classes(self, labels: Any) -> bool:
        """Whether these labels are codes of nobody knows how many classes."""
        tensor = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
        return self.augmenter.softens and self.classes is None and not tensor.is_floating_point()

    def _channels_last(self, images: Any) -> tuple[Tensor, Any]:
        x = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
        if x.ndim == 3:
            return x[..., None], lambda made: _as_given(made[..., 0], images)
        if x.ndim != 4:
            raise InputError(f"images have the shape {tuple(x.shape)}", hint="a batch is [b, h, w], [b, h, w, c] or [b, c, h, w]")
        if self.layout == "chw" or (self.layout == "auto" and x.shape[3] not in _CHANNELS and x.shape[1] in _CHANNELS):
            return x.permute(0, 2, 3, 1), lambda made: _as_given(made.permute(0, 3, 1, 2).contiguous(), images)
        return x, lambda made: _as_given(made, images)


def _tell(part: Augmentation, classes: int | None) -> None:
    if isinstance(part, OneOf) or (isinstance(part, Mixing) and part.classes is None):
        part.classes = classes


def _as_given(made: Tensor, given: Any) -> Any:
    return made if isinstance(given, Tensor) else made.numpy()
