"""Texts as the tokens of a language model: every character counts, and what is written with the tokens is the text again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge
from tokenizers.decoders import ByteLevel

from deepseek.data.transforms.base import Array, InputSpec, Ragged
from deepseek.data.transforms.sample import TextSample
from deepseek.data.transforms.text_columns import MEASURED_TEXTS, joined, text_chunks, text_column
from deepseek.data.transforms.tokenized import TokenizedTransform
from deepseek.data.transforms.tokenizer import RESERVED, START, UNKNOWN, encode
from deepseek.fields import Field, Kind

_CONTINUES = 0b10
"""How the two highest bits of a byte begin that goes on with a character of UTF-8."""


class TokensTransform(TokenizedTransform):
    """Turns a column of texts into one ragged int32 input: the ids of each text's tokens, none of them cut off.

    Unlike the transform `text`, it changes no character before cutting (no lower case, no Unicode form), and `text_of` writes ids as text
    again. The ids are those of `text`: 0 stands for padding, 1 for characters that training did not know, 2 for a text's beginning, and the
    tokenizer's own begin at 4.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        tokenizer: `characters`, or `bpe`: pieces of words down to bytes, so that nothing is unknown.
        vocabulary: The most ids, at least 5; `bpe` has at least 260. `auto` is as many as there are for characters, and goes by the amount
            of training text for pieces.
        documents: Whether each row is a text of its own, which begins with the id 2; without, the rows are pieces of one long text.
        min_count: Characters that come less often than this in the training texts are unknown.

    Example:
        >>> transform = TokensTransform([Field("text", Kind.TEXT)], tokenizer="characters")
        >>> transform.observe(pa.record_batch({"text": ["to be", "or not"]}))
        >>> transform.finish()
        >>> ids = transform.apply(pa.record_batch({"text": ["not to be"]}))["text"].values
        >>> transform.text_of(ids)
        'not to be'
    """

    def __init__(
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        tokenizer: Literal["bpe", "characters"] = "characters",
        vocabulary: Annotated[int, Ge(5)] | Literal["auto"] = "auto",
        documents: bool = True,
        min_count: Annotated[int, Ge(1)] = 1,
    ) -> None:
        super().__init__(fields, name, tokenizer=tokenizer, vocabulary=vocabulary, min_count=min_count)
        self.documents = documents

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take up some of a batch's texts to train the tokenizer on."""
        self._sample.add(text_column(batch, self.column))

    def finish(self) -> None:
        """Train the tokenizer."""
        texts = self._sample.texts()
        self.load_json({"kind": self.tokenizer, "tokenizer": self.trained(texts, lowercase=False, exact=True)})
        rows = joined([encode(self._fitted(), part.to_pylist()) for part in text_chunks(texts.slice(0, MEASURED_TEXTS))])
        unknown = float((rows.values == UNKNOWN).mean()) if len(rows.values) else 0.0
        if unknown:
            self.warnings = (
                f"{unknown:.2%} of the characters of {self.column!r} in the training rows get no id of their own: lower min_count, raise "
                "vocabulary, or take tokenizer: bpe",
            )
        self._sample = TextSample()

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input, ragged."""
        size = self._fitted().get_vocab_size()
        return (InputSpec(str(self.name), Kind.TEXT, (self.column,), (), "int32", cardinalities=(size,), ragged=True),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the ids, int32; a row that is missing or empty is the id 2 alone."""
        texts = pc.fill_null(text_column(batch, self.column), "")
        return {str(self.name): joined([self._rows(part) for part in text_chunks(texts)])}

    def _rows(self, texts: pa.Array) -> Ragged:
        raw = encode(self._fitted(), texts.to_pylist())
        lengths = np.diff(raw.offsets)
        begun = np.ones(len(lengths), dtype=bool) if self.documents else lengths == 0
        offsets = np.concatenate([[0], np.cumsum(lengths + begun)])
        values = np.full(int(offsets[-1]), START, dtype=np.int32)
        own = np.ones(len(values), dtype=bool)
        own[offsets[:-1][begun]] = False
        values[own] = raw.values
        return Ragged(values, offsets)

    def ids_of(self, text: str) -> list[int]:
        """Return the ids of a text to go on from, its beginning among them."""
        ids = [int(number) for number in encode(self._fitted(), [text]).values]
        return [START, *ids] if self.documents or not ids else ids

    def text_of(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return ids as text; the reserved ones write nothing, an unknown character is �."""
        trained = self._fitted()
        names = [trained.id_to_token(int(number)) or "" for number in ids]
        if self._state["kind"] == "bpe":
            return str(ByteLevel().decode([name for name in names if name not in RESERVED]))
        return "".join("�" if name == RESERVED[UNKNOWN] else "" if name in RESERVED else name for name in names)

    def lengths(self) -> tuple[int, ...]:
        """Return how many characters each id stands for; of a piece that is part of a character, how many begin in it."""
        trained = self._fitted()
        alphabet = _bytes() if self._state["kind"] == "bpe" else None
        found = []
        for number in range(trained.get_vocab_size()):
            name = trained.id_to_token(number) or ""
            if name in RESERVED:
                found.append(int(name == RESERVED[UNKNOWN]))
            else:
                found.append(len(name) if alphabet is None else sum(alphabet[sign] >> 6 != _CONTINUES for sign in name))
        return tuple(found)

    def unknown(self, batch: pa.RecordBatch) -> dict[str, tuple[int, int]]:
        """Return how many texts consist mostly of characters that training did not know, and how many there are; `bpe` knows all."""
        if self._state.get("kind") == "bpe":
            return {}
        rows = joined([encode(self._fitted(), part.to_pylist()) for part in text_chunks(text_column(batch, self.column).drop_null())])
        known = np.concatenate([[0], np.cumsum(rows.values == UNKNOWN)])
        lengths = np.diff(rows.offsets)
        return {self.column: (int((2 * np.diff(known[rows.offsets]) > lengths).sum()), int((lengths > 0).sum()))}


def _bytes() -> dict[str, int]:
    """Return the byte that each sign of a byte-level tokenizer stands for (Radford et al. 2019: printable ones stand for themselves)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [number for number in range(256) if number not in printable]
    return {chr(number): number for number in printable} | {chr(256 + place): number for place, number in enumerate(others)}
