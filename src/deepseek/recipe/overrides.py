"""Overrides from the command line, `train.epochs=5`: parsed like the recipe itself and put in their place."""

from __future__ import annotations

import re
from typing import Any

from deepseek.errors import Problem, RecipeError
from deepseek.recipe.document import Key, parse_value
from deepseek.validation import shown

OVERRIDE = "--set"
"""The origin of a value that an override brought."""

_PART = re.compile(r'"([^"]+)"|([^".=\s]+)')
_PATH = re.compile(rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*")
_OVERRIDE = re.compile(rf"\s*(?P<path>{_PATH.pattern})\s*=(?P<value>.*)", re.DOTALL)


def parse_path(text: str) -> tuple[str, ...]:
    """Return the parts of a path with dots; a part with a dot of its own stands in double quotes.

    Raises:
        RecipeError: It is no path.

    Example:
        >>> parse_path('data.fields."a.b"')
        ('data', 'fields', 'a.b')
    """
    if not _PATH.fullmatch(text):
        raise RecipeError([Problem(text, "is no path of keys, like train.epochs", OVERRIDE)])
    return tuple(quoted or plain for quoted, plain in _PART.findall(text))


def apply_override(value: dict[str, Any], given: dict[Key, str], text: str) -> None:
    """Put one override into a recipe's plain values, in place.

    Args:
        value: The recipe; sections on the way are made where they are missing.
        given: Origins by place, kept up to date.
        text: `PATH=VALUE`, the value by the rules of a recipe.

    Raises:
        RecipeError: It has no `=`, its path leads nowhere, or its value is no YAML.
    """
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        raise RecipeError([Problem("", f"the override {shown(text)} is not of the form PATH=VALUE", OVERRIDE)])
    path, written = match["path"], match["value"]
    try:
        parsed = parse_value(written.strip())
    except RecipeError as error:
        raise RecipeError([Problem(path, f"{error.problems[0].message}; quote the value", OVERRIDE)]) from None
    place(value, given, parse_path(path), new=parsed, origin=OVERRIDE)


def place(value: dict[str, Any], given: dict[Key, str], keys: tuple[str, ...], *, new: Any, origin: str) -> None:
    """Set the value at a place, in place, and note its origin and that of everything inside it.

    A component that stands there by its name alone becomes a mapping when one of its arguments is set.

    Raises:
        RecipeError: Something on the way is neither a mapping, a list nor a name, or an index is out of range.
    """
    here: Any = value
    path: list[str | int] = []
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            if not (key.isdecimal() and int(key) < len(here)):
                allowed = f"0 to {len(here) - 1}" if here else "none, the list is empty"
                raise RecipeError([Problem(".".join(keys), f"{key!r} is no index of this list; allowed: {allowed}", origin)])
            slot: str | int = int(key)
        elif isinstance(here, dict):
            slot = key
            if key not in here:
                here[key] = {}
                given[*path, key] = origin
        else:
            raise RecipeError([Problem(".".join(keys), f"{'.'.join(map(str, path))} is {shown(here)}, which has no keys", origin)])
        path.append(slot)
        if last:
            here[slot] = new
        elif isinstance(here[slot], str):
            here[slot] = {"type": here[slot]}
            given[*path, "type"] = given.get(tuple(path), origin)
        here = here[slot]
    for known in [known for known in given if known[: len(path)] == tuple(path)]:
        del given[known]
    mark(given, new, path=tuple(path), origin=origin)


def mark(given: dict[Key, str], value: Any, *, path: Key, origin: str) -> None:
    """Note the origin of a value and of everything inside it."""
    given[path] = origin
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        mark(given, item, path=(*path, key), origin=origin)
