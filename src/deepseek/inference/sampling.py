"""How a next token is chosen from what a language model says of all of them.

Legend of shapes: `b` rows · `v` tokens that there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from deepseek.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a text is written.

    Attributes:
        tokens: The most tokens to be written, at least 1; fewer where the text ends by itself.
        temperature: What logarithms of probabilities are divided by, 0 or more: below 1 likely tokens become likelier; 0 always takes the
            likeliest.
        top_k: Among how many of the likeliest tokens is chosen (Fan et al., 2018, https://arxiv.org/abs/1805.04833); all where not given.
        top_p: Among the fewest tokens that have this probability together, in (0, 1] (nucleus sampling: Holtzman et al., 2020,
            https://arxiv.org/abs/1904.09751); all where not given.
        beams: How many texts are followed side by side, at least 1; of more than one, the likeliest is taken, and nothing is drawn.
        seed: Decides what is drawn.

    Raises:
        InputError: A number is out of range or no whole one where things are counted, or something is to be drawn that beams do not draw.
    """

    tokens: int = 200
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    beams: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "beams", "top_k", "seed"):
            value = getattr(self, name)
            if (isinstance(value, bool) or not isinstance(value, Integral)) and not (name == "top_k" and value is None):
                raise InputError(f"{name} is {value!r}", hint="give a whole number")
        if self.tokens < 1 or self.beams < 1:
            raise InputError(f"tokens is {self.tokens} and beams {self.beams}", hint="both are at least 1")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}", hint="0 always takes the likeliest token, 1 draws as the model says")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}", hint="at least 1 token must be left to choose from")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}", hint="it is above 0 and at most 1")
        if self.beams > 1 and (self.top_k or self.top_p or self.temperature != 1.0):
            raise InputError("beams take the likeliest text and draw nothing", hint="leave out temperature, top_k and top_p, or beams")


def distribution(log_probability: Tensor, sampling: Sampling) -> Tensor:
    """Return the probabilities `[b, v]` that a token is drawn with, by logarithms of probabilities `[b, v]`.

    Temperature comes first, then `top_k`, then `top_p` of what is left. Of tokens that are as likely as the last one taken, those with the
    lower ids are taken.

    Example:
        >>> distribution(torch.tensor([[0.5, 0.3, 0.2]]).log(), Sampling(top_p=0.6)).round(decimals=3)
        tensor([[0.6250, 0.3750, 0.0000]])
    """
    scores = log_probability.double()
    if sampling.temperature == 0:
        return torch.zeros_like(scores).scatter_(1, scores.argmax(dim=1, keepdim=True), 1.0)
    # the likeliest stays 0 whatever it is divided by: a tiny temperature would else make all of them minus infinity
    scores = (scores - scores.amax(dim=1, keepdim=True)) / sampling.temperature
    ranked, ids = torch.sort(scores, dim=1, descending=True, stable=True)
    if sampling.top_k is not None:
        ranked[:, sampling.top_k :] = -torch.inf
    chances = ranked.softmax(dim=1)
    if sampling.top_p is not None:
        before = chances.cumsum(dim=1) - chances  # the token that reaches the share belongs to it
        chances = chances.masked_fill(before >= sampling.top_p, 0.0)
        chances = chances / chances.sum(dim=1, keepdim=True)
    return torch.zeros_like(chances).scatter_(1, ids, chances)
