"""The contract of augmentations that move pixels: boxes, masks and volumes follow their image.

Legend of shapes: `b` rows · `d`, `h`, `w` depth, height and width · `c` channels · `n` boxes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.augment.warp import Padding, warp
from deepseek.data.batch import Batch
from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind

LEAST_BOX_PIXELS = 1.0
_PLACED = (Kind.IMAGE, Kind.MASK, Kind.VOLUME)


class Geometric(Augmentation):
    """A random map of the plane, one for each row; everything in the row that has a place moves with the image.

    Images `[b, h, w, c]` are resampled once, masks `[b, h, w]` or `[b, h, w, 1]` of classes take the nearest pixel, volumes `[b, d, h, w,
    c]` and their masks `[b, d, h, w]` move alike in each slice, and boxes `[b, n, 4]` (left, top, right, bottom, in pixels of the row's
    first image) become the smallest upright box around what they held, cut at the image's border. A box that is left with less than a pixel
    in height or width is gone: its place in `NAME_mask` `[b, n]` becomes false. They are looked for among the batch's inputs and its
    targets, under the names that their descriptions have.

    Args:
        inputs: The batch's inputs.

    Attributes:
        padding: What moves in from outside: `zero`, the nearest pixel of the `edge`, or the image's mirror (`reflect`); none where nothing
            does.
        resamples: Whether pixels are interpolated; such maps are multiplied with their neighbours into one (`Composed`).
    """

    padding: Padding | None = None
    resamples: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__(inputs)
        self.require("images", *_PLACED)

    @abstractmethod
    def draws(self, draw: Draw, rows: int) -> Any:
        """Return the random numbers of the rows, as `maps` takes them."""

    @abstractmethod
    def maps(self, drawn: Any, height: int, width: int) -> Tensor:
        """Return where a place `(x, y, 1)` of each row's image goes, in pixels, float64 `[b, 3, 3]`; pixel `i` covers `[i, i + 1)`.

        Args:
            drawn: What `draws` returned.
            height: The image's height in pixels.
            width: Its width.
        """

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with everything moved that has a place."""
        return self.moved(batch, self.draws(draw, len(batch)))

    def moved(self, batch: Batch, drawn: Any) -> Batch:
        """Return the batch moved by the maps for some random numbers.

        Args:
            batch: The rows.
            drawn: What `draws` returned for them.
        """
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        size: tuple[int, int] | None = None
        for name in self.of_kind(*_PLACED):
            kind, held = self.inputs[name].kind, _holder(name, inputs, targets)
            if held is not None:
                outside = self.padding == "zero" and held is targets and kind is Kind.MASK and held[name].dtype == torch.uint8
                # a mask's 0 is a class, and what moves in from outside of the picture is of none: complements have zeros for 255
                held[name] = 255 - self._moved(255 - held[name], drawn, kind) if outside else self._moved(held[name], drawn, kind)
                size = size or _size(held[name], kind)
        for name in self.of_kind(Kind.BOXES):
            held = _holder(name, inputs, targets)
            if held is not None and size is not None:
                matrix = self.maps(drawn, *size).to(held[name].device, torch.float32)
                held[name], held[mask_name(name)] = move_boxes(held[name], matrix, size, valid=held.get(mask_name(name)))
        return replace(batch, inputs=inputs, targets=targets if any(name in targets for name in self.inputs) else batch.targets)

    def _moved(self, tensor: Tensor, drawn: Any, kind: Kind) -> Tensor:
        if kind is Kind.VOLUME:
            rows, depth, height, width, channels = tensor.shape
            flat = tensor.permute(0, 2, 3, 1, 4).reshape(rows, height, width, depth * channels)
            made = self.pixels(flat, drawn, nearest=False).reshape(rows, height, width, depth, channels)
            return made.permute(0, 3, 1, 2, 4).contiguous()
        if kind is Kind.MASK and is_volume_mask(tensor):  # its slices move alike, as those of the volume do
            flat = tensor.reshape(tensor.shape[:4]).permute(0, 2, 3, 1)
            return self.pixels(flat, drawn, nearest=True).permute(0, 3, 1, 2).reshape(tensor.shape)
        if kind is Kind.MASK and tensor.ndim == 3:
            return self.pixels(tensor[..., None], drawn, nearest=True)[..., 0]
        return self.pixels(tensor, drawn, nearest=kind is Kind.MASK)

    def pixels(self, x: Tensor, drawn: Any, *, nearest: bool) -> Tensor:
        """Return images `[b, h, w, c]` moved: by resampling, unless a subclass has an exact way.

        Args:
            x: The images, or masks, or volumes whose slices are channels.
            drawn: What `draws` returned.
            nearest: Whether the nearest pixel is taken as it is.
        """
        back = torch.linalg.inv(self.maps(drawn, x.shape[1], x.shape[2]))
        return warp(x, back[:, :2], padding=self.padding or "edge", nearest=nearest)


