"""EDA: words replaced, inserted, swapped and left out, in batches of tokens.

Legend of shapes: `b` rows · `l` tokens of the longest row · `v` ids of the vocabulary · `k` synonyms of the word that has most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek import progress
from deepseek.data.augment.base import Augmentation, Draw, Known
from deepseek.data.augment.neighbours import nearest_words
from deepseek.data.augment.text_edits import OPERATIONS, Operation, read_thesaurus
from deepseek.data.batch import Batch
from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.text import TextTransform
from deepseek.data.transforms.tokenizer import RESERVED
from deepseek.errors import InputError
from deepseek.fields import Kind

_BEHIND = 1 << 62
"""The sorting key of what is left out, and of padding."""
_REPLACED, _SYNONYM, _DELETED, _PLACE, _SYNONYM_INSERTED, _SWAP, _SOURCE = 1, 2, 3, 4, 5, 1 << 20, 1 << 21
"""What random numbers are for; swaps and sources of inserted words count on from theirs."""


@dataclass
class _Words:
    """What the tokens of a vocabulary are: which begin a word, and which words may stand for which.

    Attributes:
        begins: bool `[v]`.
        synonyms: int64 `[v, k]`: a word's synonyms first, then zeros.
        counts: How many they are, int64 `[v]`.
        most: The most tokens of a row.
    """

    begins: Tensor
    synonyms: Tensor
    counts: Tensor
    most: int


class Eda(Augmentation):
    """Easy data augmentation: synonyms in the place of words, synonyms put in, words swapped, words left out.

    It works on the tokens of a batch, whole words at a time, so that each epoch reads another variant of a text and a resumed run the same:
    what is drawn depends on seed, step and row alone. A chosen text undergoes one operation, drawn at random, which changes `share` of its
    words, at least one. Only words that are one token have synonyms. For few training rows a thesaurus is better than neighbours: what
    stands in like surroundings is often the opposite. Source: Wei and Zou 2019, https://arxiv.org/abs/1901.11196.

    Args:
        inputs: The batch's inputs.
        probability: How likely a text is changed.
        share: The share of its words that are.
        operations: Which there are to choose from.
        synonyms: `neighbours`, words that stand in like surroundings in the training rows; or the path of a thesaurus: lines of a word and
            its synonyms with commas between them, or JSON; or such a table itself.
        most_synonyms: The most synonyms that a word is given.
        similarity: How alike the surroundings of neighbours are at least, as the cosine of their vectors.

    Raises:
        InputError: No input is a text, or there is no operation.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        probability: Annotated[float, Ge(0), Le(1)] = 0.5,
        share: Annotated[float, Gt(0), Le(1)] = 0.1,
        operations: list[Operation] = list(OPERATIONS),  # noqa: B006  shown as the key's default, and never changed
        synonyms: Literal["neighbours"] | str | dict[str, list[str]] = "neighbours",
        most_synonyms: Annotated[int, Ge(1)] = 5,
        similarity: Annotated[float, Ge(0), Le(1)] = 0.4,
    ) -> None:
        super().__init__(inputs)
        self.require("texts", Kind.TEXT)
        if not operations:
            raise InputError("there are no operations", hint=f"allowed: {', '.join(OPERATIONS)}")
        self.probability, self.share, self.operations, self.synonyms = probability, share, tuple(operations), synonyms
        self.most_synonyms, self.similarity = most_synonyms, similarity
        self._words: dict[str, _Words] = {}

    def begin(self, known: Known) -> None:
        """Learn which tokens begin a word, and which words are alike.

        Raises:
            InputError: The rows, or the transform that made a text's tokens, are not known, or it cuts texts into characters.
        """
        for name in self.of_kind(Kind.TEXT):
            transform = known.transforms.get(name)
            if known.rows is None or not isinstance(transform, TextTransform):
                raise InputError(
                    f"how the texts of {name!r} read is not known", hint="give Augment known=Known(rows=…, transforms=…), as recipes do"
                )
            if transform.tokenizer == "characters":
                raise InputError(f"the texts of {name!r} are cut into characters", hint="eda needs words: take the tokenizer bpe or word")
            self._words[name] = self._learned(name, known, transform)

    def _learned(self, name: str, known: Known, transform: TextTransform) -> _Words:
        assert known.rows is not None, "seen to by begin"
        size = int(transform.inputs[0].cardinalities[0])
        spelled = transform.tokens(range(size))
        pieces = transform.tokenizer == "bpe"
        begins = np.array([token >= len(RESERVED) and (not pieces or text.startswith(" ")) for token, text in enumerate(spelled)])
        words = {text.strip().lower(): token for token, text in enumerate(spelled) if begins[token] and text.strip().isalpha()}
        if self.synonyms == "neighbours":
            table = nearest_words(
                known.rows, name, words=np.array(sorted(words.values())), begins=begins, most=self.most_synonyms, least=self.similarity
            )
        else:
            given = self.synonyms if isinstance(self.synonyms, dict) else read_thesaurus(Path(self.synonyms))
            table = {
                words[word.lower()]: [words[other.lower()] for other in others if other.lower() in words and other.lower() != word.lower()]
                for word, others in given.items()
                if word.lower() in words
            }
        table = {word: list(dict.fromkeys(others))[: self.most_synonyms] for word, others in table.items() if others}
        progress.log(f"eda: {len(table):,} of {len(words):,} words of {name!r} have synonyms")
        synonyms = torch.zeros(size, max(map(len, table.values()), default=1), dtype=torch.int64)
        for word, others in table.items():
            synonyms[word, : len(others)] = torch.tensor(others)
        counts = (synonyms > 0).sum(dim=1)
        return _Words(torch.from_numpy(begins), synonyms, counts, transform.max_tokens)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with some texts changed; their rows may have become longer or shorter.

        Raises:
            InputError: `begin` was not called.
        """
        changed: dict[str, Tensor] = {}
        for name in self.of_kind(Kind.TEXT):
            drawn = draw.uniform(len(batch), 4).double()
            if name not in self._words:
                raise InputError("the words are not known", hint="give Augment known=Known(rows=…, transforms=…), as recipes do")
            ids, mask = batch.inputs[name], batch.inputs[mask_name(name)]
            made, made_mask = self._changed(ids.cpu().long(), mask.cpu(), drawn, self._words[name])
            changed[name], changed[mask_name(name)] = made.to(ids), made_mask.to(mask.device)
        return self.replace(batch, changed)

    def _changed(self, ids: Tensor, mask: Tensor, drawn: Tensor, words: _Words) -> tuple[Tensor, Tensor]:
        rows, length = ids.shape
        operation = (drawn[:, 1] * len(self.operations)).long().clamp(max=len(self.operations) - 1)
        operation = torch.where(drawn[:, 0] < self.probability, operation, -1)
        random = _Stream(drawn[:, 2:])
        begins = words.begins[ids] & mask
        word = begins.cumsum(1) - 1  # -1 for the start, which stays where it is
        total = word[:, -1] + 1
        wanted = torch.where(total > 0, (total * self.share).long().clamp(min=1), 0)

        def chosen(name: Operation) -> Tensor:
            return operation == self.operations.index(name) if name in self.operations else torch.zeros(rows, dtype=torch.bool)

        ends = torch.ones_like(begins)
        ends[:, :-1] = begins[:, 1:] | ~mask[:, 1:]
        doubles = begins & ends & (words.counts[ids] > 0)  # words of one token that have a synonym
        replaced = chosen("replace")[:, None] & _first(doubles, wanted, random)
        made = torch.where(replaced, self._synonyms(ids, words, random.uniform(length, _SYNONYM)), ids)
        slot = _swapped(total, torch.where(chosen("swap"), wanted, 0), max(_most(total), 1), random)
        key = torch.where(word < 0, word, slot.gather(1, word.clamp(min=0))) * (length + 1) + torch.arange(length)
        kept = _kept(begins, total, self.share, random).gather(1, word.clamp(min=0)) | (word < 0) | ~chosen("delete")[:, None]
        key = torch.where(kept & mask, 2 * key + 1, _BEHIND)
        room = (words.most - mask.sum(dim=1)).clamp(min=0)
        extra = torch.where(chosen("insert") & doubles.any(dim=1), torch.minimum(wanted, room), 0)
        if _most(extra):
            new, place = self._inserted(ids, doubles, total, extra, words=words, random=random)
            made = torch.cat([made, new], dim=1)
            key = torch.cat([key, torch.where(place < 0, _BEHIND, 2 * place * (length + 1))], dim=1)
        key, order = key.sort(dim=1, stable=True)
        real = key < _BEHIND
        width = max(int(real.sum(dim=1).max()), 1) if rows else length
        return (made.gather(1, order) * real)[:, :width], real[:, :width]

    @staticmethod
    def _synonyms(ids: Tensor, words: _Words, drawn: Tensor) -> Tensor:
        """Return the synonym of each token that a number stands for, zeros where it has none."""
        place = (drawn * words.counts[ids]).long()
        return words.synonyms[ids, place.clamp(max=words.synonyms.shape[1] - 1)]

    def _inserted(
        self, ids: Tensor, doubles: Tensor, total: Tensor, extra: Tensor, *, words: _Words, random: _Stream
    ) -> tuple[Tensor, Tensor]:
        """Return synonyms of random words of each row, and before which word they are to stand; -1 where there is nothing to insert."""
        most = int(extra.max())
        ranks = [random.uniform(ids.shape[1], _SOURCE + number).masked_fill(~doubles, -1) for number in range(most)]
        source = torch.stack([rank.argmax(dim=1) for rank in ranks], dim=1)
        new = self._synonyms(ids.gather(1, source), words, random.uniform(most, _SYNONYM_INSERTED))
        place = (random.uniform(most, _PLACE) * (total[:, None] + 1)).long()
        return new, torch.where(torch.arange(most) < extra[:, None], place, -1)


class _Stream:
    """Random numbers of each row that depend neither on the rows beside it nor on how long they are: hashes of key, purpose and counter."""

    def __init__(self, drawn: Tensor) -> None:
        self._keys = (drawn[:, 0] * 2**24).long() << 24 | (drawn[:, 1] * 2**24).long()

    def uniform(self, count: int, purpose: int) -> Tensor:
        """Return numbers for a purpose, float64 `[b, count]` in `[0, 1)`; the first ones are the same however many are asked for."""
        state = self._keys[:, None] * 0x2545F4914F6CDD1D + torch.arange(count) * 0x1D8E4E27C47D124F + purpose * 0x51E0F3A97F4A7C15 % 2**62
        for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
            state = (state ^ (state >> shift & (1 << 64 - shift) - 1)) * factor  # splitmix64's finalizer, on signed numbers
        return ((state ^ (state >> 31 & (1 << 33) - 1)) >> 11 & (1 << 53) - 1).double() / 2**53


def _first(candidates: Tensor, wanted: Tensor, random: _Stream) -> Tensor:
    """Return so many random ones of each row's candidates, bool `[b, l]`."""
    place = random.uniform(candidates.shape[1], _REPLACED).masked_fill(~candidates, 2).argsort(dim=1).argsort(dim=1)
    return candidates & (place < wanted[:, None])


def _swapped(total: Tensor, swaps: Tensor, most: int, random: _Stream) -> Tensor:
    """Return where each word goes after so many swaps of two random words, int64 `[b, most]`."""
    slot = torch.arange(most).repeat(len(total), 1)
    for number in range(_most(swaps)):
        pair = (random.uniform(2, _SWAP + number) * total[:, None]).long().clamp(max=most - 1)
        values = slot.gather(1, pair)
        slot = torch.where((number < swaps)[:, None], slot.scatter(1, pair, values.flip(1)), slot)
    return slot


def _most(counts: Tensor) -> int:
    return int(counts.max()) if len(counts) else 0


def _kept(begins: Tensor, total: Tensor, share: float, random: _Stream) -> Tensor:
    """Return which words stay when each is left out with a probability, bool `[b, l]`; one stays in any case."""
    drawn = random.uniform(begins.shape[1], _DELETED).masked_fill(torch.arange(begins.shape[1]) >= total[:, None], -1)
    return (drawn >= share) | (drawn == drawn.amax(dim=1, keepdim=True))
