"""What Transformers over texts share: a pre-norm block, rotary places, and who may be looked at.

Legend of shapes: `b` rows · `l` tokens of this window · `m` tokens read before · `w` width · `h` heads · `d` width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.errors import InputError
from deepseek.models.layers import QuickDropout, TextActivation, make_activation, width_behind

BASE = 10_000.0
Rotation = tuple[Tensor, Tensor]
"""What `rotated` multiplies by: what `turns` returns, or a part of it."""


class PreNormBlock(nn.Module):
    """One block's parts: attention's products and a feed-forward network, each normalised before it and added behind it.

    Args:
        width: `w`.
        heads: `h`.
        expansion: The width inside the feed-forward network as a multiple of `w`; a `swiglu` has two thirds of it.
        activation: `gelu`, `relu`, `silu`, `swiglu`, or an operator.
        dropout: The share dropped at the end of each branch.
    """

    def __init__(self, width: int, heads: int, *, expansion: float, activation: TextActivation, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)  # one product of three times the width instead of three
        self.attention_out = nn.Linear(width, width)
        gated = activation == "swiglu"
        inner = max(8, round(width * expansion * 2 / 3 / 8) * 8) if gated else max(1, round(width * expansion))
        self.feed_in = nn.Linear(width, 2 * inner if gated else inner)
        self.activation = SwiGlu() if gated else make_activation(activation, inner)
        self.feed_out = nn.Linear(width_behind(self.activation, inner), width)
        self.dropout = QuickDropout(dropout)
        # ranks may share out the first by columns and the last by rows, where what lies between goes element by element
        self.column_row_runs = (("feed_in", "activation", "feed_out"),)

    def asked(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `[b, h, l, d]` of the tokens `[b, l, w]`, the first two turned where positions are rotary."""
        rows, length, width = x.shape
        joined = self.queries_keys_values(self.attention_norm(x)).view(rows, length, 3, self.heads, width // self.heads)
        if rotation is None:
            queries, keys, values = joined.unbind(2)
        else:
            (queries, keys), values = rotated(joined[:, :, :2], rotation).unbind(2), joined[:, :, 2]
        return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)

    def told(self, x: Tensor, seen: Tensor) -> Tensor:
        """Add to the tokens `[b, l, w]` what was seen, `[b, h, l, d]`, and then what the feed-forward network makes of them."""
        x = x + self.dropout(self.attention_out(seen.transpose(1, 2).reshape(x.shape)))
        out: Tensor = x + self.dropout(self.feed_out(self.activation(self.feed_in(self.feed_norm(x)))))
        return out


@torch.no_grad()
def shrink_branches(ends: Sequence[nn.Linear]) -> None:
    """Divide what pre-norm branches say at the start by the root of their number, so that their sum is as large however many there are.

    Otherwise the sum grows with the depth and drowns what the tokens themselves say: decoders of 12 blocks learn much more slowly. Source:
    Radford et al., "Language models are unsupervised multitask learners", 2019, section 2.3.

    Args:
        ends: The last layer of every branch.
    """
    for end in ends:
        for parameter in end.parameters():
            parameter.mul_(len(ends) ** -0.5)


class SwiGlu(nn.Module):
    """`silu(gate) · x` of the two halves of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[…, 2n]` to `[…, n]`."""
        gate, value = x.chunk(2, dim=-1)
        return functional.silu(gate) * value


def require_heads(width: int, heads: int, *, rotary: bool) -> None:
    """Check that heads can share a width, each with an even part of it where positions are rotary.

    Raises:
        InputError: They cannot.
    """
    if width % heads or (rotary and width // heads % 2):
        even = " of even width, as rotary positions need it" if rotary else ""
        raise InputError(f"width is {width}, which is not {heads} heads{even}", hint="give a width that is a multiple of 2 · heads")


def learned_places(count: int, width: int, scale: float) -> nn.Embedding:
    """Return a vector for each of so many places, normal with the deviation `scale`."""
    places = nn.Embedding(count, width)
    nn.init.normal_(places.weight, std=scale)
    return places


def angles(length: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine `[l, ceil(width / 2)]` of every place's angles, from one radian a place down to a ten-thousandth."""
    exponent = torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width
    turn = torch.outer(torch.arange(length, device=like.device, dtype=torch.float32), BASE**-exponent)
    return turn.sin(), turn.cos()


def turns(length: int, width: int, like: Tensor) -> Rotation:
    """Return what `rotated` multiplies by, `[l, 1, 1, width]` each: sines, negative for the first half of a head, and cosines."""
    sin, cos = angles(length, width, like)
    return torch.cat((-sin, sin), dim=-1)[:, None, None, :], torch.cat((cos, cos), dim=-1)[:, None, None, :]


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair of entries of `[b, l, 2, h, d]` by its place's angle; entry `i` is paired with entry `i + d / 2`."""
    sin, cos = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    # one whole multiply-add instead of four half products and two sums: a third less time
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)


def later(length: int, before: int, device: torch.device) -> Tensor:
    """Return bool `[l, m + l]`: true where a place lies ahead of a window's token."""
    place = torch.arange(before + length, device=device)
    return place[None, :] > place[before:, None]
