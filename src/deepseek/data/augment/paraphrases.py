"""Augmentations that say whole texts otherwise: once for the training rows, and by chance in each batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek import progress
from deepseek.data.augment.back_translation import back_translate
from deepseek.data.augment.base import Augmentation, Draw, Known
from deepseek.data.augment.text_edits import swap_clauses
from deepseek.data.batch import Batch, pad
from deepseek.data.padding import mask_name
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.data.transforms.text import TextTransform
from deepseek.data.transforms.tokenizer import RESERVED
from deepseek.errors import InputError
from deepseek.fields import Kind

ROWS_AT_ONCE = 4096
Probability = Annotated[float, Ge(0), Le(1)]


class Paraphrase(Augmentation):
    """Puts another wording in the place of some texts; the wordings are made before the first step, from the training rows alone.

    A subclass says what they are, in `paraphrase`. A text is read back from its tokens, and so as the tokenizer left it: cut at its most
    tokens, in small letters if it folds case. Texts with a token that it does not know are passed over.

    Args:
        inputs: The batch's inputs.
        probability: How likely a text is replaced by its other wording, if it has one.

    Raises:
        InputError: No input is a text.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: float = 0.5) -> None:
        super().__init__(inputs)
        self.require("texts", Kind.TEXT)
        self.probability = probability
        self._wordings: dict[str, tuple[Ragged, np.ndarray]] = {}

    @abstractmethod
    def paraphrase(self, texts: Sequence[str]) -> list[str | None]:
        """Return another wording of each text, or nothing where there is none."""

    def begin(self, known: Known) -> None:
        """Make the wordings of the training rows' texts.

        Raises:
            InputError: The rows, or the transform that made a text's tokens, are not known.
        """
        for name in self.of_kind(Kind.TEXT):
            transform = known.transforms.get(name)
            if known.rows is None or not isinstance(transform, TextTransform):
                raise InputError(
                    f"how the texts of {name!r} read is not known", hint="give Augment known=Known(rows=…, transforms=…), as recipes do"
                )
            texts = _texts(known.rows, name, transform)
            wordings = self.paraphrase([text for text in texts if text is not None])
            given = iter(wordings)
            new = [None if text is None else next(given) for text in texts]
            places = np.array([row for row, text in enumerate(new) if text is not None and text != texts[row]], dtype=np.int64)
            progress.log(f"{'/'.join(self.names)}: {len(places):,} of {len(texts):,} texts of {name!r} have another wording")
            column = pa.array([new[row] for row in places], type=pa.string())
            ids = transform.apply(pa.record_batch({transform.fields[0].name: column}))[name]
            assert isinstance(ids, Ragged), "texts are of unequal length"
            which = np.full(len(texts), -1, dtype=np.int64)
            which[places] = np.arange(len(places))
            self._wordings[name] = (ids, which)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with some texts worded otherwise; rows that come from no data set stay.

        Raises:
            InputError: `begin` was not called.
        """
        drawn = draw.uniform(len(batch), len(self.of_kind(Kind.TEXT)))
        changed: dict[str, Tensor] = {}
        for place, name in enumerate(self.of_kind(Kind.TEXT)):
            if name not in self._wordings:
                raise InputError("the other wordings were not made", hint="give Augment known=Known(rows=…, transforms=…), as recipes do")
            if batch.row is None or not len(batch.row):
                continue
            ids, which = self._wordings[name]
            found = torch.from_numpy(which[batch.row.numpy()])
            chosen = ((drawn[:, place] < self.probability) & (found >= 0)).nonzero().flatten()
            if len(chosen):
                values, mask = pad(ids, found[chosen].numpy())
                changed[name], changed[mask_name(name)] = _put(batch, name, chosen, values, mask)
        return self.replace(batch, changed)


class BackTranslation(Paraphrase):
    """Translates the training texts into another language and back, once, and trains on either wording by chance.

    Source: Sennrich, Haddow and Birch 2016, https://arxiv.org/abs/1511.06709; for classification Xie et al. 2020,
    https://arxiv.org/abs/1904.12848. Translations are kept in a folder, so that another run makes none again.

    Args:
        inputs: The batch's inputs.
        to: The translation model there: a folder with a model of the library Transformers, or an id on the Hugging Face Hub.
        back: The model back.
        probability: How likely a text is replaced by its translation.
        batch_size: How many texts are translated at once.
        beams: The width of the beam search.
        max_tokens: The longest translation in tokens.
        cache: The folder in which translations are kept.
    """

    def __init__(  # noqa: PLR0913  its arguments are its keys in a recipe
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        to: str,
        back: str,
        probability: Probability = 0.5,
        batch_size: Annotated[int, Ge(1)] = 16,
        beams: Annotated[int, Ge(1)] = 4,
        max_tokens: Annotated[int, Ge(1)] = 256,
        cache: str = "runs/.cache/back_translation",
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.to, self.back, self.batch_size, self.beams, self.max_tokens, self.cache = to, back, batch_size, beams, max_tokens, cache

    def paraphrase(self, texts: Sequence[str]) -> list[str | None]:
        """Return the texts translated there and back."""
        made = back_translate(
            texts,
            to=self.to,
            back=self.back,
            batch_size=self.batch_size,
            beams=self.beams,
            max_tokens=self.max_tokens,
            cache=self.cache,
        )
        return list(made)


class ClauseSwap(Paraphrase):
    """Puts the subordinate clause of an English sentence on its other side: `if it rains, we stay` and `we stay if it rains`.

    A change of syntax that needs no parser, because it is made only where a conjunction and commas leave no doubt; the log says how many
    texts have such a form.

    Args:
        inputs: The batch's inputs.
        probability: How likely a text of that form is changed.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: Probability = 0.5) -> None:
        super().__init__(inputs, probability=probability)

    def paraphrase(self, texts: Sequence[str]) -> list[str | None]:
        """Return the sentences of that form in their other order."""
        return [swap_clauses(text) for text in texts]


def _texts(rows: PreparedDataset, name: str, transform: TextTransform) -> list[str | None]:
    """Return the texts that the tokens of prepared rows stand for; nothing for those with an unknown token."""
    spelled = transform.tokens(range(int(transform.inputs[0].cardinalities[0])))
    joint = "" if transform.tokenizer in ("bpe", "characters") else " "
    found: list[str | None] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        ids = rows.ragged(name, np.arange(start, min(start + ROWS_AT_ONCE, len(rows))))
        for first, last in zip(ids.offsets[:-1], ids.offsets[1:], strict=True):
            own = ids.values[first + 1 : last]  # the first stands for the start
            found.append(joint.join(spelled[token] for token in own).strip() if len(own) and own.min() >= len(RESERVED) else None)
    return found


def _put(batch: Batch, name: str, rows: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return a ragged input with other values in some rows, as wide as the longest needs."""
    old, old_mask = batch.inputs[name], batch.inputs[mask_name(name)]
    width = max(old.shape[1], values.shape[1])
    new = old.new_zeros(len(old), width)
    new_mask = old_mask.new_zeros(len(old), width)
    new[:, : old.shape[1]], new_mask[:, : old.shape[1]] = old, old_mask
    rows = rows.to(old.device)
    new[rows], new_mask[rows] = 0, False
    new[rows, : values.shape[1]] = values.to(old.device, old.dtype)
    new_mask[rows, : mask.shape[1]] = mask.to(old.device)
    return new, new_mask
