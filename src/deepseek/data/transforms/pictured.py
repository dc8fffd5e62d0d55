"""What transforms of images and volumes have in common: each row is a picture with places, which a mask can belong to.

Legend of shapes: `*space` height and width, or depth, height and width · `c` channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepseek.data.transforms.base import Transform

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

    @abstractmethod
    def lay(self, mask: np.ndarray, *, outside: int, spacing: tuple[float, ...] | None = None) -> np.ndarray:
        """Return a row's mask brought to the network's size as its picture is.

        Args:
            mask: Codes, uint8 `[*space]` of the original size.
            outside: The code of places where the picture has none.
            spacing: The distance between its places, in millimetres, where its file says it.
        """
