"""The contract of every backend: what computes a bundle's answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from deepseek.artifacts import Bundle


class Backend(ABC):
    """Runs the network of a bundle, its graph transforms and its decoding included.

    Args:
        bundle: The opened bundle.
    """

    @abstractmethod
    def __init__(self, bundle: Bundle, /) -> None: ...

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch of prepared arrays, by name, each with as many rows as the batch."""
