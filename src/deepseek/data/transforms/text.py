"""Texts of any language: cut into tokens by a tokenizer that is trained on the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from deepseek.data.transforms.tokenizer import MISSING, RESERVED, START, UNKNOWN, Vocabulary, encode
from deepseek.fields import Field, Kind

LARGEST_UNKNOWN_SHARE = 0.25


class TextTransform(TokenizedTransform):
    """Turns a column of texts into one ragged int32 input: the ids of each text's tokens.

    Every row begins with the id 2, so that none is empty; a missing text is `[2, 3]`, an empty one `[2]`. Id 1 stands for tokens that
    training did not know, 0 for padding, and the tokenizer's own ids begin at 4. Texts are brought to Unicode's form NFKC first. The
    tokenizer is trained on at most 64 MiB of the training texts, drawn evenly, and is kept whole in the model's JSON.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        tokenizer: `bpe` (pieces of words down to bytes: nothing is unknown, and scripts without spaces, such as Chinese or Thai, are read
            like any other), `word` (words, with an id for each that is frequent enough), or `characters`.
        vocabulary: The most ids, at least 5; `bpe` has at least 260. `auto` is 20 000 for words and characters, and goes by the amount of
            training text for pieces: see `pieces_for`.
        lowercase: Whether `Good` and `good` are one word.
        max_tokens: The most ids of a row, its start counted, at least 2. Longer texts are cut, and how many are is said in the warnings.
        keep: Which part of a longer text stays: its `start`, its `end`, or `both`, half of each (Sun et al. 2019,
            https://arxiv.org/abs/1905.05583).
        min_count: Words or characters that come less often than this in the training texts are unknown.

    Example:
        >>> transform = TextTransform([Field("review", Kind.TEXT)], tokenizer="word")
        >>> transform.observe(pa.record_batch({"review": ["good, good film", "bad film"]}))
        >>> transform.finish()
        >>> transform.apply(pa.record_batch({"review": ["Good film", None]}))["review"].values.tolist()
        [2, 5, 4, 2, 3]
    """

    def __init__(  # noqa: PLR0913  its arguments are its keys in a recipe
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        tokenizer: Vocabulary = "bpe",
        vocabulary: Annotated[int, Ge(5)] | Literal["auto"] = "auto",
        lowercase: bool = True,
        max_tokens: Annotated[int, Ge(2)] = 1024,
        keep: Literal["start", "end", "both"] = "start",
        min_count: Annotated[int, Ge(1)] = 2,
    ) -> None:
        super().__init__(fields, name, tokenizer=tokenizer, vocabulary=vocabulary, min_count=min_count)
        self.lowercase, self.max_tokens, self.keep = lowercase, max_tokens, keep

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take up some of a batch's texts to train the tokenizer on."""
        self._sample.add(self._texts(batch))

    def finish(self) -> None:
        """Train the tokenizer."""
        texts = self._sample.texts()
        self.load_json({"kind": self.tokenizer, "tokenizer": self.trained(texts, lowercase=self.lowercase)})
        self.warnings = tuple(self._warnings(texts))
        self._sample = TextSample()

    def _warnings(self, texts: pa.Array) -> Iterator[str]:
        """Look at some of the training texts as the tokenizer cuts them."""
        looked = texts.slice(0, MEASURED_TEXTS)
        if not len(looked):
            return
        rows = joined([encode(self._fitted(), part.to_pylist()) for part in text_chunks(looked)])
        cut = float((np.diff(rows.offsets) > self.max_tokens - 1).mean())
        if cut:
            which = "" if len(looked) == self._sample.seen else "about "
            yield (
                f"{which}{max(cut, 0.001):.1%} of the training texts of {self.column!r} have over {self.max_tokens} tokens and are cut "
                f"(keep: {self.keep}); raise max_tokens of the transform text to read more"
            )
        unknown = float((rows.values == UNKNOWN).mean()) if len(rows.values) else 0.0
        if unknown > LARGEST_UNKNOWN_SHARE:
            yield (
                f"{unknown:.0%} of the tokens of {self.column!r} in the training rows get no id of their own; "
                "lower min_count, raise vocabulary, or take tokenizer: bpe"
            )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input, ragged."""
        size = self._fitted().get_vocab_size()
        return (InputSpec(str(self.name), Kind.TEXT, (self.column,), (), "int32", cardinalities=(size,), ragged=True),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the ids, int32, each row from 1 to `max_tokens` long."""
        texts = self._texts(batch)
        rows = joined([self._rows(part) for part in text_chunks(texts)])
        return {str(self.name): rows}

    def _rows(self, texts: pa.Array) -> Ragged:
        raw = self._cut(encode(self._fitted(), pc.fill_null(texts, "").to_pylist()))
        absent = np.asarray(texts.is_null().to_numpy(zero_copy_only=False), dtype=bool)
        lengths = np.diff(raw.offsets) + 1 + absent
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty(int(offsets[-1]), dtype=np.int32)
        own = np.ones(len(values), dtype=bool)
        own[offsets[:-1]] = own[offsets[:-1][absent] + 1] = False
        values[offsets[:-1]] = START
        values[offsets[:-1][absent] + 1] = MISSING
        values[own] = raw.values
        return Ragged(values, offsets)

    def _cut(self, rows: Ragged) -> Ragged:
        """Return rows with at most `max_tokens - 1` ids."""
        most, lengths = self.max_tokens - 1, np.diff(rows.offsets)
        if lengths.max(initial=0) <= most:
            return rows
        head = {"start": most, "end": 0, "both": (most + 1) // 2}[self.keep]
        places = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], lengths)
        kept = (places < head) | (places >= np.repeat(lengths - (most - head), lengths))
        return Ragged(rows.values[kept], np.concatenate([[0], np.cumsum(np.minimum(lengths, most))]))

    def unknown(self, batch: pa.RecordBatch) -> dict[str, tuple[int, int]]:
        """Return how many texts consist mostly of tokens that training did not know, and how many have a token; `bpe` knows all."""
        if self._state.get("kind") == "bpe":
            return {}
        unknown = texts = 0
        for part in text_chunks(self._texts(batch).drop_null()):
            rows = encode(self._fitted(), part.to_pylist())
            known = np.concatenate([[0], np.cumsum(rows.values == UNKNOWN)])
            lengths = np.diff(rows.offsets)
            unknown += int((2 * np.diff(known[rows.offsets]) > lengths).sum())
            texts += int((lengths > 0).sum())
        return {self.column: (unknown, texts)}

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return what each id stands for; the reserved ones stand in brackets, and a piece that begins a word begins with its space."""
        trained = self._fitted()
        names = [trained.id_to_token(int(number)) or RESERVED[0] for number in ids]
        if self._state["kind"] != "bpe":
            return names
        spell = ByteLevel().decode  # such a tokenizer spells every byte as a sign of its own
        return [name if name in RESERVED else spell([name]) for name in names]

    def _texts(self, batch: pa.RecordBatch) -> pa.Array:
        return text_column(batch, self.column)
