"""Fusion by attention between senses: the tokens of each look at those of all others.

Legend of shapes: `b` rows · `l` tokens of all senses · `w` width · `h` heads · `d` width of a head · `s` senses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

from deepseek.errors import InputError
from deepseek.models.base import Encoded, Encoder, Fusion
from deepseek.models.fusion.parts import Absent, mask_of, mean_of, present
from deepseek.models.layers import Depth, Probability, Width, split_heads


class Attended(NamedTuple):
    """Where each token looked.

    Attributes:
        weights: For each layer `[b, h, l, l + 1]`: rows sum to 1; the last column is nowhere.
        mask: Bool `[b, l]`: the tokens that are real.
        lengths: By sense, how many of the tokens are its own, in order.
    """

    weights: list[Tensor]
    mask: Tensor
    lengths: dict[str, int]


class CrossAttentionFusion(Fusion):
    """Blocks of attention in which the tokens of each sense ask those of all other senses, then the mean over each sense's own tokens.

    Tokens of one sense do not look at each other: that is their encoder's work. Tokens that are not real, and all of a sense that a row
    lacks, are looked at by nobody; a learned place that is always there takes what attention finds no use for, so that a row with one
    sense alone is answered as well. The means stand side by side, with a learned vector for a missing sense.

    To be worth its while it needs encoders that return tokens: `pool: none` for texts and sound, `pooling: none` for images, `tokens: true`
    for tables.

    Source: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; between senses, Tsai et al., "Multimodal Transformer for Unaligned
    Multimodal Language Sequences", ACL 2019, https://arxiv.org/abs/1906.00295.

    Args:
        encoders: The encoders, by name.
        width: The width to which all tokens are brought; a multiple of `heads`. The result is as many times wider as there are senses.
        heads: How many heads attend side by side.
        depth: How many blocks.
        expansion: The width inside the feed-forward network as a multiple of `width`; 0 for none.
        dropout: The share of values dropped at the end of each branch, in [0, 1).

    Raises:
        InputError: `width` is no multiple of `heads`.
    """

    no_decay = frozenset({"kinds"})

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        /,
        *,
        width: Width = 64,
        heads: Annotated[int, Ge(1)] = 4,
        depth: Depth = 1,
        expansion: Annotated[int, Ge(0)] = 2,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__(encoders)
        if width % heads:
            raise InputError(f"width is {width}, which {heads} heads cannot share", hint="give a multiple")
        self._names = list(encoders)
        self.width = width * len(encoders)
        self.bring = nn.ModuleList(nn.Linear(encoder.width, width) for encoder in encoders.values())
        self.kinds = nn.Parameter(torch.empty(len(encoders), width))
        nn.init.normal_(self.kinds, std=0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, expansion=expansion, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.absent = Absent(len(encoders), width)

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return `[b, w]`."""
        x, mask, _ = self._tokens(encoded)
        allowed = self._allowed(encoded, mask)
        for block in self.blocks:
            x = block(x, allowed)
        return self._joined(self.norm(x), encoded)

    def attended(self, encoded: Mapping[str, Encoded]) -> Attended:
        """Return where the tokens of a batch look, by the weights that `forward` uses."""
        x, mask, lengths = self._tokens(encoded)
        allowed, weights = self._allowed(encoded, mask), []
        for block in self.blocks:
            weights.append(cast("_Block", block).weights(x, allowed))
            x = block(x, allowed)
        return Attended(weights, mask, lengths)

    def _tokens(self, encoded: Mapping[str, Encoded]) -> tuple[Tensor, Tensor, dict[str, int]]:
        brought = [self.bring[place](encoded[name].tokens) + self.kinds[place] for place, name in enumerate(self._names)]
        mask = torch.cat([mask_of(encoded[name]) for name in self._names], dim=1)
        x = torch.cat(brought, dim=1)
        return x.masked_fill(~mask.unsqueeze(-1), 0.0), mask, {name: encoded[name].tokens.shape[1] for name in self._names}

    def _allowed(self, encoded: Mapping[str, Encoded], mask: Tensor) -> Tensor:
        """Return bool `[b, l, l]`: which tokens each may look at: real ones of other senses."""
        counts = [encoded[name].tokens.shape[1] for name in self._names]
        sense = torch.cat([torch.full((count,), place, device=mask.device) for place, count in enumerate(counts)])
        return (sense.unsqueeze(1) != sense) & mask.unsqueeze(1)

    def _joined(self, x: Tensor, encoded: Mapping[str, Encoded]) -> Tensor:
        parts = torch.split(x, [encoded[name].tokens.shape[1] for name in self._names], dim=1)
        means = torch.stack([mean_of(Encoded(part, mask_of(encoded[name]))) for part, name in zip(parts, self._names, strict=True)], dim=1)
        joined: Tensor = self.absent(means, present(encoded, self._names))
        return joined.flatten(1)


class _Block(nn.Module):
    """Attention and a feed-forward network, each normalised before it and added behind it."""

    def __init__(self, width: int, heads: int, *, expansion: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        # what is looked at where nothing else is worth it; it says nothing
        self.nowhere = nn.Parameter(torch.zeros(width))
        inner = expansion * width
        self.forth = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)) if expansion else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        weights = self.weights(x, allowed)[..., :-1].to(x.dtype)
        seen = torch.matmul(weights, split_heads(self.value(self.norm(x)), self.heads))
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        return x if self.forth is None else x + self.dropout(self.forth(x))

    def weights(self, x: Tensor, allowed: Tensor) -> Tensor:
        """Return `[b, h, l, l + 1]`, rows summing to 1, the last column being nowhere."""
        normal = self.norm(x)
        query, key = split_heads(self.query(normal), self.heads), split_heads(self.key(normal), self.heads)
        nowhere = self.nowhere.view(1, self.heads, -1, 1).to(query.dtype)
        scores = torch.matmul(query, key.transpose(2, 3)).masked_fill(~allowed.unsqueeze(1), -torch.inf)
        scores = torch.cat([scores, torch.matmul(query, nowhere)], dim=-1) / math.sqrt(query.shape[-1])
        return scores.float().softmax(dim=-1)
