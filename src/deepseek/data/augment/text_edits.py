"""Texts said otherwise, as texts: easy data augmentation, clauses put in another order, and synonyms from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from deepseek.errors import DataError, InputError

Operation = Literal["replace", "insert", "swap", "delete"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Thesaurus = Mapping[str, Sequence[str]]

_CONJUNCTIONS = "because|although|though|even though|whereas|unless|as soon as"
_FRONTED_ONLY = "while|when|whenever|if|until|since|after|before|once|as long as"
"""Behind a verb these may begin what is told or asked (`she asks if it rains`), which cannot go to the front."""
_FRONTED = re.compile(
    rf"^(?P<word>{_CONJUNCTIONS}|{_FRONTED_ONLY}) (?P<clause>[^,.;:!?]+) ?, (?P<main>[^,.;:!?]+?)(?P<end> ?[.!?])?$", re.IGNORECASE
)
_BEHIND = re.compile(rf"^(?P<main>[^,.;:!?]+?) (?P<word>{_CONJUNCTIONS}) (?P<clause>[^,.;:!?]+?)(?P<end> ?[.!?])?$", re.IGNORECASE)
_ANY = re.compile(rf"\b({_CONJUNCTIONS}|{_FRONTED_ONLY})\b", re.IGNORECASE)
_LEAST_WORDS = 3


def easy_augment(
    texts: Sequence[str],
    *,
    synonyms: Thesaurus | None = None,
    share: float = 0.1,
    variants: int = 4,
    operations: Sequence[Operation] = OPERATIONS,
    seed: int = 0,
) -> list[list[str]]:
    """Return variants of each text: some words replaced by synonyms, synonyms inserted, words swapped, or words left out.

    Each variant comes of one operation, drawn at random. As in the paper, an operation changes `share` of the words, at least one; words
    without synonyms are neither replaced nor doubled. Source: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance
    on Text Classification Tasks", EMNLP 2019, https://arxiv.org/abs/1901.11196.

    Args:
        texts: Words are what stands between spaces.
        synonyms: By word in small letters, others that may stand for it; without them, words are only swapped and left out.
        share: The share of words that an operation changes, 0 to 1.
        variants: How many each text gets.
        operations: Which there are to choose from.
        seed: The variants of a text follow from it and the text's place alone.

    Raises:
        InputError: An argument is out of range, or an operation is unknown.

    Example:
        >>> easy_augment(["a very good film"], synonyms={"good": ["fine"]}, operations=["replace"], variants=1)
        [['a very fine film']]
    """
    if not 0 <= share <= 1 or variants < 1:
        raise InputError(f"share is {share}, variants {variants}", hint="share is 0 to 1, and variants at least 1")
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown or not operations:
        raise InputError(f"operations are {list(operations)}", hint=f"allowed: {', '.join(OPERATIONS)}")
    known = synonyms or {}
    usable = [name for name in operations if known or name in ("swap", "delete")]
    if not usable:
        raise InputError(f"{' and '.join(operations)} need synonyms, and none are given", hint="give synonyms=, or take swap and delete")
    made = []
    for place, text in enumerate(texts):
        random = np.random.default_rng([seed, place])
        chosen = [usable[number] for number in random.integers(len(usable), size=variants)]
        made.append([" ".join(_CHANGES[name](text.split(), known, share, random)) for name in chosen])
    return made


def swap_clauses(text: str) -> str | None:
    """Return an English sentence with its subordinate clause on the other side: `If it rains, we stay`, `We stay if it rains`.

    The meaning stays, only the order changes. It is done without a parser, and so only where a conjunction and commas leave no doubt:
    one sentence of two clauses, of at least three words each.

    Args:
        text: A sentence.

    Returns:
        The sentence, or nothing where it has no such form.

    Example:
        >>> swap_clauses("Although it is long, the film never bores.")
        'The film never bores although it is long.'
    """
    sentence = text.strip()
    if found := _FRONTED.match(sentence):
        main, clause = found["main"].strip(), f"{_small(found['word'])} {found['clause'].strip()}"
        return f"{_like(sentence, main)} {clause}{found['end'] or ''}" if _plain(main, found["clause"]) else None
    if found := _BEHIND.match(sentence):
        main, clause = found["main"].strip(), f"{found['word']} {found['clause'].strip()}"
        comma = " , " if " ." in sentence or sentence == sentence.lower() else ", "
        return f"{_like(sentence, clause)}{comma}{_small(main)}{found['end'] or ''}" if _plain(main, found["clause"]) else None
    return None


def read_thesaurus(path: Path | str) -> dict[str, list[str]]:
    """Read synonyms: JSON with a list for each word, or lines of a word and its synonyms, separated by commas or tabs.

    Args:
        path: The file, in UTF-8; `.json` is read as JSON.

    Raises:
        DataError: The file cannot be read, or is of another form.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix == ".json" else dict(_line(line) for line in text.splitlines() if line.strip())
    except (OSError, ValueError) as error:
        hint = "write a word and its synonyms a line, with commas between them"
        raise DataError(f"the thesaurus {file} cannot be read: {error}", hint=hint) from error
    if not isinstance(found, dict) or not all(isinstance(words, list) for words in found.values()):
        raise DataError(f"the thesaurus {file} is no table of lists", hint='write {"good": ["fine", "great"]}')
    return {str(word).lower(): [str(other) for other in words] for word, words in found.items()}


