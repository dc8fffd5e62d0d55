"""Gradients in two bytes a value."""

from __future__ import annotations

import torch
from torch import Tensor

from deepseek.distributed.exchange.two_phase import TwoPhaseExchange
from deepseek.distributed.ranks import RankContext

_TOP = 15
"""A message's values are brought below 2 ** 15, half of what float16 holds."""


class Bf16Exchange(TwoPhaseExchange):
    """Sends gradients as bfloat16: half the bytes, the range of float32, about 3 decimal digits; sums are made in float32."""

    def __init__(self, context: RankContext, /) -> None:
        super().__init__(context)

    def encode(self, values: Tensor, seed: int) -> Tensor:
        """Round to the nearest."""
        return values.to(torch.bfloat16).view(torch.uint8)

    def decode(self, messages: Tensor, size: int) -> Tensor:
        """Widen."""
        return messages.view(torch.bfloat16).float()


class Fp16Exchange(TwoPhaseExchange):
    """Sends gradients as float16: half the bytes, more than 3 decimal digits; sums are made in float32.

    Each message is multiplied by a power of two that brings its largest value near the top of float16's narrow range, so that nothing
    overflows and small values keep their digits. The power travels with it.
    """

    def __init__(self, context: RankContext, /) -> None:
        super().__init__(context)

    def encode(self, values: Tensor, seed: int) -> Tensor:
        """Scale and round to the nearest."""
        top = values.abs().amax(dim=1, keepdim=True)
        exponent = torch.frexp(torch.where(top.isfinite(), top, 1.0)).exponent.float()
        scale = torch.exp2((exponent - _TOP).clamp(-100, 100))
        scaled = (values / scale).to(torch.float16)
        return torch.cat([scale.view(torch.uint8), scaled.view(torch.uint8)], dim=1)

    def decode(self, messages: Tensor, size: int) -> Tensor:
        """Widen and scale back."""
        scale = messages[:, :4].reshape(-1).view(torch.float32).view(-1, 1)
        return messages[:, 4:].reshape(-1).view(torch.float16).view(-1, size).float() * scale
