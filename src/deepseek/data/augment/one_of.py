"""OneOf: one of several augmentations, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional

from deepseek.data.augment.base import Augmentation, Draw, Known
from deepseek.data.augment.mixing import Mixing, softened
from deepseek.data.batch import Batch
from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.registry import Spec, component, family

if TYPE_CHECKING:
    AugmentationSpec = dict[str, Any]
else:
    AugmentationSpec = component("augmentation")

Method = Spec | Augmentation | Callable[..., Any]
_ROUNDING = 1e-6


class OneOf(Augmentation):
    """Does one of several augmentations and never two, each with its probability; with what is left of one, nothing.

    Where one of them mixes rows, targets are shares of classes whatever was chosen, so that batches are alike.

    Args:
        inputs: The batch's inputs.
        methods: The augmentations.
        probabilities: How likely each is; together at most 1. Not given, all are as likely, and one of them is always done.
        each: Whether a `batch` makes one choice, or each `row` its own; for rows all of them are computed.

    Raises:
        InputError: There are not as many probabilities as methods, or they come to more than 1.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        methods: list[AugmentationSpec],
        probabilities: list[Annotated[float, Ge(0), Le(1)]] | None = None,
        each: Literal["batch", "row"] = "batch",
    ) -> None:
        super().__init__(inputs)
        self.probabilities, self.each = checked_probabilities(methods, probabilities), each
        self.parts = [build_method(method, inputs) for method in methods]
        self.softens = any(part.softens for part in self.parts)
        self.classes: int | None = next((part.classes for part in self.parts if isinstance(part, Mixing) and part.classes), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts, as one."""
        return (" or ".join(name for part in self.parts for name in part.names),)

    def begin(self, known: Known) -> None:
        """Pass on what is known."""
        if known.target is not None and known.target.kind == "classes":
            self.classes = len(known.target.classes)
        for part in self.parts:
            part.begin(known)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch as one of the augmentations, or each row's, or none, leaves it."""
        if self.softens:
            batch = softened(batch, self.classes)
        ends = torch.tensor(self.probabilities, dtype=torch.float64).cumsum(0)
        if self.each == "batch":
            place = int(torch.searchsorted(ends, draw.once(), right=True))
            return self.parts[place].apply(batch, draw) if place < len(self.parts) else batch
        choice = torch.searchsorted(ends, draw.uniform(len(batch)).double(), right=True)
        made, listed = batch, {called for name in self.of_kind(Kind.BOXES) for called in (name, mask_name(name))}
        for place, part in enumerate(self.parts):
            made = _where(choice == place, part.apply(batch, draw), made, listed=listed)
        return made


class Called(Augmentation):
    """Any function of a batch of images as an augmentation; what it draws is its own affair.

    Args:
        inputs: The batch's inputs.
        function: Images `[b, h, w, c]` to images.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], function: Callable[[Tensor], Any], /) -> None:
        super().__init__(inputs)
        self.require_images()
        self.function = function

    @property
    def names(self) -> tuple[str, ...]:
        """The function's name."""
        return (getattr(self.function, "__name__", type(self.function).__name__),)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with images as the function returns them.

        Raises:
            InputError: It returns something else than as many images.
        """
        changed = {}
        for name in self.images:
            made = self.function(batch.inputs[name])
            tensor = made if isinstance(made, Tensor) else torch.as_tensor(made)
            if tensor.ndim == 0 or len(tensor) != len(batch):
                raise InputError(
                    f"the transform {self.names[0]} returned {tuple(tensor.shape)} for {len(batch)} images", hint="it must return as many"
                )
            changed[name] = tensor
        return self.replace(batch, changed)


def build_method(method: Method, inputs: Mapping[str, InputSpec]) -> Augmentation:
    """Return the augmentation that a name, a mapping with `type`, an object or a function stands for."""
    if isinstance(method, Augmentation):
        return method
    if callable(method):
        return Called(inputs, method)
    built: Augmentation = family("augmentation").build(method, inputs)
    return built


def checked_probabilities(methods: Sequence[Method], given: Sequence[float] | None) -> list[float]:
    """Return a probability for each method; even ones where none are given.

    Raises:
        InputError: There are no methods, not as many probabilities, one is not within 0 and 1, or they come to more than 1.
    """
    if not methods:
        raise InputError("there are no methods to choose from", hint="name at least one, for example methods: [mixup]")
    if given is None:
        return [1 / len(methods)] * len(methods)
    if len(given) != len(methods):
        raise InputError(f"{len(methods)} methods have {len(given)} probabilities", hint="give one for each method")
    if any(not 0 <= value <= 1 for value in given) or sum(given) > 1 + _ROUNDING:
        raise InputError(
            f"the probabilities {list(given)} come to {sum(given):g}",
            hint="methods exclude each other: each is 0 to 1, and together at most 1",
        )
    return [float(value) for value in given]


def _where(chosen: Tensor, made: Batch, other: Batch, *, listed: Set[str]) -> Batch:
    """Return the rows of one batch where they are chosen, else those of another; what is `listed` may be more in one of them."""

    def pick(name: str, one: Tensor, two: Tensor) -> Tensor:
        if name in listed:
            most = max(one.shape[1], two.shape[1])
            one, two = _padded(one, most), _padded(two, most)
        return one if one is two else torch.where(chosen.to(one.device).view(-1, *[1] * (one.ndim - 1)), one, two)

    inputs = {name: pick(name, tensor, other.inputs[name]) for name, tensor in made.inputs.items()}
    targets = {name: pick(name, tensor, other.targets[name]) for name, tensor in made.targets.items()}
    weight = made.weight if made.weight is None or other.weight is None else pick("", made.weight, other.weight)
    return replace(other, inputs=inputs, targets=targets, weight=weight)


def _padded(tensor: Tensor, most: int) -> Tensor:
    """Return `[b, n, …]` as `[b, most, …]`, zeros behind."""
    missing = most - tensor.shape[1]
    return functional.pad(tensor, [0, 0] * (tensor.ndim - 2) + [0, missing]) if missing else tensor
