"""Several encoders of the same inputs, side by side.

Legend of shapes: `b` rows · `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded, Encoder
from deepseek.registry import component, family

if TYPE_CHECKING:
    EncoderSpec = dict[str, Any] | str
else:
    EncoderSpec = component("encoder")


class ParallelEncoder(Encoder):
    """Puts the vectors of several encoders of the same inputs side by side: one wide and one deep, for example.

    With a linear layer behind, their answers add: what the one has learned the others need not, and each corrects the rest. That is how a
    bag of n-grams, which remembers phrases, and convolutions, which generalise over them, are trained as one.

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016, https://arxiv.org/abs/1606.07792.

    Args:
        encoders: The encoders, at least one; each must return a fixed number of tokens.

    Raises:
        InputError: An encoder returns as many tokens as its rows are long.

    Example:
        >>> from deepseek.fields import Kind
        >>> text = InputSpec("review", Kind.TEXT, ("review",), (), "int32", (30,), ragged=True)
        >>> encoder = ParallelEncoder({"review": text}, encoders=[{"type": "text_cnn", "filters": 8}, {"type": "text_bag", "width": 4}])
        >>> encoder({"review": torch.tensor([[2, 9, 4]])}).tokens.shape
        torch.Size([1, 1, 28])
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, encoders: Annotated[list[EncoderSpec], MinLen(1)]) -> None:
        super().__init__(inputs)
        registry = family("encoder")
        parts: list[Encoder] = [registry.build(spec, inputs) for spec in encoders]
        for number, part in enumerate(parts):
            if part.tokens is None:
                raise InputError(
                    f"encoder {number} of those side by side returns a token for each of its input's",
                    hint="give it a pooling other than none",
                )
        self.parts = nn.ModuleList(parts)
        self.width = sum(part.width * (part.tokens or 1) for part in parts)

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, w]`."""
        vectors = [part(inputs).flat() for part in self.parts]
        return Encoded(torch.cat(vectors, dim=-1).unsqueeze(1))

    def present(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Return what the first of the encoders says."""
        first: Encoder = self.parts[0]  # type: ignore[assignment]
        return first.present(inputs)
