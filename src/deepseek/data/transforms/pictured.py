"""What transforms of images and volumes have in common: each row is a picture with places, which a mask can belong to.

Legend of shapes: `*space` height and width, or depth, height and width · `c` channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepseek.data.transforms.base import Transform
from deepseek.data.volumes import resampled

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Whole:
    """One row's picture before it is brought to the network's size.

    Attributes:
        values: `[*space, c]`, as the network's input holds it, but in a size of its own.
        size: `*space` as the file has it, which `values` has too unless it was resampled.
        fill: What stands around a picture that is smaller than the network's size.
    """

    values: np.ndarray
    size: tuple[int, ...]
    fill: float


@dataclass(frozen=True)
class Head:
    """What is known of one row's picture before it is decoded.

    Attributes:
        size: `*space` as the file has it.
        own: `*space` as `wholes` yields it: `size`, but where voxels are brought to another distance.
        affine: Where a volume lies in the body, as of `data.volumes.Volume`, where it says so.
    """

    size: tuple[int, ...]
    own: tuple[int, ...]
    affine: np.ndarray | None = None


class PicturedTransform(Transform):
    """A transform whose rows are pictures or volumes; it knows how a mask of the original size comes to the network's size.

    Attributes:
        resizes: Whether a picture as a whole is shrunk or stretched to the network's size; else it is cut and filled up about its centre,
            and may be answered window by window.
    """

    resizes: bool = False

    @property
    @abstractmethod
    def space(self) -> tuple[int, ...]:
        """The network's size: height and width, or depth, height and width; known once it is fitted."""

    @abstractmethod
    def sizes(self, batch: pa.RecordBatch) -> list[tuple[int, ...] | None]:
        """Return each row's original size, as cheaply as the files allow; nothing for one that is missing or cannot be read."""

    @abstractmethod
    def wholes(self, batch: pa.RecordBatch) -> Iterator[Whole]:
        """Yield each row's picture in its own size.

        Raises:
            DataError: One is missing or cannot be read.
        """

    def heads(self, batch: pa.RecordBatch) -> list[Head | None]:
        """Return what is known of each row's picture before it is decoded; nothing for one that is missing or cannot be read."""
        return [None if size is None else Head(size, size) for size in self.sizes(batch)]

    def scaled(self, mask: np.ndarray, size: tuple[int, ...] | None) -> np.ndarray:
        """Return a row's mask in the size that its picture has in `wholes`: each place the nearest one's code.

        Args:
            mask: Codes, uint8 `[*space]` of the original size.
            size: That of its row in `wholes`.
        """
        return mask if size is None or mask.shape == size else resampled(mask, size, nearest=True)

    @abstractmethod
    def lay(self, mask: np.ndarray, *, outside: int) -> np.ndarray:
        """Return a row's mask brought from the size that its picture has in `wholes` to the network's size, as the picture is.

        Args:
            mask: Codes, uint8 `[*space]`, as `scaled` returned it.
            outside: The code of places where the picture has none.
        """

    def is_cut(self, heads: Sequence[Head | None]) -> np.ndarray:
        """Return which rows lose places to the network's size, bool `[rows]`: those that are larger and not resized.

        Args:
            heads: What `heads` says of the rows.
        """
        cut = [one is not None and any(there > wanted for there, wanted in zip(one.own, self.space, strict=True)) for one in heads]
        return np.array(cut, dtype=bool) & (not self.resizes)
