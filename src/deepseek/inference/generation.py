"""Writing with a language model: one token after the other, what was read before kept.

Legend of shapes: `b` texts side by side · `t` tokens · `v` tokens that there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from deepseek import progress
from deepseek.data.preparation import Preparation
from deepseek.data.transforms.tokenizer import MISSING, START, UNKNOWN
from deepseek.data.transforms.tokens import TokensTransform
from deepseek.errors import InputError, UnknownNameError
from deepseek.inference.backends.base import Backend
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.sampling import Sampling, distribution
from deepseek.models.encoders.causal import CausalTextEncoder, Past
from deepseek.models.encoders.text import PADDING
from deepseek.models.sequence import SequenceNetwork
from deepseek.tasks.language_modelling import LanguageModellingTask
from deepseek.tasks.model import TaskModel
from deepseek.training.state import seed_of


class Reader:
    """Reads tokens, and says what may come next.

    A network that remembers reads on for ever, what lies further back than its memory forgotten. Any other sees as many tokens as its
    windows had in training: once they are full, the second half is read again from its beginning, and writing goes on from there.

    Args:
        model: The network with its decision layer.

    Attributes:
        ids: Everything read, `[b, t]`.
    """

    def __init__(self, model: TaskModel) -> None:
        network, task = model.network, model.task
        if not isinstance(network, SequenceNetwork) or not isinstance(task, LanguageModellingTask):
            raise InputError("this model is no language model: it writes nothing", hint="train one with task: language_modelling")
        assert isinstance(network.encoder, CausalTextEncoder)
        self._encoder, self._head, self._window = network.encoder, model.head, task.length
        self._past: Past | None = None
        self._held = 0
        self.ids = torch.empty((1, 0), dtype=torch.long)

    def read(self, ids: Tensor) -> Tensor:
        """Read on, and return the logarithms of the next token's probabilities, float32 `[b, v]`.

        Args:
            ids: What comes, `[b, t]`, at least one token.
        """
        self.ids = torch.cat((self.ids, ids), dim=1)
        if self._encoder.remembers:
            for part in torch.split(ids, self._window, dim=1):
                tokens, self._past = self._encoder.extend(part, self._past)
        else:
            if self._held + ids.shape[1] > self._window:
                ids, self._past, self._held = self.ids[:, -max(self._window // 2, 1) :], None, 0
            keeps = self._encoder.span is not None
            tokens, past = self._encoder.extend(ids if keeps else self.ids[:, -self._window :], self._past)
            self._past, self._held = (past, self._held + ids.shape[1]) if keeps else (None, 0)
        out: Tensor = self._head(tokens[:, -1:])
        return out[:, 0].float().log_softmax(dim=-1)

    def follow(self, rows: Tensor) -> None:
        """Go on with these of the texts, `[b]`, some perhaps several times."""
        self.ids = self.ids[rows]
        self._past = None if self._past is None else tuple(part[rows] for part in self._past)


def write_all(backend: Backend, preparation: Preparation, prompts: Sequence[str], **sampling: Any) -> list[str]:
    """Return what a bundle's model writes behind texts.

    Args:
        backend: What runs the network.
        preparation: The bundle's preparation.
        prompts: The texts; each but the first is drawn for with a seed of its own.
        sampling: The keywords of `Sampling`.

    Raises:
        InputError: It is no language model, does not run in PyTorch, or a keyword is unknown or out of range.
    """
    if not isinstance(backend, TorchBackend):
        raise InputError("writing needs the trained network itself", hint="load the run with backend='torch'")
    allowed = [field.name for field in fields(Sampling)]
    for name in sampling:
        if name not in allowed:
            raise UnknownNameError("keyword of generate", name, allowed)
    given = Sampling(**sampling)
    Reader(backend.model)
    (transform,) = preparation.transforms
    assert isinstance(transform, TokensTransform)
    if unknown := sum(transform.ids_of(text).count(UNKNOWN) for text in prompts):
        progress.warn(f"{unknown} characters to go on from were not met in training: they are read as unknown ones")
    seeds = [seed_of(given.seed, place) if place else given.seed for place in range(len(prompts))]
    return [write(backend.model, transform, text, sampling=replace(given, seed=seed)) for text, seed in zip(prompts, seeds, strict=True)]


@torch.inference_mode()
def write(model: TaskModel, transform: TokensTransform, prompt: str, *, sampling: Sampling) -> str:
    """Return what a model writes behind a text.

    Args:
        model: A trained language model.
        transform: Its text's transform.
        prompt: The text to go on from; empty for a text's beginning.
        sampling: How tokens are chosen.
    """
    reader = Reader(model.eval())
    barred = [PADDING, UNKNOWN, MISSING, *([] if transform.documents else [START])]
    ids = torch.tensor([transform.ids_of(prompt)], dtype=torch.long)
    found = _followed(reader, ids, barred, sampling) if sampling.beams > 1 else _drawn(reader, ids, barred, sampling)
    return transform.text_of(found)


def _drawn(reader: Reader, ids: Tensor, barred: list[int], sampling: Sampling) -> list[int]:
    """Return the ids of a text of which each token is drawn, or taken as the likeliest."""
    generator = torch.Generator().manual_seed(seed_of(sampling.seed))
    written: list[int] = []
    for _ in range(sampling.tokens):
        chances = distribution(_allowed(reader.read(ids), barred), sampling)
        token = int(torch.multinomial(chances, 1, generator=generator))
        if token == START:
            break
        written.append(token)
        ids = torch.tensor([[token]])
    return written


def _followed(reader: Reader, ids: Tensor, barred: list[int], sampling: Sampling) -> list[int]:
    """Return the ids of the likeliest of the texts that a beam search has found; one that has ended stands beside those that go on."""
    start, count = ids.shape[1], sampling.beams
    scores = torch.zeros(1, dtype=torch.float64)
    ended: list[tuple[float, list[int]]] = []
    for _ in range(sampling.tokens):
        totals = scores[:, None] + _allowed(reader.read(ids), barred).double()
        ends = totals[:, START]
        if START not in barred:
            ended += [(float(ends[row]), reader.ids[row, start:].tolist()) for row in range(len(ends))]
            ended = sorted(ended, key=lambda pair: -pair[0])[:count]
        totals[:, START] = -torch.inf
        flat = totals.flatten()
        best = flat.topk(min(count, int(flat.isfinite().sum())))
        rows, tokens = best.indices // totals.shape[1], best.indices % totals.shape[1]
        scores, ids = best.values, tokens[:, None]
        reader.follow(rows)
        if ended and ended[0][0] >= float(scores[0]):
            return ended[0][1]  # what goes on only becomes less likely
    going = [*reader.ids[0, start:].tolist(), int(ids[0, 0])]
    return going if not ended or float(scores[0]) >= ended[0][0] else ended[0][1]


def _allowed(log_probability: Tensor, barred: list[int]) -> Tensor:
    """Return logarithms of probabilities without the tokens that write nothing."""
    allowed = log_probability.clone()
    allowed[:, barred] = -torch.inf
    return allowed
