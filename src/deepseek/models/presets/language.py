"""Networks of language models, each under one name, with the settings that matter as flat keys."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from deepseek.models.encoders.text import Scale
from deepseek.models.layers import ActivationName, Depth, Probability, Width
from deepseek.models.presets.base import Graph, Inputs
from deepseek.models.sequence import SequenceNetwork


class TransformerXlModel(SequenceNetwork):
    """Transformer-XL: windows that go on where the one before ended (Dai et al., 2019, https://arxiv.org/abs/1901.02860).

    Args:
        width: The width of the tokens; a multiple of `heads`, and even.
        depth: How many layers.
        heads: How many heads attend side by side.
        expansion: The width inside the feed-forward network as a multiple of `width`.
        activation: `gelu`, `relu`, `silu`, or an operator.
        mem_len: How many tokens every layer remembers; 0 for none.
        norm: Whether layers are normalised before each branch (`pre`) or behind it (`post`, as published).
        dropout: The share of values dropped behind the embedding and at the end of each branch, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        width: Width = 128,
        depth: Depth = 4,
        heads: Annotated[int, Ge(1)] = 4,
        expansion: Annotated[float, Gt(0.0)] = 4.0,
        activation: ActivationName = "gelu",
        mem_len: Annotated[int, Ge(0)] = 512,
        norm: Literal["pre", "post"] = "pre",
        dropout: Probability = 0.1,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.02,
    ) -> None:
        encoder = {
            "type": "transformer_xl",
            "width": width,
            "depth": depth,
            "heads": heads,
            "expansion": expansion,
            "activation": activation,
            "mem_len": mem_len,
            "norm": norm,
            "dropout": dropout,
            "token_dropout": token_dropout,
            "embedding_scale": embedding_scale,
        }
        super().__init__(inputs, graph, encoder=encoder)


class TextDecoderModel(SequenceNetwork):
    """A plain decoder, as GPT-2 is one (Radford et al., 2019).

    Args:
        width: The width of the tokens; a multiple of `heads`.
        depth: How many blocks.
        heads: How many heads attend side by side; with rotary positions each must have an even width.
        expansion: The width inside the feed-forward network as a multiple of `width`.
        activation: `gelu`, `relu`, `silu`, or an operator.
        positions: How a token knows its place: `rotary`, or `learned`.
        length: The most tokens that are read at once.
        dropout: The share of values dropped behind the embedding and at the end of each branch, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        width: Width = 128,
        depth: Depth = 4,
        heads: Annotated[int, Ge(1)] = 4,
        expansion: Annotated[float, Gt(0.0)] = 4.0,
        activation: ActivationName = "gelu",
        positions: Literal["rotary", "learned"] = "rotary",
        length: Annotated[int, Ge(1)] = 512,
        dropout: Probability = 0.1,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.02,
    ) -> None:
        encoder = {
            "type": "text_decoder",
            "width": width,
            "depth": depth,
            "heads": heads,
            "expansion": expansion,
            "activation": activation,
            "positions": positions,
            "length": length,
            "dropout": dropout,
            "token_dropout": token_dropout,
            "embedding_scale": embedding_scale,
        }
        super().__init__(inputs, graph, encoder=encoder)
