"""Tokenizers trained on the data at hand, with the library `tokenizers`: made, kept as one text of JSON, and used on whole columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any, Literal

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from deepseek.data.transforms.base import Ragged
from deepseek.fields import UNSPACED

Vocabulary = Literal["word", "bpe", "characters"]

UNKNOWN, START, MISSING = 1, 2, 3
"""The ids of an unknown token, of the start of a text and of a missing text; 0 is padding, and the tokenizer's own begin at 4."""
RESERVED = ("[ padding ]", "[ unknown ]", "[ start ]", "[ missing ]")
"""Their names, which no text can spell: a word has no space, BPE writes a space as another sign, a character is one sign."""
LEAST_BPE = len(RESERVED) + 256

_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}_\u200c\u200d&&[^{UNSPACED}]]"  # with the joiners that Persian and Hindi words hold
_WORD = rf"[{UNSPACED}]\p{{M}}*|{_LETTER}+(?:['’]{_LETTER}+)*|[^\s\p{{L}}\p{{M}}\p{{N}}]"


def train_tokenizer(kind: Vocabulary, texts: Iterable[str], *, size: int, lowercase: bool, min_count: int, exact: bool = False) -> str:
    """Train a tokenizer and return it as JSON: the same texts give the same JSON, byte for byte, in any order.

    Unigram language models (Kudo 2018) are not offered: the library's training gives another vocabulary each time.

    Args:
        kind: `word`: words, single signs, and the single characters of scripts without spaces. `bpe`: byte-level byte-pair encoding
            (Sennrich, Haddow and Birch 2016, https://arxiv.org/abs/1508.07909; over bytes: Radford et al. 2019), to which nothing is
            unknown. `characters`: single characters.
        texts: The texts to learn from.
        size: The most ids, the four reserved ones counted; `bpe` has at least 260.
        lowercase: Whether case is folded.
        min_count: Words, characters or pairs that come less often than this get no id of their own.
        exact: Whether every character of a text is kept as it is, so that what is written with the tokens is the text again; without,
            texts are brought to Unicode's form NFKC first, and to `bpe` a first word is what it is elsewhere.
    """
    tokenizer = Tokenizer(models.BPE() if kind == "bpe" else models.WordLevel(unk_token=RESERVED[UNKNOWN]))
    normal = [] if exact else [normalizers.NFKC()]
    tokenizer.normalizer = normalizers.Sequence([*normal, *([normalizers.Lowercase()] if lowercase else [])])
    tokenizer.pre_tokenizer = _pre_tokenizer(kind, exact=exact)
    options: dict[str, Any] = {
        "vocab_size": size,
        "min_frequency": min_count,
        "special_tokens": list(RESERVED),
        "show_progress": False,
    }
    if kind == "bpe":
        options["initial_alphabet"] = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(**options) if kind == "bpe" else trainers.WordLevelTrainer(**options)
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []  # otherwise the library would look for the reserved names in every text, and find them there
    return json.dumps(state, ensure_ascii=False, separators=(",", ":"))


def _pre_tokenizer(kind: Vocabulary, *, exact: bool) -> Any:
    if kind == "word":
        return pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)
    if kind == "characters":
        return pre_tokenizers.Split(Regex("(?m)."), "isolated")  # in this dialect of patterns `m` lets the point match line ends
    return pre_tokenizers.ByteLevel(add_prefix_space=not exact)  # with a space a text's first word is the word that it is elsewhere


def encode(tokenizer: Tokenizer, texts: list[str]) -> Ragged:
    """Return the ids of texts, int32, rows one after the other; an empty text is an empty row."""
    # the fast form keeps no positions in the text; the library spreads a list over the processor's cores
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)), out=offsets[1:])
    return Ragged(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1])), offsets)
