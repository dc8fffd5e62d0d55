"""The text of a piece of HTML, read as browsers read it, in time linear in its length whatever it holds.

A tokenizer of our own, after the HTML standard (WHATWG, "HTML Living Standard", 13.2.5, https://html.spec.whatwg.org/#tokenization),
since the standard library's `html.parser` looks to the end of the text anew for every mark that is never closed: the time for many `<!--`
grows with the square of their number, and `&#` with five thousand digits ends it with an error. Where a browser would swallow the rest of
the text (a tag, a quote or a comment that is never closed), what stands there is kept: a page cut off loses nothing but the content of an
open `script` or `style`.
"""

from __future__ import annotations

import html
import re


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


HIDDEN = _names("iframe noembed noframes script style template")
"""Elements whose content is no text."""
INLINE = _names(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q rp rt ruby s samp small span strike "
    "strong sub sup time tt u var wbr"
)
"""Elements that stand within a word or a sentence; all others separate words."""
BLOCK = _names(
    "address applet area article aside audio base basefont blockquote body br button canvas caption center col colgroup datalist "
    "dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header "
    "hgroup hr html image img input isindex keygen legend li link listing main map marquee math menu menuitem meta meter nav "
    "noscript object ol optgroup option output p param picture plaintext pre progress search section select slot source summary "
    "svg table tbody td textarea tfoot th thead title tr track ul video xmp"
)
"""The other elements of HTML, past and present."""
_ELEMENTS = HIDDEN | INLINE | BLOCK
_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_FOREIGN = re.compile(r"[a-z][\w.]*[-:][a-z][\w.:-]*")
_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in HIDDEN}
_COMMENT_END = re.compile(r"--!?>")
_IN_TAG = re.compile(r"""[^>"'=]+|=\s*(?P<quote>["'])?|["']""")
_LONG_NUMBER = re.compile(r"&#(?:0*([0-9]*)|[xX]0*([0-9a-fA-F]*));?")
_SHORT = 32


def strip_html(text: str) -> str:
    """Return the text of a piece of HTML.

    Tags and comments go, with them the content of what is no text (`script`, `style`, `template` …), the ends of blocks separate words,
    and entities become characters. What only looks like a tag is kept: `a < b`, `<3`, `vector<int>`, `Ann <ann@example.com>` – a tag has
    the name of an element of HTML, or one with a hyphen or a colon in it, as custom elements and namespaces have.

    Example:
        >>> strip_html("<p>Tom &amp; <b>Jer</b>ry</p><script>1 < 2</script> a < b")
        'Tom & Jerry  a < b'
    """
    return _Reader(text).read()


def unescape(text: str) -> str:
    """Return text with its entities replaced by characters; a number that is none of a character's becomes U+FFFD, however long it is."""
    return html.unescape(_LONG_NUMBER.sub(_short_number, text)) if "&" in text else text


def _short_number(match: re.Match[str]) -> str:
    decimal, hexadecimal = match.groups()
    if len(match.group()) < _SHORT:
        return match.group()
    digits = decimal if hexadecimal is None else hexadecimal
    if not 0 < len(digits) < _SHORT:
        return "&#xFFFD;"
    return f"&#{'' if hexadecimal is None else 'x'}{digits};"


class _Reader:
    """One pass over a text. Every search that fails once is never made again, since it would fail from any later place too."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.parts = text, 0, list[str]()
        self._never: set[str] = set()

    def read(self) -> str:
        """Return the text without its markup."""
        text, kept = self.text, 0
        while (mark := text.find("<", self.at)) >= 0:
            end, name = self._markup(mark)
            if end < 0:  # it only looks like markup
                self.at = mark + 1
                continue
            self._say(kept, mark)
            self._separate(name)
            self.at = kept = end
        self._say(kept, len(text))
        return "".join(self.parts)

    def _say(self, start: int, stop: int) -> None:
        if start < stop:
            self.parts.append(unescape(self.text[start:stop]))

    def _separate(self, name: str) -> None:
        if name and name not in INLINE and self.parts and not self.parts[-1].endswith(" "):
            self.parts.append(" ")

    def _markup(self, mark: int) -> tuple[int, str]:
        """Return where the markup that begins here ends, or -1 where it is none, and the name of its element."""
        following = self.text[mark + 1 : mark + 2]
        if following == "!":
            return self._declaration(mark), ""
        if following == "?":
            return self._after(">", mark), ""
        closing = following == "/"
        found = _NAME.match(self.text, mark + 1 + closing, mark + 66)
        if not found:
            return -1, ""
        name = found.group().lower()
        if name not in _ELEMENTS and not _FOREIGN.fullmatch(name):
            return -1, ""
        end = self._tag_end(found.end())
        if end < 0 or closing or name not in HIDDEN or self.text[end - 2] == "/":
            return end, name
        return self._hidden_end(name, end), name

    def _declaration(self, mark: int) -> int:
        if self.text.startswith("<!--", mark):
            if self.text.startswith((">", "->"), mark + 4):
                return self.text.index(">", mark) + 1
            found = None if "--" in self._never else _COMMENT_END.search(self.text, mark + 4)
            if found is None:
                self._never.add("--")
                return -1
            return found.end()
        if self.text.startswith("<![CDATA[", mark):
            end = self._after("]]>", mark)
            if end >= 0:
                self.parts.append(self.text[mark + 9 : end - 3])
            return end
        return self._after(">", mark) if self.text[mark + 2 : mark + 3].isalpha() else -1

    def _after(self, what: str, start: int) -> int:
        at = -1 if what in self._never else self.text.find(what, start)
        if at < 0:
            self._never.add(what)
            return -1
        return at + len(what)

    def _tag_end(self, at: int) -> int:
        """Return the place behind the `>` of a tag, which may stand in a quoted value too; a quote that is never closed is none."""
        if ">" in self._never:
            return -1
        start = at
        while at < len(self.text) and self.text[at] != ">":
            found = _IN_TAG.match(self.text, at)
            assert found is not None  # any character but > is one of its cases
            at, quote = found.end(), found.group("quote")
            if quote:
                closed = self._after(quote, at)
                if closed < 0:
                    return self._after(">", start)
                at = closed
        if at < len(self.text):
            return at + 1
        self._never.update("\"'")  # quotes led past the last tag's end: from here on they are characters like others
        return self._after(">", start)

    def _hidden_end(self, name: str, start: int) -> int:
        found = None if name in self._never else _END[name].search(self.text, start)
        if found is None:
            return len(self.text)
        end = self._tag_end(found.end())
        return len(self.text) if end < 0 else end
