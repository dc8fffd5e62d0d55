"""ImageAugmenter: exclusive choices among methods, for the recipe's batches and for any kind of data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from deepseek.data.augment.datasets import transformed
from deepseek.data.augment.mixing import Mixing
from deepseek.data.augment.one_of import OneOf
from deepseek.data.augment.worker import IMAGE, Layout, Worker
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.registry import component

if TYPE_CHECKING:
    AugmentationSpec = Any
else:
    AugmentationSpec = component("augmentation")

_ALONE = {IMAGE: InputSpec(IMAGE, Kind.IMAGE, (IMAGE,), (), "uint8")}


class ImageAugmenter(OneOf):
    """Chooses one of several methods for each batch, or none, and never two; mixing gives labels as shares of classes.

    In a recipe it is a component; in Python it also takes whole data sets, through `transform`.

    Args:
        inputs: The batch's inputs; not given outside of a recipe.
        methods: Names of augmentations, mappings with `type`, or (in Python) augmentations and any functions of a batch of images.
        probabilities: How likely each is; together at most 1, and with what is left a batch stays as it is. Not given, all are as likely.
        alpha: Both parameters of the Beta distribution that `mixup` and `cutmix` draw shares from; each has its own where not given.
        each: Whether a `batch` makes one choice, or each `row` its own.

    Raises:
        InputError: There are not as many probabilities as methods, or they come to more than 1.

    Example:
        >>> augmenter = ImageAugmenter(methods=["cutmix", "mixup"], probabilities=[0.6, 0.4], alpha=1.0)
        >>> images, labels = augmenter.transform((np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 2, 1])))
        >>> labels.shape
        (4, 3)
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec] | None = None,
        /,
        *,
        methods: list[AugmentationSpec],
        probabilities: list[Annotated[float, Ge(0), Le(1)]] | None = None,
        alpha: Annotated[float, Gt(0)] | None = None,
        each: Literal["batch", "row"] = "batch",
    ) -> None:
        super().__init__(_ALONE if inputs is None else inputs, methods=methods, probabilities=probabilities, each=each)
        for part in self.parts:
            if isinstance(part, Mixing):
                part.alpha = part.alpha if alpha is None else alpha
                if inputs is None:
                    part.pairs = "shuffled"  # nobody promises that the batches of others come in random order
        self.alpha = alpha

    def transform(self, dataset: Any, *, classes: int | None = None, batch_size: int = 256, seed: int = 0, layout: Layout = "auto") -> Any:
        """Return the data set augmented: the same kind of thing, and lazily where it is read lazily.

        | given | returned |
        |---|---|
        | a pair of arrays or tensors `(x, y)` | such a pair, batch by batch of `batch_size` |
        | a `DataLoader`, or an iterable of batches | something to iterate over, with new draws each time |
        | a PyTorch `Dataset` | one whose items are augmented when asked for, each mixed with a random other; `set_epoch` draws anew |
        | a PyTorch `IterableDataset` of items | one that augments as many as `batch_size` together |
        | a Hugging Face data set | one with images and shares of classes; a streamed one stays streamed |
        | a `PreparedDataset` | one whose `take` augments |
        | a `Batch` | a `Batch` |

        A batch is a pair, a list that begins with images and labels, or a mapping with them under their usual names. Where a method mixes,
        labels that are class codes become shares of classes, float32; floats are mixed as they are; what is not mixed stays.

        Args:
            dataset: The images and labels.
            classes: How many classes there are; where not given it is read off the labels, for which an iterable is gone through once more.
            batch_size: How many rows make one choice where the data come without batches.
            seed: Everything drawn follows from it, the epoch and the place.
            layout: Whether channels come last (`hwc`) or first (`chw`); `auto` sees it by there being 1, 3 or 4 of them, last before first.

        Raises:
            InputError: It is no kind of data set, or how many classes there are cannot be known.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}", hint="at least 1")
        return transformed(dataset, Worker(self, seed, layout, classes), batch_size)
