"""The gated linear unit with GELU, which keeps nothing for its backward pass but what came in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.errors import InputError
from deepseek.models.operators.base import Operator
from deepseek.models.operators.tensor import tensor_operator


class GegluOperator(Operator):
    """`gelu(gate) · x` of the two halves of what comes in, so that half of the width goes out.

    Operation by operation, `gelu(gate)` would be kept for the backward pass beside both halves; it is computed again instead, which takes a
    third off what the layer keeps. A compiler decides that for itself, and a program that is exported has no backward pass: both are given
    the plain operations.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020, https://arxiv.org/abs/2002.05202.

    Raises:
        InputError: The width is odd.
    """

    def __init__(self, width_in: int, /) -> None:
        super().__init__(width_in)
        if width_in % 2:
            raise InputError(f"geglu is given {width_in} values, which have no halves", hint="give the layer before it an even width")
        self.width = width_in // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `[…, 2n]` to `[…, n]`."""
        out: Tensor = _plain(x) if torch.compiler.is_compiling() or not x.requires_grad else geglu(x)
        return out


def _plain(x: Tensor) -> Tensor:
    gate, value = x.chunk(2, dim=-1)
    return functional.gelu(gate) * value


def _fake(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG001 - as PyTorch calls it
    ctx.save_for_backward(inputs[0])


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    gate, value = ctx.saved_tensors[0].chunk(2, dim=-1)
    below = 0.5 * (1 + torch.erf(gate * math.sqrt(0.5)))
    slope = below + gate * torch.exp(-0.5 * gate.square()) * (1 / math.sqrt(2 * math.pi))
    return torch.cat((gradient * value * slope, gradient * gate * below), dim=-1)


@tensor_operator("deepseek::geglu", fake=_fake, setup_context=_keep, backward=_backward)
def geglu(x: Tensor) -> Tensor:
    """Return `gelu(gate) · x` of the halves of `[…, 2n]`, gate first.

    Args:
        x: `[…, 2n]`.
    """
    return _plain(x)
