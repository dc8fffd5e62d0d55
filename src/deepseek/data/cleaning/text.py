"""Text with the marks of where it came from: markup, addresses, control characters, odd Unicode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.cleaning.selection import choose_columns
from deepseek.data.columns import is_text, plain, require_columns
from deepseek.errors import ColumnError, InputError
from deepseek.fields import Kind, Schema

_WHAT = "the cleaner text"
_URL = r"(?i)\b(?:https?://|ftp://|www\.)[^\s<>\"]+"
_CONTROL = r"[\p{Cc}\x{200B}\x{200E}\x{200F}\x{2060}\x{FEFF}]"
_SPACE = r"[\s\p{Z}]+"


class TextCleaner(Cleaner):
    r"""Takes out of text what carries no meaning; nothing is fitted, missing text stays missing.

    The steps, in this order: markup, addresses, control characters, Unicode form, case, the user's pattern, white space.

    Markup is read by the standard library's HTML parser, not by a pattern: tags, comments and the content of `script` and `style` go,
    entities become characters, and the ends of blocks (`p`, `br`, `li`, `td` …) separate words. Only text with `<` or `&` in it is parsed.

    Args:
        columns: The columns to treat; where not given, every input that is text.
        html: Whether to take out markup.
        urls: Whether to take out web addresses.
        control: Whether to take out control characters and invisible marks; tabs and line ends become spaces.
        unicode: The normal form: `NFC` composes letters and accents, `NFKC` also makes ligatures, wide and superscript letters plain.
        lower: Whether to make letters small.
        pattern: A regular expression in RE2's notation; each match is replaced.
        replacement: By what; `\1` stands for the first group.
        whitespace: Whether each run of white space becomes one space, and none is left at the ends.
    """

    def __init__(  # noqa: PLR0913  a constructor is the schema of a recipe's step
        self,
        *,
        columns: Sequence[str] | None = None,
        html: bool = True,
        urls: bool = False,
        control: bool = True,
        unicode: Literal["NFC", "NFKC"] | None = "NFC",
        lower: bool = False,
        pattern: str | None = None,
        replacement: str = "",
        whitespace: bool = True,
    ) -> None:
        if replacement and pattern is None:
            raise InputError(f"{_WHAT} was given replacement={replacement!r} and no pattern", hint="add the pattern to replace")
        self.columns, self.html, self.urls, self.control, self.unicode = columns, html, urls, control, unicode
        self.lower, self.pattern, self.replacement, self.whitespace = lower, pattern, replacement, whitespace
        self._treated: tuple[str, ...] = ()
        try:
            self._clean(pa.array(["a"]))
        except pa.ArrowInvalid as error:
            raise InputError(f"{_WHAT} was given pattern={pattern!r}, replacement={replacement!r}: {error}") from None

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
            text = _without_markup(text)
        if self.urls:
            text = pc.replace_substring_regex(text, _URL, "")
        if self.control:
            text = pc.replace_substring_regex(pc.replace_substring_regex(text, r"[\t\n\v\f\r\x{85}]", " "), _CONTROL, "")
        if self.unicode:
            text = pc.utf8_normalize(text, self.unicode)
        if self.lower:
            text = pc.utf8_lower(text)
        if self.pattern is not None:
            text = pc.replace_substring_regex(text, self.pattern, self.replacement)
        if self.whitespace:
            text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, _SPACE, " "))
        return text


def strip_html(text: str) -> str:
    """Return the text of a piece of HTML.

    Example:
        >>> strip_html("<p>Tom &amp; <b>Jer</b>ry</p><script>1 < 2</script>")
        'Tom & Jerry '
    """
    parser = _TextOf()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts)


class _TextOf(HTMLParser):
    _HIDDEN = frozenset({"script", "style", "template"})
    _INLINE = frozenset(
        ["a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q", "s"]
    ) | frozenset(["samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"])

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self._HIDDEN
        self._separate(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in self._HIDDEN))
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)

    def _separate(self, tag: str) -> None:
        if tag not in self._INLINE and self.parts and not self.parts[-1].endswith(" "):
            self.parts.append(" ")


def _without_markup(text: pa.Array) -> pa.Array:
    marked = pc.match_substring_regex(text, "[<&]").fill_null(False)
    stripped = [strip_html(value) for value in text.filter(marked).to_pylist()]
    return pc.replace_with_mask(text, marked, pa.array(stripped, text.type)) if stripped else text
