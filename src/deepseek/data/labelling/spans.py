"""Marked stretches of text and tags of tokens, each turned into the other without losing a character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from deepseek.errors import DataError

_TOKEN = re.compile(r"\w+|[^\w\s]")
OUTSIDE = "O"
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai, Lao; Myanmar; Khmer; Myanmar's extensions
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana, also of half width
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
)
"""The scripts without spaces, as blocks: `re` knows no scripts by name. They are those of `deepseek.fields.UNSPACED`."""
_LAST_MARK = 0x1F000
"""Beyond it there are only variation selectors, which follow ideographs and stand by themselves there."""


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a text with a label.

    Attributes:
        start: Its first character, from 0, counted in code points as Python does.
        end: The character after its last.
        label: What it is.
    """

    start: int
    end: int
    label: str


def tokens_of(text: str) -> list[tuple[int, int]]:
    """Return where the words and marks of a text stand: start and end of each.

    Of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character stands by itself: who cuts such texts into words
    disagrees with the next, and a span could begin inside of one. Combining marks, as the vowels of Hindi, belong to what they stand on.

    Example:
        >>> [text[start:end] for text in ("Ada 在北京。",) for start, end in tokens_of(text)]
        ['Ada', '在', '北', '京', '。']
    """
    pattern = _TOKEN if text.isascii() else _any_script()
    return [match.span() for match in pattern.finditer(text)]


@cache
def _any_script() -> re.Pattern[str]:
    mark = "".join(chr(code) for code in range(0x300, _LAST_MARK) if unicodedata.category(chr(code))[0] == "M")
    letter = rf"(?![{_UNSPACED}])[\w{mark}\u200c\u200d]"  # with the joiners that Persian and Hindi words hold
    return re.compile(rf"[{_UNSPACED}][{mark}]*|(?:{letter})+|[^\w\s][{mark}]*")


def exact_span(text: str, start: int, end: int, *, said: str | None) -> tuple[int, int]:
    """Return a stretch counted in code points, of one that a browser may have counted in UTF-16 units.

    JavaScript counts a character beyond U+FFFF, such as most emoji, as two. What the tool says the stretch holds tells which it was.

    Args:
        text: The whole text.
        start: Where it starts, as given.
        end: Where it ends, as given.
        said: What it holds, as given; nothing where the tool does not say.

    Raises:
        DataError: The stretch is not in the text, or holds something else whichever way it is counted.
    """
    if said is None or text[start:end] == said:
        if not 0 <= start < end <= len(text):
            raise DataError(f"the stretch {start} to {end} is not in a text of {len(text)} characters")
        return start, end
    units = text.encode("utf-16-le")
    before, inside = units[: 2 * start], units[2 * start : 2 * end]
    if inside == said.encode("utf-16-le"):
        first = len(before.decode("utf-16-le", errors="replace"))
        return first, first + len(said)
    raise DataError(
        f"the text has {text[start:end]!r} from {start} to {end}, and the annotation says {said!r}", hint="was the text changed?"
    )


def to_tags(text: str, spans: Sequence[Span], tokens: Sequence[tuple[int, int]] | None = None) -> tuple[list[str], list[Span]]:
    """Return a tag for each token, `B-LABEL` where a span begins, `I-LABEL` inside, `O` outside, and the spans that no tags can say.

    A span that cuts through a token, overlaps one before it or holds no token has no tags of its own; it is given back, for the caller to
    count.

    Args:
        text: The text.
        spans: What is marked in it.
        tokens: Where the tokens stand, in order; words and marks where not given.
    """
    places = tokens_of(text) if tokens is None else list(tokens)
    tags, lost = [OUTSIDE] * len(places), []
    for span in sorted(spans):
        inside = [number for number, (start, end) in enumerate(places) if start < span.end and end > span.start]
        cut = any(places[number][0] < span.start or places[number][1] > span.end for number in inside)
        if not inside or cut or any(tags[number] != OUTSIDE for number in inside):
            lost.append(span)
            continue
        for number in inside:
            tags[number] = f"{'B' if number == inside[0] else 'I'}-{span.label}"
    return tags, lost


def to_spans(tags: Sequence[str], tokens: Sequence[tuple[int, int]]) -> list[Span]:
    """Return what tags mark; an `I` that continues nothing of its label begins a span.

    Args:
        tags: `B-LABEL`, `I-LABEL` or `O` for each token.
        tokens: Where the tokens stand.

    Raises:
        DataError: There are not as many tags as tokens.
    """
    if len(tags) != len(tokens):
        raise DataError(f"there are {len(tags)} tags for {len(tokens)} tokens")
    spans: list[Span] = []
    going = ""
    for tag, (start, end) in zip(tags, tokens, strict=True):
        begins, _, label = tag.partition("-")
        if tag == OUTSIDE:
            going = ""
        elif begins == "I" and going == label:
            spans[-1] = Span(spans[-1].start, end, label)
        else:
            spans.append(Span(start, end, label))
            going = label
    return spans
