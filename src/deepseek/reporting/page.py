"""A page and its parts: sections, key figures, tables, notes, code, cards, pictures.

Every part is a function that returns markup; a page is its title and a list of sections, each with its parts:

```python
page = Page("Churn", subtitle="customers.csv", facts=[("rows", 10_000)])
page.section("Result", tiles([Tile("AUC", 0.91, "0.89 to 0.93")]), table(["class", "rows"], [["yes", 120], ["no", 880]]))
Path("churn.html").write_text(page.render(), encoding="utf-8")
```

Whatever is given is escaped, unless it is `Html` that this package made.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from deepseek.reporting.html import Html, element, join, text
from deepseek.reporting.numbers import number
from deepseek.reporting.style import policy, script, style

LONG = 40
"""A text of more characters may be broken inside its cell."""

_PICTURE = re.compile(r"image/(png|jpeg|webp|gif)\Z")


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure: what it is called, its value (a number is formatted), and a note below."""

    label: str
    value: object
    note: str = ""


class Page:
    """One page, which asks nothing of any other machine: styles, drawings, pictures and script are inside.

    Args:
        title: The title, also of the browser's tab.
        subtitle: One line below it.
        facts: Short facts on top: what and its value.
        language: The page's language, as in `lang`.
    """

    def __init__(self, title: str, *, subtitle: str = "", facts: Sequence[tuple[str, object]] = (), language: str = "en") -> None:
        self.title, self.subtitle, self.facts, self.language = title, subtitle, tuple(facts), language
        self._sections: list[tuple[str, str, Html]] = []

    def section(self, title: str, *parts: object, note: str = "") -> None:
        """Add a section; without any part that says something it is left out.

        Args:
            title: The heading; the table of contents on top links to it.
            parts: Markup and texts in order; a text becomes a paragraph.
            note: A paragraph below the heading, in quiet colour.
        """
        body = join(part if isinstance(part, Html) else paragraph(part) for part in parts if part)
        if body:
            start = element("p", note, _class="quiet") if note else ""
            self._sections.append((self._anchor(title), title, join([start, body])))

    def render(self) -> str:
        """Return the page as one HTML document."""
        head = join(
            [
                element("meta", charset="utf-8"),
                Html(f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("meta", name="color-scheme", content="light dark"),
                element("meta", name="referrer", content="no-referrer"),
                element("title", self.title),
                Html(f"<style>{style()}</style><script>{script()}</script>"),
            ]
        )
        page = element("div", self._top(), element("main", *self._bodies()), _class="page")
        return f"<!DOCTYPE html>\n{element('html', element('head', head), element('body', page), lang=self.language)}\n"

    def _top(self) -> Html:
        titles = element("div", element("h1", self.title), element("p", self.subtitle, _class="quiet") if self.subtitle else "")
        switch = element("button", "Dark theme", type="button", _class="theme", hidden=True)
        links = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in self._sections]
        contents = element("nav", element("ul", *links), _class="contents", aria_label="Contents") if len(links) > 1 else ""
        return join([element("header", titles, switch, _class="top"), facts(self.facts), contents])

    def _bodies(self) -> list[Html]:
        return [element("section", element("h2", title, id=anchor), body) for anchor, title, body in self._sections]

    def _anchor(self, title: str) -> str:
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        taken = {anchor for anchor, _, _ in self._sections}
        return next(name for n in range(1, len(taken) + 2) if (name := plain if n == 1 else f"{plain}-{n}") not in taken)


def paragraph(value: object, *, quiet: bool = False) -> Html:
    """Return a paragraph."""
    return element("p", value, _class="quiet" if quiet else None)


