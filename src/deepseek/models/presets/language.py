"""Networks of language models, each under one name, with the settings that matter as flat keys."""

from __future__ import annotations

from typing import Annotated, Any

from deepseek.models.encoders.text_decoder import TextDecoderEncoder
from deepseek.models.encoders.transformer_xl import TransformerXlEncoder
from deepseek.models.presets.base import Graph, Inputs
from deepseek.models.sequence import SequenceNetwork
from deepseek.registry import ArgumentsOf

TransformerXlArguments = Annotated[Any, ArgumentsOf(TransformerXlEncoder, without=("pool",))]
TextDecoderArguments = Annotated[Any, ArgumentsOf(TextDecoderEncoder, without=("pool",))]


class TransformerXlModel(SequenceNetwork):
    """Transformer-XL: windows that go on where the one before ended (Dai et al., 2019, https://arxiv.org/abs/1901.02860).

    Its arguments are those of the encoder `transformer_xl`, of which every token is wanted and nothing is pooled.
    """

    def __init__(self, inputs: Inputs, graph: Graph, /, **arguments: TransformerXlArguments) -> None:
        super().__init__(inputs, graph, encoder={"type": "transformer_xl", **arguments})


class TextDecoderModel(SequenceNetwork):
    """A plain decoder, as GPT-2 is one (Radford et al., 2019).

    Its arguments are those of the encoder `text_decoder`, of which every token is wanted and nothing is pooled.
    """

    def __init__(self, inputs: Inputs, graph: Graph, /, **arguments: TextDecoderArguments) -> None:
        super().__init__(inputs, graph, encoder={"type": "text_decoder", **arguments})
