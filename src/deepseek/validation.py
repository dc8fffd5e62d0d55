"""How values from outside are checked: exact scalar types, and pydantic's complaints in the words of a recipe.

pydantic is imported inside the functions, so that naming a component or raising an error costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import EllipsisType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from deepseek.errors import InputError, Problem, RecipeError, UnknownNameError, closest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_WORDS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_SHOWN_CHARACTERS = 120
_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (in quotes, where it looks like something else)",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a section (a mapping of keys)",
    "none_required": "null",
    "invalid_key": "under a key that is text",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


def as_flag(value: object) -> object:
    """Turn the words yes, no, on and off (and any case of true and false) into a boolean; leave everything else as it is."""
    return _WORDS.get(value.casefold(), value) if isinstance(value, str) else value


def exact(annotation: Any) -> Any:
    """Return an annotation whose numbers and booleans take nothing else in their place.

    Left alone, pydantic reads `"010"` as ten, `true` as the number 1 and `1` as true. Whoever wrote that meant something else. Whole
    numbers stay welcome where a number is wanted; infinity and NaN are not.

    Args:
        annotation: A type, however deep: `dict[str, list[int] | None]` is treated as well.

    Example:
        >>> from pydantic import TypeAdapter
        >>> TypeAdapter(exact(list[float])).validate_python([1, 0.5])
        [1.0, 0.5]
    """
    from pydantic import AllowInfNan, BeforeValidator, Strict

    if annotation is int:
        return Annotated[int, Strict()]
    if annotation is float:
        return Annotated[float, Strict(), AllowInfNan(False)]
    if annotation is bool:
        return Annotated[bool, Strict(), BeforeValidator(as_flag)]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal or origin is Callable or isinstance(annotation, EllipsisType) or not arguments:
        return annotation
    if origin is Annotated:
        return Annotated[(exact(arguments[0]), *arguments[1:])]
    inner = tuple(exact(argument) for argument in arguments)
    return Union[inner] if origin in (Union, UnionType) else origin[inner]  # noqa: UP007 - the parts are known at run time only


def checked(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function as pydantic wants it: an `InputError` becomes a `ValueError`, out of which `problems_of` takes it again."""

    def check(value: object) -> object:
        try:
            return function(value)
        except InputError as error:
            raise ValueError(error) from error

    return check


def problems_of(error: ValidationError, model: type[BaseModel], given: object, *, what: str) -> list[Problem]:
    """Turn pydantic's complaints into problems that name what was given, what is allowed and what was probably meant.

    pydantic reports every alternative of a union by itself; here a key has one problem. Where one alternative got further into the value
    than the others (a section with a wrong key inside), only what it found there is reported.

    Args:
        error: What pydantic raised.
        model: The model that was asked.
        given: The value that was validated; it tells keys from pydantic's names of alternatives in a location.
        what: What the model describes, for messages about its own keys: `"the recipe"`, `"optimizer 'adamw'"`.
    """
    sentences: dict[str, list[Problem]] = {}
    wanted: dict[str, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        keys = tuple(_keys(item, given))
        path = ".".join(keys)
        found = _sentences(item, keys, model, what)
        if found:
            sentences.setdefault(path, []).extend(found)
        else:
            wanted.setdefault(path, []).append(item)
    reached = {problem.path for found in sentences.values() for problem in found} | set(wanted)
    problems = [problem for found in sentences.values() for problem in found]
    for path, items in wanted.items():
        if path not in sentences and not any(other.startswith(f"{path}.") for other in reached):
            problems.append(_unwanted(path, items))
    return list(dict.fromkeys(problems))


def _keys(item: ErrorDetails, given: object) -> Iterator[str]:
    """Yield the parts of a location that are keys or indices of the value, leaving out pydantic's names of alternatives."""
    last = len(item["loc"]) - 1
    for depth, part in enumerate(item["loc"]):
        inside = part in given if isinstance(given, Mapping) else isinstance(given, list | tuple) and part in range(len(given))
        if inside:
            given = given[part]  # type: ignore[index]  # a mapping or a sequence, as was just asked
        elif depth and not (depth == last and item["type"] == "missing"):
            continue
        yield str(part)


def _sentences(item: ErrorDetails, keys: tuple[str, ...], model: type[BaseModel], what: str) -> list[Problem]:
    path, owner = ".".join(keys), ".".join(keys[:-1]) or what
    if item["type"] == "extra_forbidden":
        allowed = sorted(_allowed(model, item["loc"][:-1]))
        message = f"unknown key {keys[-1]!r} of {owner}; allowed: {', '.join(allowed) or 'none'}"
        return [Problem(path, message, suggestion=closest(keys[-1], allowed))]
    if item["type"] == "missing":
        return [Problem(path, f"the key {keys[-1]!r} of {owner} is required")]
    cause = item.get("ctx", {}).get("error")
    nested = next(iter(getattr(cause, "args", ())), None)
    if isinstance(nested, RecipeError):
        return [replace(problem, path=".".join(filter(None, (path, problem.path)))) for problem in nested.problems]
    if isinstance(nested, UnknownNameError):
        return [Problem(path, nested.message, suggestion=nested.suggestion)]
    if isinstance(nested, InputError):
        return [Problem(path, "; ".join(filter(None, (nested.message, nested.hint))))]
    if cause is not None:
        return [Problem(path, f"{cause}; given: {shown(item['input'])}")]
    return []


def _unwanted(path: str, items: list[ErrorDetails]) -> Problem:
    given = items[0]["input"]
    choices = [choice for item in items if item["type"] == "literal_error" for choice in re.findall(r"'([^']*)'", item["ctx"]["expected"])]
    message = f"must be {' or '.join(dict.fromkeys(map(_wanted, items)))}; given: {shown(given)}"
    return Problem(path, message, suggestion=closest(given, choices) if isinstance(given, str) else None)


def _wanted(item: ErrorDetails) -> str:
    if item["type"] == "literal_error":
        return str(item["ctx"]["expected"])
    if item["type"] in _BOUNDS:
        key, words = _BOUNDS[item["type"]]
        return f"{words} {item['ctx'][key]}"
    return _WANTED.get(item["type"], f"such that: {item['msg'][:1].lower()}{item['msg'][1:]}")


def shown(value: object) -> str:
    """Return a value for a message: its `repr`, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _allowed(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Return the keys allowed at a location: those of every model that can stand there."""
    models = [model]
    for part in location:
        named = [candidate for candidate in models if candidate.__name__ == part]
        fields = [candidate.model_fields[part] for candidate in models if isinstance(part, str) and part in candidate.model_fields]
        models = named or [inner for field in fields for inner in _models(field.annotation)] or models
    return {key for candidate in models for key in candidate.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
