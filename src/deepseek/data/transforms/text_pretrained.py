"""Texts cut into tokens by the tokenizer of a checkpoint, as the network that comes with it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge
from tokenizers import Tokenizer

from deepseek.data.checkpoints import checkpoint_folder, read_checkpoint_config, read_checkpoint_json
from deepseek.data.transforms.base import Array, InputSpec, Ragged, Transform
from deepseek.data.transforms.text_columns import MEASURED_TEXTS, joined, text_chunks, text_column
from deepseek.errors import InputError, MissingExtraError
from deepseek.fields import Field, Kind

MOST_TOKENS = 512
"""The longest text where neither checkpoint nor recipe says anything."""


class PretrainedTextTransform(Transform):
    """Turns a column of texts into one ragged int32 input: the ids that a checkpoint's own tokenizer gives, its special tokens among them.

    Nothing is learned from the rows. The tokenizer is kept whole in the model's JSON, so that answering needs neither the checkpoint nor
    the Hub. Missing texts are read as empty ones: such a tokenizer has no token for what is not there.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        pretrained: The checkpoint: a folder, or `owner/name` on the Hugging Face Hub, with `@revision` for one of its versions.
        max_tokens: The most ids of a row, the special ones counted, at least 3. Longer texts are cut at their end, and how many are is said
            in the warnings. `auto` takes what the checkpoint was made for.

    Example:
        ```python
        transform = PretrainedTextTransform([Field("review", Kind.TEXT)], pretrained="sentence-transformers/all-MiniLM-L6-v2")
        transform.finish()
        ids = transform.apply(pa.record_batch({"review": ["a good film"]}))["review"].values
        ```
    """

    ragged = True

    def __init__(
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        pretrained: str,
        max_tokens: Annotated[int, Ge(3)] | Literal["auto"] = "auto",
    ) -> None:
        if len(fields) != 1:
            raise InputError(f"a text transform is given {len(fields)} columns", hint="each column of texts has a transform of its own")
        super().__init__(fields, name or fields[0].name)
        self.pretrained, self.max_tokens = pretrained, max_tokens
        self._column = self.fields[0].name
        self._seen: list[pa.Array] = []
        self._seen_rows = 0
        self._state: dict[str, Any] = {}
        self._tokenizer: Tokenizer | None = None

    def observe(self, batch: pa.RecordBatch) -> None:
        """Keep some of the first texts, to say how many are too long."""
        texts = text_column(batch, self._column).slice(0, MEASURED_TEXTS - self._seen_rows)
        self._seen.append(texts)
        self._seen_rows += len(texts)

    def finish(self) -> None:
        """Read the tokenizer from the checkpoint.

        Raises:
            InputError: The checkpoint is not there, has no tokenizer, or cannot read texts as long as `max_tokens`.
        """
        folder = checkpoint_folder(self.pretrained)
        config = read_checkpoint_config(folder)
        tokenizer = read_tokenizer(folder)
        longest = longest_text(folder, config)
        if self.max_tokens != "auto" and longest is not None and self.max_tokens > longest.places:
            raise InputError(
                f"max_tokens is {self.max_tokens}, and {self.pretrained} has {longest.places} places", hint=f"give at most {longest.places}"
            )
        most = self.max_tokens if self.max_tokens != "auto" else longest.meant if longest is not None else MOST_TOKENS
        size = max(int(config.get("vocab_size") or 0), tokenizer.get_vocab_size())
        self.load_json({"tokenizer": tokenizer.to_str(), "max_tokens": most, "vocabulary": size})
        self.warnings = tuple(self._warnings())
        self._seen, self._seen_rows = [], 0

    def _warnings(self) -> list[str]:
        texts = [text for column in self._seen for text in column.drop_null().to_pylist()]
        if not texts:
            return []
        most = self._state["max_tokens"]
        whole = Tokenizer.from_str(self._state["tokenizer"])
        cut = float(np.mean([len(row.ids) > most for row in whole.encode_batch_fast(texts)]))
        if not cut:
            return []
        return [
            f"about {max(cut, 0.001):.1%} of the training texts of {self._column!r} have over {most} tokens and are cut at their end; "
            "max_tokens of the transform text_pretrained says how many are read, as far as the checkpoint goes"
        ]

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input, ragged."""
        size = self._fitted()["vocabulary"]
        return (InputSpec(str(self.name), Kind.TEXT, (self._column,), (), "int32", cardinalities=(size,), ragged=True),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the ids, int32, each row from 1 to `max_tokens` long."""
        self._fitted()
        texts = text_column(batch, self._column)
        return {str(self.name): joined([self._rows(part) for part in text_chunks(texts)])}

    def _rows(self, texts: pa.Array) -> Ragged:
        assert self._tokenizer is not None
        rows = [row.ids for row in self._tokenizer.encode_batch_fast(pc.fill_null(texts, "").to_pylist())]
        rows = [row or [0] for row in rows]  # a tokenizer without special tokens makes nothing of an empty text, and no row may be empty
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), dtype=np.int64)])
        return Ragged(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1])), offsets)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return what each id stands for."""
        self._fitted()
        assert self._tokenizer is not None
        return [self._tokenizer.id_to_token(int(number)) or "" for number in ids]

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer, whole, and the longest text."""
        return dict(self._fitted())

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = dict(state)
        self._tokenizer = Tokenizer.from_str(state["tokenizer"])
        self._tokenizer.enable_truncation(int(state["max_tokens"]))
        return self

    def _fitted(self) -> dict[str, Any]:
        if not self._state:
            raise InputError("the transform of texts is not fitted", hint="call observe and finish, or load_json, first")
        return self._state


class Longest:
    """How long a checkpoint's texts may be.

    Args:
        places: The most tokens that it tells apart by their place.
        meant: The most that it was made for.
    """

    def __init__(self, places: int, meant: int) -> None:
        self.places, self.meant = places, min(places, meant)


def longest_text(folder: Path, config: Mapping[str, Any]) -> Longest | None:
    """Return how long texts may be, by the files of a checkpoint; nothing where they do not say.

    Args:
        folder: The checkpoint.
        config: Its `config.json`.
    """
    places = config.get("max_position_embeddings")
    # RoBERTa and its kin count places from behind the padding id
    behind = str(config.get("model_type")) in {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer"}
    offset = int(config.get("pad_token_id") or 0) + 1 if behind else 0
    known = [int(places) - offset] if isinstance(places, int) and places > 0 else []
    sentence = read_checkpoint_json(folder, "sentence_bert_config.json").get("max_seq_length")
    tokenizer = read_checkpoint_json(folder, "tokenizer_config.json").get("model_max_length")
    meant = [int(value) for value in (sentence, tokenizer) if isinstance(value, int) and 0 < value < 1 << 20]
    if not known and not meant:
        return None
    return Longest(known[0] if known else 1 << 30, min(meant or [MOST_TOKENS]))


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return a checkpoint's tokenizer, which neither cuts nor pads.

    Raises:
        InputError: It has none that can be read without running its code.
        MissingExtraError: It has only a vocabulary, from which Transformers would have to make one, and that is not installed.
    """
    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else _converted(folder)
    except MissingExtraError:
        raise
    except Exception as error:  # the library is written in Rust and raises `Exception` itself for a file that it does not understand
        raise InputError(f"the tokenizer of {folder} cannot be read: {error}", hint="the checkpoint must have a tokenizer.json") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _converted(folder: Path) -> Tokenizer:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "text", f"the tokenizer of {folder}, which has no tokenizer.json,") from error
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).backend_tokenizer
