"""Networks that begin with public weights, each under one name."""

from __future__ import annotations

from typing import Any

from deepseek.fields import Kind
from deepseek.models.encoders.text import Pooling
from deepseek.models.layers import Probability
from deepseek.models.network import Network, TrunkSpec
from deepseek.models.presets.base import Graph, Inputs, for_kind


class PretrainedTextModel(Network):
    """A pre-trained Transformer over texts (Devlin et al., 2019, https://arxiv.org/abs/1810.04805).

    Args:
        pretrained: The checkpoint: a folder, or `owner/name` on the Hugging Face Hub, with `@revision` for one of its versions.
        pool: How the tokens become one vector: `mean`, `first` (BERT's `[CLS]`), `max`, `attention`, or `none` for all of them.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        config: The network's own configuration, where its weights come from elsewhere; a bundle has it.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        pretrained: str | None = None,
        pool: Pooling = "mean",
        dropout: Probability = 0.1,
        config: dict[str, Any] | None = None,
        trunk: TrunkSpec = "identity",
    ) -> None:
        text = {"type": "text_pretrained", "pretrained": pretrained, "pool": pool, "dropout": dropout, "config": config}
        super().__init__(inputs, graph, encoders=for_kind(Kind.TEXT, inputs, text), trunk=trunk)


class TimmModel(Network):
    """Any image network of timm, by name (Wightman, 2019, https://github.com/huggingface/pytorch-image-models).

    Args:
        architecture: The network's name in timm, such as `resnet50`.
        pretrained: A safetensors file, a folder, `owner/name` on the Hugging Face Hub, true for the weights that timm names, or nothing.
        dropout: The share of the pooled values that are dropped, in [0, 1).
        trunk: What works on the vectors of all inputs.
    """

    def __init__(
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        architecture: str,
        pretrained: str | bool | None = None,
        dropout: Probability = 0.0,
        trunk: TrunkSpec = "identity",
    ) -> None:
        image = {"type": "image_timm", "architecture": architecture, "pretrained": pretrained, "dropout": dropout}
        super().__init__(inputs, graph, encoders=for_kind(Kind.IMAGE, inputs, image), trunk=trunk)
