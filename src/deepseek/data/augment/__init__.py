"""Augmentations: random changes of training batches that depend on seed, step and row only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from deepseek.data.augment.back_translation import back_translate
from deepseek.data.augment.base import Augmentation, Draw, Known, mix_seed
from deepseek.data.augment.geometry import Composed, composed
from deepseek.data.augment.image_augmenter import ImageAugmenter
from deepseek.data.augment.one_of import build_method
from deepseek.data.augment.text_edits import easy_augment
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.modules import ImageModule
from deepseek.fields import Kind
from deepseek.registry import Spec

__all__ = ["Augment", "Augmentation", "Draw", "ImageAugmenter", "Known", "back_translate", "build_augmentations", "easy_augment"]


def build_augmentations(specs: Sequence[Spec], inputs: Mapping[str, InputSpec], known: Known | None = None) -> list[Augmentation]:
    """Return augmentations ready for the first step; neighbours that resample images are one, which interpolates once.

    Args:
        specs: The augmentations, in order.
        inputs: The batch's inputs.
        known: What they may learn from.
    """
    parts = [build_method(spec, inputs) for spec in specs]
    for part in parts:
        part.begin(known or Known())
    made = composed(parts)
    senses = [name for name, spec in inputs.items() if spec.kind not in (Kind.MASK, Kind.BOXES)]  # these are targets of a picture
    lacking = _image_modules(inputs, known or Known()) if len(senses) > 1 else {}
    return [StillMissing(inputs, made, lacking)] if made and lacking else made


def _image_modules(inputs: Mapping[str, InputSpec], known: Known) -> dict[str, ImageModule]:
    names = [name for name, spec in inputs.items() if spec.kind is Kind.IMAGE and name in known.transforms]
    modules = {name: known.transforms[name].module() for name in names}
    return {name: module for name, module in modules.items() if isinstance(module, ImageModule)}


class StillMissing(Augmentation):
    """Several augmentations, after which the images that rows lacked are still missing: a changed one would pass for an image.

    Args:
        inputs: The batch's inputs.
        parts: The augmentations, in order.
        modules: By input name, the graph transforms of images, which know how a missing one is stored.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], parts: Sequence[Augmentation], modules: Mapping[str, ImageModule], /) -> None:
        super().__init__(inputs)
        self.parts, self._modules = list(parts), dict(modules)
        self.softens = any(part.softens for part in parts)

    @property
    def names(self) -> tuple[str, ...]:
        """What is done, in words: the parts' own."""
        return tuple(name for part in self.parts for name in part.names)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the changed batch."""
        given = batch
        for part in self.parts:
            batch = part.apply(batch, draw)
        kept = {}
        for name, module in self._modules.items():
            before, after = given.inputs[name], batch.inputs[name]
            there = module.to(before.device).present(before)
            kept[name] = torch.where(there.view(-1, *[1] * (after.ndim - 1)), after, module.absent.to(after.dtype))  # of any size
        return self.replace(batch, kept)


class Augment:
    """Several augmentations, one after the other.

    What happens to a row depends on the seed, the step and the row's place in the global batch: one rank or several, micro-batches or none,
    resumed or not, the changes are the same.

    Args:
        specs: The augmentations, in order; objects and functions of images are taken as well as names and mappings.
        inputs: The batch's inputs.
        seed: The run's seed.
        known: What they may learn from: how many classes there are, the training rows.
    """

    def __init__(self, specs: Sequence[Spec], inputs: Mapping[str, InputSpec], *, seed: int = 0, known: Known | None = None) -> None:
        self.parts = build_augmentations(specs, inputs, known)
        self._seed = seed

    def apply(self, batch: Batch, step: int, *, start: int = 0, total: int | None = None) -> Batch:
        """Return the changed batch; the given one is left as it was.

        Args:
            batch: Rows of the global batch.
            step: The step, counted over all epochs.
            start: Where these rows begin in the global batch (`Loader.share`).
            total: The rows of the global batch; those of `batch` where not given.
        """
        index = 0

        def draw() -> Draw:
            nonlocal index
            # a stream for each augmentation, so that adding one leaves what the others draw as it was
            generator = torch.Generator().manual_seed(mix_seed(self._seed, step, index))
            index += 1
            return Draw(generator, start, len(batch) if total is None else total)

        for part in self.parts:
            if isinstance(part, Composed):
                batch = part.moved(batch, [one.draws(draw(), len(batch)) for one in part.parts])
            else:
                batch = part.apply(batch, draw())
        return batch
