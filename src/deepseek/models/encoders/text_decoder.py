"""A plain decoder: pre-norm blocks of self-attention that look at the tokens before and at none after, as GPT's do.

Legend of shapes: `b` rows · `l` tokens of this window · `m` tokens read before · `w` width · `h` heads · `d` width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded
from deepseek.models.encoders.attention import PreNormBlock, Rotation, later, learned_places, require_heads, shrink_branches, turns
from deepseek.models.encoders.causal import CausalTextEncoder, Past
from deepseek.models.encoders.text import Pooling, Scale, make_pooling, pooled, token_vectors
from deepseek.models.layers import ActivationName, Depth, Probability, QuickDropout, Width


class TextDecoderEncoder(CausalTextEncoder):
    """Pre-norm blocks of causal self-attention and a feed-forward network.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019; rotary positions, Su et al., 2021,
    https://arxiv.org/abs/2104.09864.

    Args:
        width: The width of the tokens; a multiple of `heads`.
        depth: How many blocks.
        heads: How many heads attend side by side; with rotary positions each must have an even width.
        expansion: The width inside the feed-forward network as a multiple of `width`.
        activation: `gelu`, `relu`, `silu`, or an operator.
        positions: How a token knows its place: `rotary`, or `learned`.
        length: The most tokens that are read at once.
        pool: How the tokens become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind the embedding and at the end of each branch, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.

    Raises:
        InputError: `width` is no multiple of `heads`, the heads' width is odd and positions are rotary, or a text is longer than `length`.

    Example:
        >>> from deepseek.fields import Kind
        >>> text = InputSpec("text", Kind.TEXT, ("text",), (), "int32", cardinalities=(50,), ragged=True)
        >>> decoder = TextDecoderEncoder({"text": text}, width=8, depth=2, heads=2, pool="none").eval()
        >>> first, past = decoder.extend(torch.tensor([[5, 6, 7]]), None)
        >>> decoder.extend(torch.tensor([[8]]), past)[0].shape
        torch.Size([1, 1, 8])
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width: Width = 128,
        depth: Depth = 4,
        heads: Annotated[int, Ge(1)] = 4,
        expansion: Annotated[float, Gt(0.0)] = 4.0,
        activation: ActivationName = "gelu",
        positions: Literal["rotary", "learned"] = "rotary",
        length: Annotated[int, Ge(1)] = 512,
        pool: Pooling = "mean",
        dropout: Probability = 0.1,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.02,
    ) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        require_heads(width, heads, rotary=positions == "rotary")
        self.embedding = token_vectors(self.vocabulary_size, width, embedding_scale)
        self.places = learned_places(length, width, embedding_scale) if positions == "learned" else None
        blocks = [CausalBlock(width, heads, expansion=expansion, activation=activation, dropout=dropout) for _ in range(depth)]
        shrink_branches([end for block in blocks for end in (block.attention_out, block.feed_out)])
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.dropout, self.pooling = nn.LayerNorm(width), QuickDropout(dropout), make_pooling(width, pool)
        self.width, self.head_width, self.span = width, width // heads, length
        self.tokens = None if pool == "none" else 1

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled."""
        return pooled(self.pooling, self.extend(ids, None)[0], mask)

    def extend(self, ids: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Read on: return the vectors `[b, l, w]` of further ids `[b, l]`, and every block's keys and values `[b, h, m + l, d]`.

        Raises:
            InputError: With what was read before there are more than `length` tokens.
        """
        before, length = 0 if past is None else past[0].shape[2], ids.shape[1]
        assert self.span is not None
        if not torch.compiler.is_exporting() and before + length > self.span:
            raise InputError(
                f"a text of {before + length} tokens; the decoder reads {self.span} at once",
                hint="raise the model's length, or give shorter texts: max_tokens of the transform text cuts them",
            )
        x = self.embedding(ids)
        rotation = None
        if self.places is not None:
            x = x + self.places(torch.arange(before, before + length, device=ids.device))
        else:
            sin, cos = turns(before + length, self.head_width, x)
            rotation = sin[before:], cos[before:]
        x = self.dropout(x)
        kept: list[Tensor] = []
        for place, block in enumerate(self.blocks):
            x, keys, values = block(x, None if past is None else past[2 * place : 2 * place + 2], rotation)
            kept += [keys, values]
        return self.dropout(self.norm(x)), tuple(kept)


class CausalBlock(PreNormBlock):
    """One pre-norm block: `x + attention(norm(x))` over the tokens up to each, then `x + feed_forward(norm(x))`."""

    def forward(self, x: Tensor, past: tuple[Tensor, ...] | None, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Map `[b, l, w]` to the same shape; return also the keys and values of all tokens so far, `[b, h, m + l, d]`.

        Args:
            x: The window's tokens.
            past: The keys and values of the tokens before; nothing for none.
            rotation: The `turns` of the window's places where positions are rotary.
        """
        queries, keys, values = self.asked(x, rotation)
        if past is None:
            seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        else:
            before = past[0].shape[2]
            keys, values = torch.cat((past[0], keys), dim=2), torch.cat((past[1], values), dim=2)
            mask = ~later(x.shape[1], before, x.device)
            seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.told(x, seen), keys, values
