"""Networks for sound, each under one name, with the settings that matter as flat keys."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, MinLen

from deepseek.fields import Kind
from deepseek.models.encoders.text import Pooling
from deepseek.models.layers import Depth, Probability, Width
from deepseek.models.network import Network, TrunkSpec
from deepseek.models.presets.base import Graph, Inputs, for_kind


class AudioCnnModel(Network):
    """A compact convolutional network for spectrograms, with attention over time.

    Args:
        channels: The channels of the stem and of each stage after it.
        blocks: The residual blocks of the stem and of each stage.
        halve_time: How many of the stages halve the time; all halve the bands.
        pool: How the tokens over time become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        channels: Annotated[list[Width], MinLen(1)] = [24, 48, 96, 128],  # noqa: B006 - a recipe's default is read, never written to
        blocks: list[Annotated[int, Ge(0)]] = [0, 1, 0, 1],  # noqa: B006
        halve_time: Annotated[int, Ge(0)] = 2,
        pool: Pooling = "attention",
        dropout: Probability = 0.2,
        trunk: TrunkSpec = "identity",
    ) -> None:
        audio = {
            "type": "audio_cnn",
            "channels": channels,
            "blocks": blocks,
            "halve_time": halve_time,
            "pool": pool,
            "dropout": dropout,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.AUDIO, inputs, audio), trunk=trunk)


class AudioRnnModel(Network):
    """A deep residual LSTM over spectrograms (Kim et al., 2017, https://arxiv.org/abs/1701.03360).

    Args:
        width: The width of every layer.
        depth: How many layers.
        residual: Whether layers have shortcuts behind their cells.
        layer_norm: Whether gates and cells are normalised.
        stride: How many frames are read at each step.
        pool: How the tokens over time become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind every layer and behind the pooling, in [0, 1).
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        width: Width = 128,
        depth: Depth = 3,
        residual: bool = True,
        layer_norm: bool = True,
        stride: Annotated[int, Ge(1)] = 2,
        pool: Pooling = "attention",
        dropout: Probability = 0.2,
        trunk: TrunkSpec = "identity",
    ) -> None:
        audio = {
            "type": "audio_rnn",
            "width": width,
            "depth": depth,
            "residual": residual,
            "layer_norm": layer_norm,
            "stride": stride,
            "pool": pool,
            "dropout": dropout,
        }
        super().__init__(inputs, graph, encoders=for_kind(Kind.AUDIO, inputs, audio), trunk=trunk)