def heading(value: object) -> Html:
    """Return a heading inside a section."""
    return element("h3", value)


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Return short facts in one flowing line: what and its value."""
    listed = [element("div", element("dt", name), element("dd", _shown(value))) for name, value in pairs]
    return element("dl", *listed, _class="facts") if listed else Html()


def tiles(figures: Iterable[Tile]) -> Html:
    """Return key figures side by side."""
    made = [
        element("div", element("span", t.label), element("b", _shown(t.value)), element("span", t.note), _class="tile") for t in figures
    ]
    return element("div", *made, _class="tiles") if made else Html()


def table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str = "", sortable: bool = False, head_first: bool = True
) -> Html:
    """Return a table; numbers are formatted and stand right, and the table scrolls by itself where it is wider than the screen.

    Args:
        columns: The headings.
        rows: Each with a cell for every column: a number, a text, markup, or `Value` for a text that sorts as a number; `None` is empty.
        caption: What the table shows.
        sortable: Whether a click on a heading sorts (with script).
        head_first: Whether a row's first cell is the heading of the row.

    Raises:
        ValueError: A row has another number of cells than there are columns.
    """
    listed = [list(row) for row in rows]
    if any(len(row) != len(columns) for row in listed):
        raise ValueError(f"a row has not the {len(columns)} cells of the table {caption!r}")
    numeric = [any(_is_number(row[place]) for row in listed) for place in range(len(columns))]
    heads = [element("th", name, scope="col", _class="number" if right else None) for name, right in zip(columns, numeric, strict=True)]
    lines = [element("tr", *(_cell(cell, numeric[n], head_first and n == 0) for n, cell in enumerate(row))) for row in listed]
    parts = [element("caption", caption) if caption else "", element("thead", element("tr", *heads)), element("tbody", *lines)]
    made = element("table", *parts, _class="sortable" if sortable else None)
    return element("div", made, _class="scroll", tabindex="0", role="region", aria_label=caption or "table") if listed else Html()


@dataclass(frozen=True, slots=True)
class Value:
    """A cell that is shown in one way and sorted by a number: `Value("12.3 %", 0.123)`."""

    shown: str
    value: float | None


def callout(message: object, *, kind: Literal["info", "warning", "error", "good"] = "info", title: str = "") -> Html:
    """Return a note that stands out."""
    return element("div", element("b", title) if title else "", message, _class=f"callout {kind}", role="note")


def code(value: str, *, copy: bool = True) -> Html:
    """Return text as it is, with a button that copies it (with script)."""
    button = element("button", "Copy", type="button", _class="copy", hidden=True) if copy else ""
    return element("div", button, element("pre", element("code", value), tabindex="0"), _class="code")


def details(summary: object, *parts: object, opened: bool = False) -> Html:
    """Return parts that a click unfolds, without script."""
    return element("details", element("summary", summary), *parts, open=opened)


def items(values: Iterable[object]) -> Html:
    """Return a list of points."""
    listed = [element("li", value) for value in values]
    return element("ul", *listed) if listed else Html()


def charts(*figures: Html) -> Html:
    """Return charts side by side, below each other where the screen is narrow."""
    given = [figure for figure in figures if figure]
    return element("div", *given, _class="charts") if given else Html()


def card(title: object, pairs: Iterable[tuple[str, object]] = (), *parts: object) -> Html:
    """Return one example: its title, its values, and parts such as a picture or a text."""
    listed = [join([element("dt", name), element("dd", _shown(value))]) for name, value in pairs]
    return element("div", element("b", title), element("dl", *listed) if listed else "", *parts, _class="card")


def cards(made: Iterable[Html]) -> Html:
    """Return cards side by side."""
    listed = list(made)
    return element("div", *listed, _class="cards") if listed else Html()


def picture(content: bytes, mime: str, *, description: str, width: int | None = None) -> Html:
    """Return a picture inside the page.

    Args:
        content: The encoded picture; keep it small, for it becomes a third larger.
        mime: `image/jpeg`, `image/png`, `image/webp` or `image/gif`.
        description: What it shows, for those who do not see it.
        width: Pixels on the screen.

    Raises:
        ValueError: It is no such picture.
    """
    if not _PICTURE.match(mime):
        raise ValueError(f"no picture for a page: {mime!r}")
    data = f"data:{mime};base64,{b64encode(content).decode()}"
    return element("figure", element("img", src=data, alt=description, width=width), _class="picture")


def shortened(value: str, most: int = 280) -> str:
    """Return a text with at most so many characters, and how many more there are."""
    return value if len(value) <= most else f"{value[:most]}… ({len(value) - most:,} more characters)"


def _is_number(value: object) -> bool:
    return isinstance(value, Value) or (isinstance(value, Real) and not isinstance(value, bool))


def _shown(value: object) -> Html:
    if isinstance(value, Value):
        return text(value.shown)
    if value is None:
        return Html()
    if isinstance(value, bool):
        return text("yes" if value else "no")
    if isinstance(value, Real):
        given = float(value)
        return text(number(int(given) if given.is_integer() and abs(given) < 1e15 else given))
    return text(value)


def _cell(value: object, numeric: bool, head: bool) -> Html:
    shown = _shown(value)
    sort = value.value if isinstance(value, Value) else float(value) if _is_number(value) and isinstance(value, Real) else None
    style = "number" if numeric else "long" if len(shown) > LONG and not isinstance(value, Html) else None
    data = repr(float(sort)) if sort is not None else "nan" if numeric else None
    if head:
        return element("th", shown, scope="row", _class=style, data_value=data)
    return element("td", shown, _class=style, data_value=data)
