"""Text with the marks of where it came from: markup, addresses, control characters, odd Unicode."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.cleaning.markup import strip_html
from deepseek.data.cleaning.selection import choose_columns
from deepseek.data.columns import is_text, plain, require_columns
from deepseek.data.patterns import Pattern
from deepseek.errors import ColumnError, InputError
from deepseek.fields import Kind, Schema

_WHAT = "the cleaner text"
_URL = r"(?i)\b(?:https?://|ftp://|www\.)[^\s<>\"]+"
_EMAIL = r"[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}"
_MENTION = r"(^|[^\p{L}\p{N}_@])@[\p{L}\p{N}_]+"
_LINE_ENDS = r"[\t\n\v\f\r\x{85}\x{2028}\x{2029}]"
# Controls, soft hyphens, spaces of no width, marks of direction, byte-order marks, tags, what is no character. The joiners U+200C and
# U+200D stay: Persian words and families of emoji are spelled with them.
_CONTROL = (
    r"[\p{Cc}\x{AD}\x{61C}\x{180E}\x{200B}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{206F}\x{FEFF}\x{FFF9}-\x{FFFB}\x{FFFE}\x{FFFF}"
    r"\x{E0000}-\x{E007F}]"
)
_SPACE = r"[\s\p{Z}]+"
_MARKS = "!?.,;:-_*=~#+/|'\"…¡¿。、！？，；：·"
# How the bytes of Windows-1252 look as characters; the five that it leaves open are read as controls, as browsers do.
_BYTE_OF = {ord(bytes([byte]).decode("cp1252")): byte for byte in range(0x80, 0xA0) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_NEVER_BESIDE = re.compile("[\x80\x82-\x8c\x8e\x91-\x9c\x9e\x9f]")
_GARBLED = rf"[\x{{C2}}-\x{{F4}}][\x{{80}}-\x{{BF}}{''.join(map(chr, _BYTE_OF))}]"


class TextCleaner(Cleaner):
    r"""Takes out of text what carries no meaning; nothing is fitted, missing text stays missing.

    The steps, in this order: markup, garbled letters, control characters, Unicode form, case, addresses, the user's patterns, repeated
    marks, white space. Without markup, addresses and patterns a second pass changes nothing.

    Markup is read by a tokenizer after the HTML standard, in linear time whatever the text holds: tags, comments and the content of
    `script` and `style` go, entities become characters, the ends of blocks (`p`, `br`, `li`, `td` …) separate words, and what only looks
    like markup (`a < b`, `<3`) stays. Only text with `<` or `&` in it is parsed; all else is done by Arrow, a batch at a time.

    Args:
        columns: The columns to treat; where not given, every input that is text.
        html: Whether to take out markup.
        mojibake: Whether to repair UTF-8 that was read as Windows-1252 (`Ã©` for `é`): only where the whole text, taken back to bytes, is
            UTF-8 without an error, and again for as long as it is.
        control: Whether to take out control characters and invisible marks: of no width, of direction, byte-order marks; tabs and line
            ends become spaces.
        unicode: The normal form: `NFC` composes letters and accents, `NFKC` also makes ligatures, wide and superscript letters plain.
        lower: Whether to make letters small.
        urls: Whether to take out web addresses; a text is put in the place of each.
        emails: The same for e-mail addresses.
        mentions: The same for `@name`.
        pattern: A regular expression in RE2's notation; each match is replaced.
        replacement: By what; `\1` stands for the first group.
        patterns: More of them in pairs, `[[pattern, replacement], …]`, one after the other.
        repeats: How often the same mark of punctuation may stand in a row; the others go. All stay where not given.
        whitespace: Whether each run of white space becomes one space, and none is left at the ends.
    """

    def __init__(  # noqa: PLR0913  a constructor is the schema of a recipe's step
        self,
        *,
        columns: Sequence[str] | None = None,
        html: bool = True,
        mojibake: bool = False,
        control: bool = True,
        unicode: Literal["NFC", "NFKC"] | None = "NFC",
        lower: bool = False,
        urls: bool | str = False,
        emails: bool | str = False,
        mentions: bool | str = False,
        pattern: str | None = None,
        replacement: str = "",
        patterns: Sequence[tuple[str, str]] = (),
        repeats: Annotated[int, Ge(1)] | None = None,
        whitespace: bool = True,
    ) -> None:
        if replacement and pattern is None:
            raise InputError(f"{_WHAT} was given replacement={replacement!r} and no pattern", hint="add the pattern to replace")
        self.columns, self.html, self.mojibake, self.control = columns, html, mojibake, control
        self.unicode, self.lower, self.whitespace = unicode, lower, whitespace
        self._steps = [_address(_URL, urls), _address(_EMAIL, emails), _address(_MENTION, mentions, before=r"\1")]
        pairs = [(pattern, replacement)] if pattern is not None else []
        self._steps += [Pattern(text, what=_WHAT, replacement=by).replace for text, by in [*pairs, *patterns]]
        if repeats is not None:
            self._steps.append(_repeated(repeats))
        self._treated: tuple[str, ...] = ()

    def begin(self, schema: Schema) -> None:
        """Choose the columns."""
        kinds = {Kind.TEXT} if self.columns is None else {Kind.TEXT, Kind.CATEGORY}
        self._treated = choose_columns(schema, self.columns, kinds, what=_WHAT)

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with its text cleaned."""
        require_columns(self._treated, batch.schema.names, what=_WHAT)
        for name in self._treated:
            values = plain(batch.column(name))
            if pa.types.is_null(values.type):
                continue
            if not is_text(values.type):
                raise ColumnError(f"{_WHAT} reads the column {name!r}, which holds {values.type} where text is needed")
            batch = batch.set_column(batch.schema.get_field_index(name), name, self._clean(values))
        return batch

    def to_json(self) -> dict[str, Any]:
        """Return the columns."""
        return {"columns": list(self._treated)}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._treated = tuple(state["columns"])
        return self

    def _clean(self, text: pa.Array) -> pa.Array:
        if pa.types.is_string_view(text.type):
            text = text.cast(pa.string())
        if self.html:
            text = _where(text, "[<&]", strip_html)
        if self.mojibake:
            text = _where(text, _GARBLED, _repaired)
        if self.control:
            text = pc.replace_substring_regex(pc.replace_substring_regex(text, _LINE_ENDS, " "), _CONTROL, "")
        if self.unicode:
            text = pc.utf8_normalize(text, self.unicode)
        if self.lower:
            text = pc.utf8_lower(text)
            if self.unicode:  # a capital with an accent may be one character where its small letter is two, in whatever form
                text = pc.utf8_normalize(text, self.unicode)
        for step in self._steps:
            text = step(text)
        if self.whitespace:
            text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, _SPACE, " "))
        return text