class RandomMap(Geometric):
    """A map that follows from a few random numbers: a subclass says how, in `matrix`.

    Args:
        inputs: The batch's inputs.
        probability: How likely a row is changed.
        padding: What moves in from outside; nothing where nothing does.

    Attributes:
        numbers: How many random numbers a row needs, beside the one for `probability`.
    """

    numbers: ClassVar[int]

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: float = 1.0, padding: Padding | None = None) -> None:
        super().__init__(inputs)
        self.probability, self.padding = probability, padding

    def draws(self, draw: Draw, rows: int) -> Tensor:
        """Return the random numbers of the rows, `[b, 1 + numbers]`."""
        return draw.uniform(rows, 1 + self.numbers)

    @abstractmethod
    def matrix(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return where a place `(x, y, 1)` of an image goes if the row is changed, in pixels, float64 `[b, 3, 3]`.

        Args:
            drawn: float64 `[b, numbers]`, in `[0, 1)`.
            height: The image's height in pixels.
            width: Its width.
        """

    def maps(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return the maps, float64 `[b, 3, 3]`: those of rows that are not chosen move nothing."""
        chosen = drawn[:, 0] < self.probability
        found = self.matrix(drawn[:, 1:].double(), height, width)
        return torch.where(chosen[:, None, None], found, torch.eye(3, dtype=torch.float64))


class Composed(Geometric):
    """Several maps, one after the other, as one: pixels are interpolated once, so that images stay sharp and cost one pass.

    What a first map moves out of the picture and a second back into it is still there, where one after the other would find it lost.

    Args:
        inputs: The batch's inputs.
        parts: The maps, the first first.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], parts: Sequence[Geometric], /) -> None:
        super().__init__(inputs)
        self.parts = tuple(parts)
        self.padding = next((part.padding for part in parts if part.padding), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(name for part in self.parts for name in part.names)

    def draws(self, draw: Draw, rows: int) -> list[Any]:
        """Return each part's numbers, drawn in the order in which the parts alone would draw them."""
        return [part.draws(draw, rows) for part in self.parts]

    def maps(self, drawn: list[Any], height: int, width: int) -> Tensor:
        """Return the parts' maps multiplied, float64 `[b, 3, 3]`."""
        whole, *others = [part.maps(numbers, height, width) for part, numbers in zip(self.parts, drawn, strict=True)]
        for other in others:
            whole = other @ whole
        return whole


def composed(parts: Sequence[Augmentation]) -> list[Augmentation]:
    """Return augmentations with neighbours that move pixels multiplied into one, where any of them interpolates and their paddings agree.

    Args:
        parts: In order.
    """
    made: list[Augmentation] = []
    group: list[Geometric] = []

    def close() -> None:
        if len(group) > 1 and any(part.resamples for part in group):
            made.append(Composed(group[0].inputs, list(group)))
        else:
            made.extend(group)
        group.clear()

    for part in parts:
        if not isinstance(part, Geometric):
            close()
            made.append(part)
            continue
        if part.padding and any(other.padding not in (None, part.padding) for other in group):
            close()
        group.append(part)
    close()
    return made


def move_boxes(boxes: Tensor, matrix: Tensor, size: tuple[int, int], *, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return boxes as a map moves them, cut at the image's border, and which of them are still there.

    Args:
        boxes: Left, top, right and bottom in pixels, `[b, n, 4]`; what stands behind them in the last dimension (a class) stays.
        matrix: Where a place `(x, y, 1)` goes, `[b, 3, 3]`.
        size: Height and width of the image.
        valid: Which boxes there were, bool `[b, n]`; all where not given.

    Returns:
        The boxes, of the shape and in the type given, zeros where there is none; and bool `[b, n]`, false for those less than a pixel high
        or wide.
    """
    wide = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    corners = torch.stack([wide[..., [0, 1]], wide[..., [2, 1]], wide[..., [0, 3]], wide[..., [2, 3]]], dim=2)
    placed = torch.cat([corners, torch.ones_like(corners[..., :1])], dim=-1) @ matrix[:, None].to(wide.dtype).transpose(-1, -2)
    low, high = placed[..., :2].amin(dim=2), placed[..., :2].amax(dim=2)
    limit = torch.tensor([size[1], size[0]], dtype=wide.dtype, device=wide.device)
    low, high = low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)
    kept = ((high - low) >= LEAST_BOX_PIXELS).all(dim=-1)
    if valid is not None:
        kept = kept & valid.bool()
    return (torch.cat([low, high, wide[..., 4:]], dim=-1) * kept[..., None]).to(boxes.dtype), kept


def is_volume_mask(tensor: Tensor) -> bool:
    """Whether a mask is that of a volume, `[b, d, h, w]` or `[b, d, h, w, 1]`, and not `[b, h, w]` or `[b, h, w, 1]` of an image."""
    return tensor.ndim == 5 or (tensor.ndim == 4 and tensor.shape[3] > 1)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Return the maps that move by so many pixels, float64 `[b, 3, 3]`, for `[b]` each."""
    matrix = torch.eye(3, dtype=torch.float64).repeat(len(x), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def _holder(name: str, *places: dict[str, Tensor]) -> dict[str, Tensor] | None:
    return next((place for place in places if name in place), None)


def _size(tensor: Tensor, kind: Kind) -> tuple[int, int]:
    first = 2 if kind is Kind.VOLUME or (kind is Kind.MASK and is_volume_mask(tensor)) else 1
    return tensor.shape[first], tensor.shape[first + 1]
