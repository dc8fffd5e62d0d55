"""Networks for images, each under one name, with the settings that matter as flat keys."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from deepseek.fields import Kind
from deepseek.models.layers import ActivationName, ConvolutionNormalization, Probability, Width
from deepseek.models.network import Network, TrunkSpec
from deepseek.models.presets.base import Graph, Inputs, for_kind


class CnnModel(Network):
    """A compact convolutional network for small images.

    Args:
        channels: The channels of the stem and of each stage after it.
        blocks: The residual blocks of the stem and of each stage, each of two convolutions.
        residual_every: A way round every so many convolutions of the blocks; 0 for none.
        downsample: How a stage halves the image: `pool_first`, `pool_last` or `stride`.
        normalization: `batch`, `group` (8 channels a group), `layer` or `none`.
        activation: `relu`, `gelu`, `silu`, or an operator that is pointwise.
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
        residual_every: Annotated[int, Ge(0)] = 2,
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
            "residual_every": residual_every,
            "downsample": downsample,
            "normalization": normalization,
            "activation": activation,
            "pooling": pooling,
            "dropout": dropout,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.IMAGE, inputs, image), trunk=trunk)


class ResNetModel(Network):
    """ResNet for images (He et al., 2015, https://arxiv.org/abs/1512.03385).

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: `large`, `small`, or `auto` by the image's size.
        normalization: `batch`, `group` (8 channels a group), `layer` or `none`; public weights have `batch`.
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
        normalization: ConvolutionNormalization = "batch",
        pretrained: str | None = None,
        trunk: TrunkSpec = "identity",
    ) -> None:
        image = {"type": "resnet", "depth": depth, "stem": stem, "normalization": normalization, "pretrained": pretrained}
        super().__init__(inputs, graph, encoders=for_kind(Kind.IMAGE, inputs, image), trunk=trunk)


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
        super().__init__(inputs, graph, encoders=for_kind(Kind.IMAGE, inputs, image), trunk=trunk)
