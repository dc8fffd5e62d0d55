"""Networks for texts, each under one name, with the settings that matter as flat keys."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from deepseek.fields import Kind
from deepseek.models.encoders.text import Pooling, Scale
from deepseek.models.encoders.text_bag import MOST_BUCKETS, Pool
from deepseek.models.encoders.text_rnn import Cell
from deepseek.models.encoders.text_transformer import Positions
from deepseek.models.layers import Depth, Probability, ResidualEvery, TextActivation, Width
from deepseek.models.network import Network, TrunkSpec
from deepseek.models.presets.base import Graph, Inputs, for_kind


class TextCnnModel(Network):
    """Convolutions over texts, and the greatest value of each filter (Kim, 2014, https://arxiv.org/abs/1408.5882).

    Args:
        token_width: The width of a token's vector.
        windows: How many tokens the filters see, one size for each group of filters.
        filters: How many filters each window size has.
        pool: How the answers over the text become one vector: `max`, `mean`, or `none` for a vector at each token.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        embedding_dropout: The share of the tokens' vectors' values that are dropped, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        token_width: Width = 128,
        windows: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [2, 3, 4],  # noqa: B006 - a recipe's default is read, never written to
        filters: Width = 128,
        pool: Literal["max", "mean", "none"] = "max",
        dropout: Probability = 0.5,
        embedding_dropout: Probability = 0.0,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
        trunk: TrunkSpec = "identity",
    ) -> None:
        text = {
            "type": "text_cnn",
            "token_width": token_width,
            "windows": windows,
            "filters": filters,
            "pool": pool,
            "dropout": dropout,
            "embedding_dropout": embedding_dropout,
            "token_dropout": token_dropout,
            "embedding_scale": embedding_scale,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.TEXT, inputs, text), trunk=trunk)


class TextRnnModel(Network):
    """LSTM or GRU over texts in both directions, with attention over the tokens (Yang et al., 2016, https://aclanthology.org/N16-1174/).

    Args:
        cell: `lstm` or `gru`.
        token_width: The width of a token's vector.
        width: The width of the result; with two directions each has half of it.
        depth: How many layers.
        residual_every: A way round every so many layers, where their width is that of what came in; 0 for none.
        bidirectional: Whether each layer also reads backward.
        pool: How the tokens become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind every layer and behind the pooling, in [0, 1).
        embedding_dropout: The share of the tokens' vectors' values that are dropped, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        cell: Cell = "lstm",
        token_width: Width = 128,
        width: Width = 128,
        depth: Depth = 1,
        residual_every: ResidualEvery = 0,
        bidirectional: bool = True,
        pool: Pooling = "attention",
        dropout: Probability = 0.3,
        embedding_dropout: Probability = 0.0,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
        trunk: TrunkSpec = "identity",
    ) -> None:
        text = {
            "type": "text_rnn",
            "cell": cell,
            "token_width": token_width,
            "width": width,
            "depth": depth,
            "residual_every": residual_every,
            "bidirectional": bidirectional,
            "pool": pool,
            "dropout": dropout,
            "embedding_dropout": embedding_dropout,
            "token_dropout": token_dropout,
            "embedding_scale": embedding_scale,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.TEXT, inputs, text), trunk=trunk)


class TextTransformerModel(Network):
    """A small pre-norm Transformer over texts, trained from scratch (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

    Args:
        width: The width of the tokens; a multiple of `heads`.
        depth: How many blocks.
        heads: How many heads attend side by side.
        expansion: The width inside the feed-forward network as a multiple of `width`.
        activation: `gelu`, `relu`, `silu`, `swiglu`, or an operator.
        positions: How a token knows its place: `rotary`, `learned`, `sinusoidal` or `none`.
        length: How many places `learned` tells apart; tokens behind them share the last.
        pool: How the tokens become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind the embedding, at the end of each branch and at the encoder's, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
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
        trunk: TrunkSpec = "identity",
    ) -> None:
        text = {
            "type": "text_transformer",
            "width": width,
            "depth": depth,
            "heads": heads,
            "expansion": expansion,
            "activation": activation,
            "positions": positions,
            "length": length,
            "pool": pool,
            "dropout": dropout,
            "token_dropout": token_dropout,
            "embedding_scale": embedding_scale,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.TEXT, inputs, text), trunk=trunk)


class TextBagModel(Network):
    """A bag of hashed n-grams: fastText (Joulin et al., 2017, https://arxiv.org/abs/1607.01759).

    Args:
        width: The width of the vectors.
        ngrams: How many tokens the longest n-gram has, 1 to 8; 1 for tokens alone.
        buckets: How many vectors the n-grams of two tokens and more share, 1 to 8,000,000.
        pool: What the sum of the vectors is divided by: their number (`mean`), its square root (`root`), or nothing (`sum`).
        weighted: Whether each token and bucket has a learned weight beside its vector.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the vectors at the start.
        learning_rate_factor: What the learning rate of the vectors is multiplied by.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        width: Width = 64,
        ngrams: Annotated[int, Ge(1), Le(8)] = 2,
        buckets: Annotated[int, Ge(1), Le(MOST_BUCKETS)] = 65_536,
        pool: Pool = "mean",
        weighted: bool = False,
        dropout: Probability = 0.0,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
        learning_rate_factor: Annotated[float, Gt(0.0)] = 1.0,
        trunk: TrunkSpec = "identity",
    ) -> None:
        text = {
            "type": "text_bag",
            "width": width,
            "ngrams": ngrams,
            "buckets": buckets,
            "pool": pool,
            "weighted": weighted,
            "dropout": dropout,
            "token_dropout": token_dropout,
            "embedding_scale": embedding_scale,
            "learning_rate_factor": learning_rate_factor,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.TEXT, inputs, text), trunk=trunk)
