"""Small whole numbers packed into bytes and back, for every width from 2 to 8 bits, without Python per value."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 8
"""Values are packed in planes of which there are eight, so that every width fills whole bytes."""


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes so many values take; `count` is a multiple of 8."""
    return count // GROUP * bits


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack whole numbers below `2 ** bits`.

    The first eighth of the values is one plane, the second the next: planes are shifted and joined as wholes, which a processor does many
    values at a time.

    Args:
        codes: uint8 `[m, n]`, `n` a multiple of 8.
        bits: From 2 to 8.

    Returns:
        uint8 `[m, n * bits / 8]`.
    """
    if bits == GROUP:
        return codes
    planes = codes.view(len(codes), GROUP, -1)
    out = torch.zeros(len(codes), bits, planes.shape[-1], dtype=torch.uint8, device=codes.device)
    for index in range(GROUP):
        byte, offset = divmod(index * bits, 8)
        out[:, byte] |= planes[:, index] << offset
        if offset + bits > 8:
            out[:, byte + 1] |= planes[:, index] >> (8 - offset)
    return out.view(len(codes), -1)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Return what `pack` was given.

    Args:
        packed: uint8 `[m, n * bits / 8]`.
        bits: From 2 to 8.

    Returns:
        uint8 `[m, n]`.
    """
    if bits == GROUP:
        return packed
    planes = packed.view(len(packed), bits, -1)
    out = torch.empty(len(packed), GROUP, planes.shape[-1], dtype=torch.uint8, device=packed.device)
    for index in range(GROUP):
        byte, offset = divmod(index * bits, 8)
        value = planes[:, byte] >> offset
        if offset + bits > 8:
            value = value | planes[:, byte + 1] << (8 - offset)
        out[:, index] = value & ((1 << bits) - 1)
    return out.view(len(packed), -1)
