"""Which columns are compared how."""

from __future__ import annotations

from collections.abc import Mapping

from deepseek.fields import Kind


def twin_kinds(kinds: Mapping[str, Kind]) -> tuple[list[str], list[str], list[str]]:
    """Return which columns are compared as texts, which as pictures, and which together as a row.

    Args:
        kinds: The kinds of the input columns.
    """
    texts = [name for name, kind in kinds.items() if kind is Kind.TEXT]
    pictures = [name for name, kind in kinds.items() if kind is Kind.IMAGE]
    rest = [name for name, kind in kinds.items() if kind in (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP)]
    numbers = any(kinds[name] is Kind.NUMBER for name in rest)
    return texts, pictures, rest if numbers and not (texts or pictures) else []
