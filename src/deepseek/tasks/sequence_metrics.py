"""Metrics of tokens, tags and spans: sums over elements, which add up to those of the whole split.

Legend of shapes: `b` rows · `n` elements · `v` tokens or tags that there are · `k` labels of spans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.data.targets import TargetSpec
from deepseek.data.targets.tags import LETTERS, are_spans
from deepseek.errors import InputError
from deepseek.tasks.metrics import mean_defined, quotient
from deepseek.tasks.sequence import SequenceMetric


class _TokenSums(SequenceMetric):
    """Sums of what the right tokens had as logarithms of probabilities, of tokens and of the characters that they stand for."""

    higher_is_better = False
    kinds = ("tokens",)

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(nats=(), tokens=(), characters=())
        self._lengths = torch.tensor(target.lengths, dtype=torch.float64)

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add tokens."""
        right = decoded["log_probability"].gather(2, target.long().unsqueeze(2)).squeeze(2).double()
        # not a product: what is padding may be of no probability at all
        self.state["nats"] -= torch.where(weight == 0, 0.0, right * weight).sum()
        self.state["tokens"] += weight.sum()
        self.state["characters"] += (self._lengths.to(target.device)[target.long()] * weight).sum()


class BitsPerCharacter(_TokenSums):
    """The mean of `-log2 p` of a text over its characters: comparable between tokenizers, as what the tokens stand for is counted.

    What it costs to predict where a text ends counts too; the mark itself is no character.
    """

    def compute(self) -> float:
        """Return the bits a character."""
        return quotient(self.state["nats"], self.state["characters"]) / math.log(2)


class Perplexity(_TokenSums):
    """`exp` of the mean of `-log p` of the tokens; comparable between models of the same tokens only."""

    def compute(self) -> float:
        """Return the perplexity; infinite where it is beyond float64."""
        return float(torch.exp(torch.tensor(quotient(self.state["nats"], self.state["tokens"]), dtype=torch.float64)))


class TokenAccuracy(SequenceMetric):
    """The share of words that have the right tag."""

    kinds = ("tags",)

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(right=(), weight=())

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add words."""
        self.state["right"] += (weight * (decoded["probability"].argmax(dim=2) == target)).sum()
        self.state["weight"] += weight.sum()

    def compute(self) -> float:
        """Return the share."""
        return quotient(self.state["right"], self.state["weight"])


class SpanF1(SequenceMetric):
    """The harmonic mean of precision and recall of whole spans, over all labels together; each label's beside it.

    A span counts where its label and both its ends are right (Tjong Kim Sang and De Meulder, CoNLL 2003,
    https://aclanthology.org/W03-0419/). Tags that begin nothing properly are read as that conference's script read them: an `I` or `E`
    behind `O`, behind an end or behind another label begins a span. So it is the `f1_score` of seqeval (Nakayama, 2018,
    https://github.com/chakki-works/seqeval). Without a span, true or predicted, it is 0, as there.

    Raises:
        InputError: The tags are no spans.
    """

    kinds = ("tags",)

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        if not are_spans(target.classes):
            raise InputError(
                f"the metric span_f1 is asked for, and the tags are no spans: {', '.join(target.classes[:5])}",
                hint="spans are said by O and by B-, I-, E- or S- (L-, U-) with a label; measure token_accuracy",
            )
        self._scheme = Scheme.of(target.classes)
        count = (len(self._scheme.labels),)
        self._begin(hits=count, predicted=count, true=count)

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add words: a span weighs what its row does."""
        real = weight != 0
        said, truth = (self._scheme.spans(codes, real) for codes in (decoded["probability"].argmax(dim=2), target.long()))
        same = said.starts & truth.starts & (said.label == truth.label) & (said.last == truth.last)
        for name, spans, which in (("hits", truth, same), ("predicted", said, said.starts), ("true", truth, truth.starts)):
            self.state[name].index_add_(0, spans.label[which], weight[which])
        self.state["hits"] += 0 * weight.sum()  # an answer that is NaN is lost by no span

    def compute(self) -> float:
        """Return the F1 over all labels."""
        hits, spans = self.state["hits"].sum(), self.state["predicted"].sum() + self.state["true"].sum()
        return 0.0 if float(spans) == 0 else quotient(2 * hits, spans)

    def by_column(self) -> dict[str, float]:
        """Return the F1 of each label; NaN for one without a span, true or predicted."""
        state = self.state
        return {
            label: mean_defined(2 * state["hits"][place, None], (state["predicted"] + state["true"])[place, None])
            for place, label in enumerate(self._scheme.labels)
        }


class Spans(NamedTuple):
    """The spans of rows of tags.

    Attributes:
        starts: Bool `[b, n]`, true at a span's first word.
        last: int64 `[b, n]`, at a span's first word the place of its last.
        label: int64 `[b, n]`, the label of each word's tag; 0 outside.
    """

    starts: Tensor
    last: Tensor
    label: Tensor


class Scheme(NamedTuple):
    """How tags say spans.

    Attributes:
        letter: int64 `[v]`: `O` is 0, `B` 1, `I` 2, `E` and `L` 3, `S` and `U` 4.
        label: int64 `[v]`: which label a tag is of; 0 for `O`.
        labels: The labels, in their order.
    """

    letter: Tensor
    label: Tensor
    labels: tuple[str, ...]

    @classmethod
    def of(cls, classes: tuple[str, ...]) -> Scheme:
        """Return the scheme of tags."""
        labels = tuple(dict.fromkeys(tag[2:] for tag in classes if tag != "O"))
        letters = torch.tensor([0 if tag == "O" else LETTERS[tag[0]] for tag in classes])
        return cls(letters, torch.tensor([labels.index(tag[2:]) if tag != "O" else 0 for tag in classes]), labels)

    def spans(self, codes: Tensor, real: Tensor) -> Spans:
        """Return the spans of rows of codes `[b, n]`, of which the first ones are `real` `[b, n]`."""
        letter = self.letter.to(codes.device)[codes].masked_fill(~real, 0)
        label = self.label.to(codes.device)[codes].masked_fill(letter == 0, 0)
        inside, goes_on = letter > 0, (letter == 2) | (letter == 3)
        before = functional.pad(letter, (1, 0))[:, :-1]
        joined = goes_on & ((before == 1) | (before == 2)) & (label == functional.pad(label, (1, 0))[:, :-1])
        starts = inside & ~joined
        ends = inside & ~functional.pad(joined, (0, 1))[:, 1:]
        count = codes.shape[1]
        place = torch.arange(count, device=codes.device).expand_as(codes)
        last = torch.where(ends, place, count).flip(1).cummin(dim=1).values.flip(1) if count else place
        return Spans(starts, last, label)
