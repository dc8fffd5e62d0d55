"""The contract of every backend: what computes a bundle's answers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from deepseek.artifacts import Bundle


class Backend(ABC):
    """Runs the network of a bundle, its graph transforms and its decoding included.

    A backend may be asked by several threads at once.

    Args:
        bundle: The opened bundle.

    Attributes:
        files: The files of a bundle that the backend can run; one of them has to be there.
        library: What has to be importable.
    """

    files: ClassVar[tuple[str, ...]]
    library: ClassVar[str]

    @abstractmethod
    def __init__(self, bundle: Bundle, /) -> None: ...

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch of prepared arrays, by name, each with as many rows as the batch."""


def told_threads() -> int | None:
    """Return how many threads the environment says a process may compute with (`OMP_NUM_THREADS`), or nothing where it does not."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else None


def without_empty(run: Callable[[Mapping[str, np.ndarray]], list[np.ndarray]], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return what a graph answers, also for no rows: it is then given one row of zeros, whose answer is thrown away.

    A batched product over no rows divides by zero inside of ONNX Runtime 1.31, which ends the whole process.
    """
    if len(next(iter(inputs.values()))):
        return run(inputs)
    row = {name: np.zeros((1, *(max(size, 1) for size in array.shape[1:])), array.dtype) for name, array in inputs.items()}
    return [array[:0] for array in run(row)]
