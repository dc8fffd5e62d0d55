"""What transforms that cut texts by a tokenizer of their own share: it is trained on a sample of the training texts, and kept whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa
from tokenizers import Tokenizer

from deepseek.data.transforms.base import Transform
from deepseek.data.transforms.sample import TextSample
from deepseek.data.transforms.text_columns import MOST_WORDS, pieces_for, text_chunks
from deepseek.data.transforms.tokenizer import LEAST_BPE, Vocabulary, train_tokenizer
from deepseek.errors import InputError
from deepseek.fields import Field


class TokenizedTransform(Transform):
    """Trains a tokenizer on a sample of one column's training texts, and keeps it whole in the model's JSON.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        tokenizer: `bpe`, `word` or `characters`.
        vocabulary: The most ids; `auto` is 20 000 for words and characters, and goes by the amount of training text for pieces.
        min_count: Words or characters that come less often than this in the training texts are unknown.

    Raises:
        InputError: There is more than one column, or fewer ids than a byte-level tokenizer has bytes.
    """

    ragged = True
    what: ClassVar[str] = "text"

    def __init__(
        self, fields: Sequence[Field], name: str | None, /, *, tokenizer: Vocabulary, vocabulary: int | Literal["auto"], min_count: int
    ) -> None:
        if len(fields) != 1:
            raise InputError(
                f"a transform of {self.what}s is given {len(fields)} columns",
                hint=f"each column of {self.what}s has a transform of its own",
            )
        if tokenizer == "bpe" and vocabulary != "auto" and vocabulary < LEAST_BPE:
            raise InputError(f"vocabulary is {vocabulary}", hint=f"the tokenizer bpe has an id for each byte: at least {LEAST_BPE}")
        super().__init__(fields, name or fields[0].name)
        self.tokenizer, self.vocabulary, self.min_count = tokenizer, vocabulary, min_count
        self.column = self.fields[0].name
        self._sample = TextSample()
        self._state: dict[str, Any] = {}
        self._trained: Tokenizer | None = None

    def trained(self, texts: pa.Array, *, lowercase: bool, exact: bool = False) -> str:
        """Return a tokenizer that was trained on texts, as JSON.

        Args:
            texts: Strings, none of them missing.
            lowercase: Whether case is folded.
            exact: Whether every character is kept as it is; see `train_tokenizer`.
        """
        size = self.vocabulary
        if size == "auto":
            size = pieces_for(texts) if self.tokenizer == "bpe" else MOST_WORDS
        return train_tokenizer(self.tokenizer, _strings(texts), size=size, lowercase=lowercase, min_count=self.min_count, exact=exact)

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer, whole, and what else was fitted."""
        self._fitted()
        return dict(self._state)

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = dict(state)
        self._trained = Tokenizer.from_str(state["tokenizer"])
        return self

    def _fitted(self) -> Tokenizer:
        if self._trained is None:
            raise InputError(f"the transform of {self.what}s is not fitted", hint="call observe and finish, or load_json, first")
        return self._trained


def _strings(texts: pa.Array) -> Iterator[str]:
    for part in text_chunks(texts):
        yield from part.to_pylist()
