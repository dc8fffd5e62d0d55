"""A small Transformer encoder for texts, trained from scratch.

Legend of shapes: `b` rows · `l` tokens · `w` width · `h` heads · `d` width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.models.base import Encoded
from deepseek.models.encoders.attention import PreNormBlock, Rotation, angles, learned_places, require_heads, turns
from deepseek.models.encoders.text import Pooling, Scale, TextEncoder, make_pooling, pooled, token_vectors
from deepseek.models.layers import Depth, Probability, QuickDropout, TextActivation, Width

Positions = Literal["rotary", "learned", "sinusoidal", "none"]
LONGEST_MATRIX = 1024
"""Tokens up to which half-precision attention on a processor without matrix units keeps the whole matrix of scores."""


class TextTransformerEncoder(TextEncoder):
    """Pre-norm blocks of self-attention and a feed-forward network.

    Source: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; normalisation before each branch, Xiong et al., 2020,
    https://arxiv.org/abs/2002.04745; SwiGLU, Shazeer, 2020, https://arxiv.org/abs/2002.05202.

    Args:
        width: The width of the tokens and of the result; a multiple of `heads`.
        depth: How many blocks.
        heads: How many heads attend side by side; with rotary positions each must have an even width.
        expansion: The width inside the feed-forward network as a multiple of `width`; a `swiglu` has two thirds of it, so that it costs
            the same.
        activation: `gelu`, `relu`, `silu`, `swiglu`, or an operator.
        positions: How a token knows its place: `rotary` (Su et al., 2021, https://arxiv.org/abs/2104.09864: any length), `learned`,
            `sinusoidal`, or `none`.
        length: How many places `learned` tells apart; tokens behind them share the last.
        pool: How the tokens become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind the embedding, at the end of each branch and at the encoder's, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.

    Raises:
        InputError: `width` is no multiple of `heads`, or the heads' width is odd and positions are rotary.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width: Width = 128,
        depth: Depth = 2,
        heads: Annotated[int, Ge(1)] = 4,
        expansion: Annotated[float, Gt(0.0)] = 4.0,
        activation: TextActivation = "gelu",
        positions: Positions = "rotary",
        length: Annotated[int, Ge(1)] = 512,
        pool: Pooling = "attention",
        dropout: Probability = 0.1,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
    ) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        require_heads(width, heads, rotary=positions == "rotary")
        self.embedding = token_vectors(self.vocabulary_size, width, embedding_scale)
        self.places = learned_places(length, width, embedding_scale) if positions == "learned" else None
        self.positions, self.embedding_scale, self.head_width = positions, embedding_scale, width // heads
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, expansion=expansion, activation=activation, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = QuickDropout(dropout)
        self.pooling = make_pooling(width, pool)
        self.width = width
        self.tokens = None if pool == "none" else 1

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled."""
        x = self.embedding(ids)
        length, rotation = ids.shape[1], None
        if self.places is not None:
            x = x + self.places(torch.arange(length, device=ids.device).clamp(max=self.places.num_embeddings - 1))
        elif self.positions == "sinusoidal":
            # as large as the vectors beside them: at full size they would drown what a token says
            x = x + self.embedding_scale * math.sqrt(2) * torch.cat(angles(length, self.width, x), dim=-1)[:, : self.width]
        elif self.positions == "rotary":
            rotation = turns(length, self.head_width, x)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, mask[:, None, None, :], rotation)
        encoded = pooled(self.pooling, self.norm(x), mask)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)


class TransformerBlock(PreNormBlock):
    """One pre-norm block: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`."""

    def forward(self, x: Tensor, mask: Tensor, rotation: Rotation | None) -> Tensor:
        """Map `[b, l, w]` to the same shape.

        Args:
            x: The tokens.
            mask: Boolean `[b, 1, 1, l]`, true where a token may be looked at.
            rotation: The `turns` of rotary positions, or nothing.
        """
        return self.told(x, attention(*self.asked(x, rotation), mask=mask))


def attention(queries: Tensor, keys: Tensor, values: Tensor, *, mask: Tensor) -> Tensor:
    """Return `softmax(q kᵀ / √d) v` of `[b, h, l, d]`, over the places where the mask `[b, 1, 1, l]` is true.

    PyTorch's fused kernel, but for half precision on a processor without matrix units: there its blocked products cost three times as much
    as two plain ones for texts of up to about a thousand tokens. Which it is hangs on what the processor has, never on a clock: a resumed
    run must take the same way.
    """
    if queries.dtype in {torch.bfloat16, torch.float16} and queries.shape[2] <= LONGEST_MATRIX and _plain_products_pay(queries.device):
        scores = torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-1, -2))
        return torch.matmul(scores.masked_fill(~mask, -torch.inf).softmax(dim=-1), values)
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


@cache
def _plain_products_pay(device: torch.device) -> bool:
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # not in torch 2.8
    return device.type == "cpu" and not flags.get("amx_bf16")
