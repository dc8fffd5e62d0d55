"""The contract of operators: what stands in a network wherever an activation does, or works on a row's vector as it is.

Legend of shapes: `…` any dimensions · `w` width in · `o` width out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class Operator(nn.Module, ABC):
    """Maps the last dimension of a tensor.

    What it computes with is its own affair: operations of PyTorch, which bring their gradients and forms of export with them, or a kernel
    of its own that `tensor_operator` makes known to autograd, to compilers and to exporters.

    Wiring: the width of what comes in, positional-only.

    Attributes:
        width: `o`, the width of what goes out.
        pointwise: Whether each value is mapped by itself, wherever it stands: then it may follow convolutions, too, whose channels are not
            the last dimension. The width stays.
        twice: Whether its gradient has a gradient.
        dtypes: The number formats that it takes; what goes out has the format of what came in.
    """

    width: int
    pointwise: ClassVar[bool] = False
    twice: ClassVar[bool] = True
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

    def __init__(self, width_in: int, /) -> None:
        super().__init__()
        self.width = width_in

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map `[…, w]` to `[…, o]`; a row's answer hangs on that row alone, and nothing that comes in is changed or handed out again."""
