"""The contract of what brings a graph to INT8, layer by layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from deepseek.compression.calibration import Calibration

NOTHING: frozenset[str] = frozenset()


class Quantizer(ABC):
    """Makes INT8 graphs of one float32 graph: of all its layers, or of some.

    Attributes:
        method: `static` or `dynamic`.
        layers: The layers that have weights and can be in INT8, in the graph's order, by name.
    """

    method: str
    layers: tuple[str, ...]

    @abstractmethod
    def write(self, folder: Path, *, floats: frozenset[str] = NOTHING) -> None:
        """Write the graph.

        Args:
            folder: Where its files go, under the names that the backend runs.
            floats: The layers that stay in float32.

        Raises:
            ExportError: The library behind it cannot do it.
        """

    @abstractmethod
    def answers(self, calibration: Calibration, *, floats: frozenset[str]) -> list[np.ndarray]:
        """Return what the graph answers, each output over all rows.

        Args:
            calibration: The rows.
            floats: The layers that stay in float32; where those are all of them, the graph is the original.
        """
