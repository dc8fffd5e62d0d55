"""Networks for tables, each under one name, with the settings that matter as flat keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from deepseek.models.encoders.table import TABLE_KINDS, EmbeddingSpec
from deepseek.models.layers import ActivationName, Depth, NormalizationName, Probability, Width
from deepseek.models.network import TABLE, Network
from deepseek.models.presets.base import Graph, Inputs


class MlpModel(Network):
    """A multi-layer perceptron behind the encoders.

    Args:
        depth: How many blocks.
        width: The width of every block.
        dropout: The share of values dropped after each block, in [0, 1).
        normalization: `none`, `batch`, `layer` or `group` (of 8).
        activation: `relu`, `gelu`, `silu`, or an operator.
        residual_every: A residual connection around every so many blocks; 0 for none.
        embedding: The numeric embedding of the table's numbers.
        category_width: The width of a category's vector, or `auto` by cardinality.
        one_hot: Categories with at most so many codes are one-hot instead.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        depth: Depth = 3,
        width: Width = 256,
        dropout: Probability = 0.1,
        normalization: NormalizationName = "none",
        activation: ActivationName = "relu",
        residual_every: Annotated[int, Ge(0)] = 0,
        embedding: EmbeddingSpec = "identity",
        category_width: Annotated[int, Ge(1)] | Literal["auto"] = 8,
        one_hot: Annotated[int, Ge(0)] = 9,
    ) -> None:
        trunk = {
            "type": "mlp",
            "depth": depth,
            "width": width,
            "dropout": dropout,
            "normalization": normalization,
            "activation": activation,
            "residual_every": residual_every,
        }
        super().__init__(inputs, graph, encoders=_table(inputs, embedding, category_width, one_hot), trunk=trunk)


class ResidualModel(Network):
    """A residual network for tables behind the encoders (Gorishniy et al., 2021, https://arxiv.org/abs/2106.11959).

    Args:
        depth: How many residual blocks.
        width: The width between the blocks.
        expansion: The width inside a block, as a multiple of `width`.
        dropout: The share of values dropped inside a block, in [0, 1).
        residual_dropout: The share of values dropped at a block's end, in [0, 1).
        normalization: `batch`, `layer`, `group` (of 8) or `none`.
        activation: `relu`, `gelu`, `silu`, or an operator.
        embedding: The numeric embedding of the table's numbers.
        category_width: The width of a category's vector, or `auto` by cardinality.
        one_hot: Categories with at most so many codes are one-hot instead.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        depth: Depth = 3,
        width: Width = 256,
        expansion: Annotated[float, Gt(0.0)] = 2.0,
        dropout: Probability = 0.2,
        residual_dropout: Probability = 0.0,
        normalization: NormalizationName = "batch",
        activation: ActivationName = "relu",
        embedding: EmbeddingSpec = "identity",
        category_width: Annotated[int, Ge(1)] | Literal["auto"] = 8,
        one_hot: Annotated[int, Ge(0)] = 9,
    ) -> None:
        trunk = {
            "type": "residual",
            "depth": depth,
            "width": width,
            "expansion": expansion,
            "dropout": dropout,
            "residual_dropout": residual_dropout,
            "normalization": normalization,
            "activation": activation,
        }
        super().__init__(inputs, graph, encoders=_table(inputs, embedding, category_width, one_hot), trunk=trunk)


TABM_EMBEDDING: Any = {"type": "piecewise", "width": 16, "bins": 32, "distinct": 128, "zero_init": True}
"""Found on several tables together; an edge at each of a column's few values is what moves results most."""


class TabMModel(Network):
    """TabM behind the encoders: the strongest default for tables (Gorishniy et al., 2024, https://arxiv.org/abs/2410.24210).

    Args:
        members: How many perceptrons share the weights.
        depth: How many blocks.
        width: The width of every block.
        dropout: The share of values dropped after each block, in [0, 1).
        variant: `full`, `mini` or `packed`; see `TabMTrunk`.
        scale_init: How the members' first scales begin: `signs` or `normal`.
        shared_dropout: Whether all members of a row drop the same values.
        activation: `relu`, `gelu`, `silu`, or an operator.
        embedding: The numeric embedding of the table's numbers.
        category_width: The width of a category's vector, or `auto` by cardinality.
        one_hot: Categories with at most so many codes are one-hot instead.
        embedding_rate: What the learning rate of the embeddings is multiplied by.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        members: Annotated[int, Ge(1)] = 16,
        depth: Depth = 2,
        width: Width = 128,
        dropout: Probability = 0.15,
        variant: Literal["full", "mini", "packed"] = "full",
        scale_init: Literal["signs", "normal"] = "signs",
        shared_dropout: bool = True,
        activation: ActivationName = "relu",
        embedding: EmbeddingSpec = TABM_EMBEDDING,
        category_width: Annotated[int, Ge(1)] | Literal["auto"] = 8,
        one_hot: Annotated[int, Ge(0)] = 100,
        embedding_rate: Annotated[float, Gt(0.0)] = 5.0,
    ) -> None:
        trunk = {
            "type": "tabm",
            "members": members,
            "depth": depth,
            "width": width,
            "dropout": dropout,
            "variant": variant,
            "scale_init": scale_init,
            "shared_dropout": shared_dropout,
            "activation": activation,
        }
        encoders = _table(inputs, embedding, category_width, one_hot)
        for encoder in encoders.values():
            encoder["learning_rate_factor"] = embedding_rate
        super().__init__(inputs, graph, encoders=encoders, trunk=trunk)


def _table(inputs: Inputs, numbers: EmbeddingSpec, category_width: int | str, one_hot: int) -> dict[str, Any]:
    if not any(spec.kind in TABLE_KINDS for spec in inputs.values()):
        return {}
    return {TABLE: {"type": "table", "numbers": numbers, "category_width": category_width, "one_hot": one_hot}}