def _line(line: str) -> tuple[str, list[str]]:
    word, *others = [part.strip() for part in re.split(r"[,\t]", line)]
    return word, [other for other in others if other]


def _replace(words: list[str], synonyms: Thesaurus, share: float, random: np.random.Generator) -> list[str]:
    places = [place for place, word in enumerate(words) if synonyms.get(word.lower())]
    chosen = set(random.permutation(places)[: _count(words, share)].tolist()) if places else set()
    return [_synonym(word, synonyms, random) if place in chosen else word for place, word in enumerate(words)]


def _insert(words: list[str], synonyms: Thesaurus, share: float, random: np.random.Generator) -> list[str]:
    known = [word for word in words if synonyms.get(word.lower())]
    made = list(words)
    for _ in range(_count(words, share) if known else 0):
        made.insert(int(random.integers(len(made) + 1)), _synonym(known[int(random.integers(len(known)))], synonyms, random))
    return made


def _swap(words: list[str], _: Thesaurus, share: float, random: np.random.Generator) -> list[str]:
    made = list(words)
    for _number in range(_count(words, share) if len(words) > 1 else 0):
        one, other = random.choice(len(made), size=2, replace=False)
        made[one], made[other] = made[other], made[one]
    return made


def _delete(words: list[str], _: Thesaurus, share: float, random: np.random.Generator) -> list[str]:
    kept = [word for word, drawn in zip(words, random.random(len(words)), strict=True) if drawn >= share]
    return kept or ([words[int(random.integers(len(words)))]] if words else [])


_CHANGES: dict[Operation, Callable[[list[str], Thesaurus, float, np.random.Generator], list[str]]] = {
    "replace": _replace,
    "insert": _insert,
    "swap": _swap,
    "delete": _delete,
}


def _count(words: list[str], share: float) -> int:
    return max(1, int(share * len(words)))


def _synonym(word: str, synonyms: Thesaurus, random: np.random.Generator) -> str:
    others = synonyms[word.lower()]
    return others[int(random.integers(len(others)))]


def _plain(*parts: str) -> bool:
    """Whether both parts of a sentence are long enough to be clauses, and hold no further one."""
    return all(len(part.split()) >= _LEAST_WORDS and not _ANY.search(part) for part in parts)


def _small(words: str) -> str:
    """Return words with a small first letter; `I` and names in capitals stay."""
    first = words.split(" ", 1)[0]
    return words if first.startswith("I") and (len(first) == 1 or not first[1].isalpha()) else words[:1].lower() + words[1:]


def _like(sentence: str, words: str) -> str:
    """Return words that begin with a capital where the sentence does."""
    return words[:1].upper() + words[1:] if sentence[:1].isupper() else words
