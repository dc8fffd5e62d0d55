"""Words cut into pieces, with the place of each word's first piece: what labels words by a network of pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge

from deepseek.data.checkpoints import checkpoint_folder, read_checkpoint_config
from deepseek.data.columns import get_column, plain
from deepseek.data.labelling.spans import tokens_of
from deepseek.data.transforms.base import Array, InputSpec, Ragged
from deepseek.data.transforms.sample import TextSample
from deepseek.data.transforms.text_columns import text_column
from deepseek.data.transforms.text_pretrained import MOST_TOKENS, longest_text, read_tokenizer
from deepseek.data.transforms.tokenized import TokenizedTransform
from deepseek.data.transforms.tokenizer import START, Vocabulary
from deepseek.fields import Field, Kind


def starts_name(name: str) -> str:
    """Return the name of the input that says where the words of a text begin."""
    return f"{name}_words"


class WordsTransform(TokenizedTransform):
    """Turns a column of words (lists of texts, or texts, which are cut into words and marks) into two ragged int32 inputs.

    `NAME` holds the ids of the words' pieces behind a start token, and `NAME_words` a 0 and then the place of each word's first piece: 0,
    the start token's, for a word of no piece and for words behind the `max_tokens`-th piece. So every word is answered, and how many rows
    are cut is said in the warnings. Case is kept, as it tells names.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        tokenizer: `bpe`, `word` or `characters`, trained on the training rows, as for the transform `text`.
        vocabulary: The most ids, at least 5; `bpe` has at least 260; `auto` as for the transform `text`.
        lowercase: Whether `Good` and `good` are one word.
        max_tokens: The most ids of a row, its start counted, at least 2; `auto` is 1024, or what a checkpoint was made for.
        min_count: Words or characters that come less often than this in the training texts are unknown.
        pretrained: A checkpoint whose own tokenizer cuts the words, special tokens around them; nothing is trained then.

    Example:
        >>> transform = WordsTransform([Field("words", Kind.TAGS)], tokenizer="word", min_count=1)
        >>> batch = pa.record_batch({"words": [["Ada", "wrote"], ["Ada"]]})
        >>> transform.observe(batch)
        >>> transform.finish()
        >>> transform.apply(batch)["words_words"].values.tolist()
        [0, 1, 2, 0, 1]
    """

    what = "word"

    def __init__(  # noqa: PLR0913  its arguments are its keys in a recipe
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        tokenizer: Vocabulary = "bpe",
        vocabulary: Annotated[int, Ge(5)] | Literal["auto"] = "auto",
        lowercase: bool = False,
        max_tokens: Annotated[int, Ge(2)] | Literal["auto"] = "auto",
        min_count: Annotated[int, Ge(1)] = 2,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(fields, name, tokenizer=tokenizer, vocabulary=vocabulary, min_count=min_count)
        self.lowercase, self.max_tokens, self.pretrained = lowercase, max_tokens, pretrained

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take up some of a batch's words to train the tokenizer on."""
        rows = self.words(batch)
        self._sample.add(pa.array([" ".join(row) for row in rows], pa.string()))

    def finish(self) -> None:
        """Train the tokenizer, or read the checkpoint's.

        Raises:
            InputError: The checkpoint is not there, or has no tokenizer.
        """
        if self.pretrained is not None:
            self._from_checkpoint(self.pretrained)
        else:
            trained = self.trained(self._sample.texts(), lowercase=self.lowercase)
            most = 1024 if self.max_tokens == "auto" else self.max_tokens
            self.load_json({"tokenizer": trained, "max_tokens": most, "before": [START], "after": []})
        most = self._state["max_tokens"] - len(self._state["before"]) - len(self._state["after"])
        texts = self._sample.texts().slice(0, 10_000).to_pylist()
        encoded = self._fitted().encode_batch_fast(texts, add_special_tokens=False)
        if cut := float(np.mean([len(row.ids) > most for row in encoded])) if encoded else 0.0:
            self.warnings = (
                f"about {max(cut, 0.001):.1%} of the training rows of {self.column!r} have over {self._state['max_tokens']} pieces: words "
                "behind them are answered blindly; raise max_tokens of the transform words, or cut rows into sentences",
            )
        self._sample = TextSample()

    def _from_checkpoint(self, name: str) -> None:
        folder = checkpoint_folder(name)
        config, tokenizer = read_checkpoint_config(folder), read_tokenizer(folder)
        longest = longest_text(folder, config)
        most = self.max_tokens if self.max_tokens != "auto" else longest.meant if longest is not None else MOST_TOKENS
        around = tokenizer.encode("a", add_special_tokens=True)
        own = [place for place, special in enumerate(around.special_tokens_mask) if not special]
        self.load_json(
            {
                "tokenizer": tokenizer.to_str(),
                "max_tokens": most,
                "before": around.ids[: own[0]],
                "after": around.ids[own[-1] + 1 :],
                "vocabulary": max(int(config.get("vocab_size") or 0), tokenizer.get_vocab_size()),
            }
        )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The pieces, a text, and where words begin; both ragged."""
        size = int(self._state.get("vocabulary") or self._fitted().get_vocab_size())
        return (
            InputSpec(str(self.name), Kind.TEXT, (self.column,), (), "int32", cardinalities=(size,), ragged=True),
            InputSpec(starts_name(str(self.name)), Kind.ID, (self.column,), (), "int32", ragged=True),
        )

    def words(self, batch: pa.RecordBatch) -> list[list[str]]:
        """Return the words of each row; none of a missing one."""
        column = plain(get_column(batch, self.column))
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            if not pa.types.is_string(column.type.value_type):
                column = column.cast(pa.list_(pa.string()))
            return [[word or "" for word in row or ()] for row in column.to_pylist()]
        return [
            [text[start:end] for start, end in tokens_of(text)] for text in pc.fill_null(text_column(batch, self.column), "").to_pylist()
        ]

    def places(self, batch: pa.RecordBatch) -> list[list[tuple[int, int]]] | None:
        """Return where each row's words stand in its text; nothing where rows are lists of words."""
        kind = plain(get_column(batch, self.column)).type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return None
        return [tokens_of(text) for text in pc.fill_null(text_column(batch, self.column), "").to_pylist()]

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the pieces' ids; and a 0, since no row may be empty, with the place of each word's first piece behind it."""
        before, after = self._state["before"], self._state["after"]
        most = self._state["max_tokens"] - len(before) - len(after)
        rows = self.words(batch)
        encoded = iter(self._fitted().encode_batch([row for row in rows if row], is_pretokenized=True, add_special_tokens=False))
        ids, starts = [], []
        for row in rows:
            pieces, of = ([], []) if not row else _pieces(next(encoded))
            places = np.zeros(len(row) + 1, dtype=np.int32)
            kept = of[:most]
            for place in range(len(kept) - 1, -1, -1):
                places[kept[place] + 1] = len(before) + place
            ids.append([*before, *pieces[:most], *after])
            starts.append(places)
        return {str(self.name): _ragged(ids), starts_name(str(self.name)): _ragged(starts)}

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return what each id stands for."""
        return [self._fitted().id_to_token(int(number)) or "" for number in ids]


def _pieces(encoding: Any) -> tuple[list[int], list[int]]:
    """Return a row's ids, and the word that each belongs to."""
    return encoding.ids, encoding.word_ids


def _ragged(rows: Sequence[Sequence[int] | np.ndarray]) -> Ragged:
    lengths: Iterator[int] = map(len, rows)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(rows)))])
    return Ragged(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1])), offsets)
