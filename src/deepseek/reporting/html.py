"""Markup that cannot be broken by what is written into it: every text is escaped unless it is `Html` already."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*\Z")
_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})

Attribute = str | int | float | bool | None


class Html(str):
    """Markup that is safe to stand in a page as it is; only this package makes it."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return any value as escaped text; characters that no page may hold are shown as `�`."""
    return value if isinstance(value, Html) else Html(escape(_CONTROL.sub("�", str(value)), quote=True))


def join(parts: Iterable[object]) -> Html:
    """Return parts one behind the other, each escaped unless it is markup."""
    return Html("".join(map(text, parts)))


def element(tag: str, *children: object, **attributes: Attribute) -> Html:
    """Return an element with its children escaped.

    Args:
        tag: The element's name.
        children: Texts, which are escaped, and markup.
        attributes: By name; an underscore in front is left out (`_class`) and others are hyphens. `None` and `False` leave the attribute
            out, `True` gives its bare name.
    """
    written = []
    for key, value in attributes.items():
        name = key.removeprefix("_").replace("_", "-")
        if not _NAME.match(name) or name.startswith("on"):
            raise ValueError(f"no attribute for a page: {name!r}")
        if value is not None and value is not False:
            written.append(f" {name}" if value is True else f' {name}="{text(value)}"')
    opened = f"<{tag}{''.join(written)}>"
    return Html(opened if tag in _VOID else f"{opened}{join(children)}</{tag}>")
