"""Steps replayed as one CUDA graph: all kernels of a call are launched at once, instead of one after another from Python.

On a fast device the kernels of a small network are over before the next one is launched. A CUDA graph records the launches of a call once,
with the addresses that they read and write, and repeats them (https://docs.nvidia.com/cuda/cuda-programming-guide, "CUDA Graphs"). Weights
and optimizer state lie where they lay; what changes from call to call is copied to where the recorded call found it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_CALLS = 3
"""Calls made as they are before one is recorded: libraries choose and keep their kernels and workspaces in the first ones."""

Run = Callable[[], object]


class GraphedProgram:
    """A program of tensors in place, recorded after a few calls and replayed from then on.

    Args:
        program: Changes its first tensors in place; returns nothing that is used.
        fixed: How many of the tensors are the same in every call.
        capture: Records what a function launches, without doing it, and returns what repeats it.
        aside: Calls a function where what it leaves behind is not recorded.

    Attributes:
        recorded: Whether calls are replayed by now.
    """

    def __init__(
        self,
        program: Callable[..., object],
        *,
        fixed: int,
        capture: Callable[[Run], Run] | None = None,
        aside: Callable[[Run], None] | None = None,
    ) -> None:
        self._program, self._fixed = program, fixed
        self._capture, self._aside = capture or record, aside or run_aside
        self._calls = 0
        self._given: list[Tensor] = []
        self._replay: Run | None = None

    @property
    def recorded(self) -> bool:
        """Whether calls are replayed by now."""
        return self._replay is not None

    def __call__(self, *tensors: Tensor) -> None:
        """Make a call: as it is at first, then by replaying."""
        if self._calls < WARM_CALLS:
            self._calls += 1
            self._aside(lambda: self._program(*tensors))
            return
        given = tensors[self._fixed :]
        if self._replay is None:
            self._given = [tensor.clone() for tensor in given]
            fixed = tensors[: self._fixed]
            self._replay = self._capture(lambda: self._program(*fixed, *self._given))
        else:
            for kept, tensor in zip(self._given, given, strict=True):
                kept.copy_(tensor, non_blocking=True)
        self._replay()


def record(run: Run) -> Run:
    """Record what a function launches on the current CUDA device and return what replays it."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def run_aside(run: Run) -> None:
    """Call a function on a CUDA stream of its own, after what was launched before and before what is launched next."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        run()
    current.wait_stream(stream)