def _address(pattern: str, put: bool | str, *, before: str = "") -> Callable[[pa.Array], pa.Array]:
    if put is False:
        return lambda text: text
    by = before + ("" if put is True else put.replace("\\", "\\\\"))
    return lambda text: pc.replace_substring_regex(text, pattern, by)


def _repeated(most: int) -> Callable[[pa.Array], pa.Array]:
    """Return what shortens runs of a mark; RE2 cannot say "the same again", so that each mark has a pattern of its own."""
    runs = {mark * most: f"{re.escape(mark)}{{{most + 1},}}" for mark in _MARKS}
    any_run = "|".join(runs.values())

    def shorten(text: pa.Array) -> pa.Array:
        if not pc.any(pc.match_substring_regex(text, any_run)).as_py():
            return text
        for kept, run in runs.items():
            text = pc.replace_substring_regex(text, run, kept)
        return text

    return shorten


def _where(text: pa.Array, pattern: str, change: Callable[[str], str]) -> pa.Array:
    """Change the texts that match, one by one."""
    marked = pc.match_substring_regex(text, pattern).fill_null(False)
    changed = [change(value) for value in text.filter(marked).to_pylist()]
    return pc.replace_with_mask(text, marked, pa.array(changed, text.type)) if changed else text


def _repaired(text: str) -> str:
    while not text.isascii():
        try:
            bytewise = text.translate(_BYTE_OF)
            if bytewise != text and _NEVER_BESIDE.search(text):
                break  # one reading gives a byte's letter, the other its control: no reading gives both
            text = bytewise.encode("latin-1").decode("utf-8")
        except UnicodeError:
            break
    return text
