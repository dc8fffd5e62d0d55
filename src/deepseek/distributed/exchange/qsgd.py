"""Gradients in a few bits a value, rounded at random so that their mean is right."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional

from deepseek.distributed.exchange.base import TINY
from deepseek.distributed.exchange.packing import pack, packed_bytes, unpack
from deepseek.distributed.exchange.two_phase import TwoPhaseExchange
from deepseek.distributed.ranks import RankContext
from deepseek.errors import InputError

_NORM_BYTES = 4
_LEAST_ROW = 8
"""The fewest values that share a norm."""


class QsgdExchange(TwoPhaseExchange):
    """Sends gradients in 2 to 8 bits a value: QSGD (Alistarh et al., 2017, https://arxiv.org/abs/1610.02132).

    Values are taken in rows of 512. Each is divided by the row's norm and rounded, up or down at random, to one of `2 ** bits - 1` evenly
    spaced levels from -1 to 1, so that its expectation is the value itself. A value is off by less than one level of its row. Random
    numbers follow from the run's seed, the step, the rank and the bucket.

    With 2 and 3 bits the noise is larger than most gradients. With `error_feedback` values are rounded to the nearest level instead, and
    what that has lost is sent later: less must be lost than was to be sent, or what is kept grows without end.

    Args:
        bits: Bits of a value.
        norm: What a row is divided by: `max`, its largest absolute value, which wastes no level, or `l2`, its Euclidean norm, for which the
            paper's bounds are stated.
        bucket: How many values share a norm, which costs 4 bytes.
        error_feedback: Whether to round to the nearest, and add what that has lost to what is sent in the next step (Karimireddy et al.,
            2019, https://arxiv.org/abs/1901.09847).

    Raises:
        InputError: With `error_feedback` and `l2`, rows whose largest value may be less than half a level: nothing of them would ever be
            sent. So it is where `bucket` is `4 · levels²` or more.
    """

    def __init__(
        self,
        context: RankContext,
        /,
        *,
        bits: Annotated[int, Ge(2), Le(8)] = 6,
        norm: Literal["max", "l2"] = "max",
        bucket: Annotated[int, Ge(_LEAST_ROW), Le(65536)] = 512,
        error_feedback: bool = False,
    ) -> None:
        super().__init__(context, error_feedback=error_feedback)
        most = 4 * ((1 << (bits - 1)) - 1) ** 2 - 1  # half a level rounds to 0, too
        if error_feedback and norm == "l2" and bucket > most:
            raise InputError(
                f"communication qsgd with error_feedback, norm: l2 and {bits} bits may round all of a row of {bucket} to 0, and so send "
                "nothing for ever",
                hint=f"take norm: max, more bits, or a bucket of at most {most}" if most >= _LEAST_ROW else "take norm: max, or more bits",
            )
        self.bits, self.norm, self.bucket = bits, norm, bucket
        self.levels = (1 << (bits - 1)) - 1
        self._generator: torch.Generator | None = None

    def encode(self, values: Tensor, seed: int) -> Tensor:
        """Round and pack."""
        rows = self._rows(values)
        norms = rows.abs().amax(dim=2) if self.norm == "max" else torch.linalg.vector_norm(rows, dim=2)
        place = rows / norms.clamp_min(TINY).unsqueeze(2) * self.levels
        if self.error_feedback:
            place.round_()
        else:
            place.add_(torch.rand(place.shape, generator=self._seeded(values.device, seed), device=values.device)).floor_()
        # whatever a row with infinite values gives here, its norm makes it NaN again
        codes = place.nan_to_num_(0.0).clamp_(-self.levels, self.levels).add_(self.levels).to(torch.uint8)
        packed = pack(codes.flatten(1)[:, : values.shape[1]].contiguous(), self.bits)
        return torch.cat([norms.view(torch.uint8), packed], dim=1)

    def decode(self, messages: Tensor, size: int) -> Tensor:
        """Unpack and multiply by the norms."""
        head = -(-size // self.bucket) * _NORM_BYTES
        assert messages.shape[1] == head + packed_bytes(size, self.bits)
        norms = messages[:, :head].reshape(-1).view(torch.float32).view(len(messages), -1)
        codes = unpack(messages[:, head:].contiguous(), self.bits).float() - self.levels
        return (self._rows(codes) * (norms / self.levels).unsqueeze(2)).flatten(1)[:, :size].contiguous()

    def _rows(self, values: Tensor) -> Tensor:
        """Return the values in rows that share a norm, the last one padded: `[m, rows, bucket]`."""
        return functional.pad(values, (0, -values.shape[1] % self.bucket)).view(len(values), -1, self.bucket)

    def _seeded(self, device: torch.device, seed: int) -> torch.Generator:
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
        return self._generator.manual_seed(seed)
