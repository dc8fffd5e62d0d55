"""Back-translation: texts into another language and back, which says the same in other words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from deepseek import progress
from deepseek.artifacts import write_text
from deepseek.errors import DataError, InputError, MissingExtraError


def back_translate(
    texts: Sequence[str],
    *,
    to: str,
    back: str,
    batch_size: int = 16,
    beams: int = 4,
    max_tokens: int = 256,
    cache: Path | str | None = None,
) -> list[str]:
    """Return texts translated into another language and back.

    Any translation model of the library Transformers will do, for example `Helsinki-NLP/opus-mt-en-de` and `Helsinki-NLP/opus-mt-de-en`.
    Weights are read from safetensors alone, and no code that comes with a model is run. Source: Sennrich, Haddow and Birch, "Improving
    Neural Machine Translation Models with Monolingual Data", ACL 2016, https://arxiv.org/abs/1511.06709.

    Args:
        texts: What to translate.
        to: The model there: a folder, or an id on the Hugging Face Hub.
        back: The model back.
        batch_size: How many texts are translated at once, at least 1.
        beams: The width of the beam search, at least 1.
        max_tokens: The longest translation in tokens; longer texts are cut off.
        cache: A folder in which translations are kept: none is made twice, by this process or the next.

    Raises:
        InputError: A number is out of range.
        DataError: A model cannot be loaded.
        MissingExtraError: Transformers is not installed.
    """
    if min(batch_size, beams, max_tokens) < 1:
        raise InputError(f"batch_size is {batch_size}, beams {beams}, max_tokens {max_tokens}", hint="each is at least 1")
    key = hashlib.sha256(json.dumps([_identity(to), _identity(back), beams, max_tokens]).encode()).hexdigest()[:32]
    file = None if cache is None else Path(cache) / f"{key}.json"
    known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}
    missing = [text for text in dict.fromkeys(texts) if text not in known and text.strip()]
    if missing:
        there = list(_translated(missing, to, batch_size=batch_size, beams=beams, max_tokens=max_tokens))
        known |= dict(zip(missing, _translated(there, back, batch_size=batch_size, beams=beams, max_tokens=max_tokens), strict=True))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(known, ensure_ascii=False))
    return [known.get(text, text) for text in texts]


def _translated(texts: Sequence[str], name: str, *, batch_size: int, beams: int, max_tokens: int) -> Iterator[str]:
    tokenizer, model = _load(name)
    progress.log(f"translating {len(texts):,} texts with {name}")
    # texts of like length together: the padding of a batch is computed too
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    made = [""] * len(texts)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        given = tokenizer([texts[place] for place in places], return_tensors="pt", padding=True, truncation=True, max_length=max_tokens)
        with torch.inference_mode():
            ids = model.generate(**given, num_beams=beams, do_sample=False, max_new_tokens=max_tokens)
        for place, text in zip(places, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            made[place] = text
    yield from made


def _load(name: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "text", "back-translation") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSeq2SeqLM.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the translation model {name!r} cannot be loaded: {error}", hint="give a folder, or an id on the Hub") from error
    return tokenizer, model.eval()


def _identity(name: str) -> list[Any]:
    """Return what says which model a name means now: of a folder, its files too."""
    folder = Path(name)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [name, [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]]
