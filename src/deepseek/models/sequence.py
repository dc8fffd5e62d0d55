"""Networks that say something of every token of a text, or of every word.

Legend of shapes: `b` rows · `l` tokens · `n` elements: words where the text is cut into words, else tokens · `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepseek.data.padding import mask_name
from deepseek.data.token_windows import first_name, lane_name
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.words import starts_name
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.base import Encoder
from deepseek.models.network import FeatureNetwork
from deepseek.registry import component, family, split_spec

if TYPE_CHECKING:
    EncoderSpec = dict[str, Any] | str
else:
    EncoderSpec = component("encoder")


class SequenceNetwork(FeatureNetwork):
    """Turns a text into a vector for each of its tokens; of a text that came as words, into one for each word: that of its first piece.

    Args:
        inputs: One text, and where its words begin if it came as words.
        graph: Nothing: texts have no graph transforms.
        encoder: What reads the text; its tokens are not pooled, whatever it says. `auto` is a recurrent network in both directions.

    Attributes:
        text: The name of the text.
        encoder: What reads it.

    Raises:
        InputError: There is no text, or something beside it.

    Example:
        >>> text = InputSpec("text", Kind.TEXT, ("text",), (), "int32", cardinalities=(50,), ragged=True)
        >>> network = SequenceNetwork({"text": text}, {}, encoder={"type": "text_rnn", "width": 8}).eval()
        >>> network({"text": torch.tensor([[2, 5, 6]])}).shape
        torch.Size([1, 3, 8])
    """

    features = "sequence"

    def __init__(self, inputs: Mapping[str, InputSpec], graph: Mapping[str, nn.Module], /, *, encoder: EncoderSpec = "text_rnn") -> None:
        super().__init__(inputs, graph)
        texts = [name for name, spec in inputs.items() if spec.kind is Kind.TEXT]
        starts = starts_name(texts[0]) if texts and starts_name(texts[0]) in inputs else None
        others = sorted(set(inputs) - {*texts[:1], starts})
        if not texts or others:
            what = f"also has {', '.join(others)}" if others else "has no text"
            raise InputError(f"the model of sequences reads one text, and the table {what}", hint="leave other columns out with data.drop")
        self.text, self._starts = texts[0], starts
        name, given = split_spec("encoder", encoder)
        built: Encoder = family("encoder").build({"type": name, **given, "pool": "none"}, {self.text: inputs[self.text]})
        if built.tokens is not None:
            raise InputError(
                f"the encoder {name!r} has no vector for each token", hint="take text_rnn, text_transformer or text_pretrained"
            )
        self.encoder, self.width = built, built.width
        self._passed = [lane_name(self.text), first_name(self.text)]

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, n, w]`."""
        ready = self.ready(inputs) | {name: inputs[name] for name in self._passed if name in inputs}
        tokens: Tensor = self.encoder(ready).tokens
        if self._starts is None:
            return tokens
        places = inputs[self._starts][:, 1:].long()
        return tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    def elements(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the mask of what is real among the elements, bool `[b, n]`."""
        name = self._starts or self.text
        mask = inputs.get(mask_name(name))
        real = torch.ones_like(inputs[name], dtype=torch.bool) if mask is None else mask
        return real if self._starts is None else real[:, 1:]
