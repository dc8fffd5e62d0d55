"""Networks under one name each, with the settings that matter as flat keys.

Each sets the parts of a `Network`; inputs of other kinds than the one it is named for get their default encoders, so that tables and images
can be mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.cnn import ConvolutionNormalization
from deepseek.models.encoders.table import TABLE_KINDS, EmbeddingSpec
from deepseek.models.layers import ActivationName, Depth, NormalizationName, Probability, Width
from deepseek.models.network import TABLE, Network, TrunkSpec

Inputs = Mapping[str, InputSpec]
Graph = Mapping[str, nn.Module]


class MlpModel(Network):
    """A multi-layer perceptron behind the encoders.

    Args:
        depth: How many blocks.
        width: The width of every block.
        dropout: The share of values dropped after each block, in [0, 1).
        normalization: `none`, `batch` or `layer`.
        activation: `relu`, `gelu` or `silu`.
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
        normalization: `batch` or `layer`.
        activation: `relu`, `gelu` or `silu`.
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
        normalization: Literal["batch", "layer"] = "batch",
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
        activation: `relu`, `gelu` or `silu`.
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


class CnnModel(Network):
    """A compact convolutional network for small images.

    Args:
        channels: The channels of the stem and of each stage after it.
        blocks: The residual blocks of the stem and of each stage.
        downsample: How a stage halves the image: `pool_first`, `pool_last` or `stride`.
        normalization: `batch`, `group` or `none`.
        activation: `relu`, `gelu` or `silu`.
        pooling: How the last map becomes a vector: `mean` or `max`.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        channels: Annotated[list[Width], MinLen(1)] = [32, 64, 128, 256],  # noqa: B006 - a recipe's default is read, never written to
        blocks: list[Annotated[int, Ge(0)]] = [0, 1, 0, 1],  # noqa: B006
        downsample: Literal["pool_first", "pool_last", "stride"] = "pool_first",
        normalization: ConvolutionNormalization = "batch",
        activation: ActivationName = "relu",
        pooling: Literal["mean", "max"] = "mean",
        dropout: Probability = 0.0,
        trunk: TrunkSpec = "identity",
    ) -> None:
        image = {
            "type": "cnn",
            "channels": channels,
            "blocks": blocks,
            "downsample": downsample,
            "normalization": normalization,
            "activation": activation,
            "pooling": pooling,
            "dropout": dropout,
        }
        super().__init__(inputs, graph, encoders=_image(inputs, image), trunk=trunk)


class ResNetModel(Network):
    """ResNet for images (He et al., 2015, https://arxiv.org/abs/1512.03385).

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: `large`, `small`, or `auto` by the image's size.
        pretrained: A safetensors file with torchvision's names, or nothing.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        depth: Literal[18, 34, 50, 101, 152] = 18,
        stem: Literal["auto", "large", "small"] = "auto",
        pretrained: str | None = None,
        trunk: TrunkSpec = "identity",
    ) -> None:
        image = {"type": "resnet", "depth": depth, "stem": stem, "pretrained": pretrained}
        super().__init__(inputs, graph, encoders=_image(inputs, image), trunk=trunk)


class EfficientNetModel(Network):
    """EfficientNet for images (Tan and Le, 2019, https://arxiv.org/abs/1905.11946).

    Args:
        width_coefficient: The channels as a multiple of B0's.
        depth_coefficient: The layers of each stage as a multiple of B0's.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        stochastic_depth: The share of rows that leave out the last block while training, in [0, 1).
        pretrained: A safetensors file with torchvision's names, or nothing.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        width_coefficient: Annotated[float, Gt(0.0)] = 1.0,
        depth_coefficient: Annotated[float, Gt(0.0)] = 1.0,
        dropout: Probability = 0.2,
        stochastic_depth: Probability = 0.2,
        pretrained: str | None = None,
        trunk: TrunkSpec = "identity",
    ) -> None:
        image = {
            "type": "efficientnet",
            "width_coefficient": width_coefficient,
            "depth_coefficient": depth_coefficient,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
            "pretrained": pretrained,
        }
        super().__init__(inputs, graph, encoders=_image(inputs, image), trunk=trunk)


def _table(inputs: Inputs, numbers: EmbeddingSpec, category_width: int | str, one_hot: int) -> dict[str, Any]:
    if not any(spec.kind in TABLE_KINDS for spec in inputs.values()):
        return {}
    return {TABLE: {"type": "table", "numbers": numbers, "category_width": category_width, "one_hot": one_hot}}


def _image(inputs: Inputs, encoder: dict[str, Any]) -> dict[str, Any]:
    if not any(spec.kind is Kind.IMAGE for spec in inputs.values()):
        raise InputError(f"the model {encoder['type']!r} without an image among its inputs", hint="take a model for tables, such as 'tabm'")
    return {Kind.IMAGE.value: encoder}
