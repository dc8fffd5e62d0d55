"""A checked recipe that knows where each of its values came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, ValidationError

from deepseek.errors import Problem, RecipeError
from deepseek.recipe.document import Key, dump_document, dump_line
from deepseek.recipe.overrides import parse_path, place
from deepseek.recipe.rules import broken_rules
from deepseek.recipe.secrets import conceal_password
from deepseek.recipe.sections import RecipeSections
from deepseek.validation import problems_of, shown

Choices = dict[str | tuple[str | int, ...], tuple[Any, str]]
"""What is decided where a recipe says `auto`, or nothing: by path, the value and the reason."""
DEFAULT = "default"
_URLS = {
    "data": ("source", "test"),
    "train": ("callbacks",),
    "tune": ("storage",),
    "monitor": ("store", "notify"),
    "self_training": ("unlabelled",),
}
"""Keys that may hold the URL of a database or of a server, by section."""


class Recipe(RecipeSections):
    """A checked recipe: every key has its value, and every value an origin.

    Example:
        >>> recipe = Recipe.from_value({"data": {"source": "customers.csv", "target": "churned"}})
        >>> recipe.data.split.shares
        (0.7, 0.15, 0.15)
    """

    _given: dict[Key, str] = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default_factory=Path)

    @classmethod
    def from_value(cls, value: object, *, given: Mapping[Key, str] | None = None, folder: Path | None = None) -> Self:
        """Check plain values.

        Args:
            value: The recipe as mappings, lists and scalars.
            given: Where values came from, by place; what is not in there is a default.
            folder: The folder that relative paths start at; the working directory where not given.

        Raises:
            RecipeError: With every problem of the keys by themselves or, where those are right, of the keys to one another.
        """
        if not isinstance(value, Mapping):
            raise RecipeError([Problem("", f"a recipe is a mapping of sections; given: {shown(value)}")])
        for section, keys in _URLS.items():  # before anything of it can be shown or saved
            if isinstance(given_section := value.get(section), Mapping):
                concealed = {key: conceal_password(part) if key in keys else part for key, part in given_section.items()}
                value = {**value, section: concealed}
        try:
            recipe = cls.model_validate(value, context={"given": dict(given or {}), "folder": folder or Path()})
        except ValidationError as error:
            raise RecipeError(problems_of(error, cls, value, what="the recipe")) from None
        if problems := broken_rules(recipe):
            raise RecipeError(problems)
        return recipe

    def model_post_init(self, context: Any) -> None:
        """Take up where the values came from; pydantic calls this."""
        self._given = context["given"] if context else {}
        self._folder = context["folder"] if context else Path()

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the recipe start at."""
        return self._folder

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from: `FILE:LINE`, `--set`, `given` (from Python), `default`, or `auto: REASON`."""
        return {".".join(map(str, path)): self._origin(path) for path, _ in _leaves(self.to_value(), ())}

    def with_decisions(self, decisions: Mapping[str | Key, tuple[Any, str]]) -> Self:
        """Return the recipe with what `auto` came to, checked like any other value.

        Args:
            decisions: The value and the reason for it, by path: `{"train.batch_size": (256, "largest that fits")}`; a path
                whose keys may hold dots is a tuple.

        Raises:
            RecipeError: A path or a value is not one that a recipe could hold.
        """
        value, given = deepcopy(self.to_value()), dict(self._given)
        for path, (decided, reason) in decisions.items():
            keys = parse_path(path) if isinstance(path, str) else tuple(map(str, path))
            place(value, given, keys, new=decided, origin=f"auto: {reason}")
        return self.from_value(value, given=given, folder=self._folder)

    def to_value(self) -> dict[str, Any]:
        """Return the recipe as plain values, every default filled in; references to secrets stay as they were written."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the whole recipe as YAML; loading it gives the same recipe."""
        return dump_document(self.to_value())

    def to_short_yaml(self) -> str:
        """Return what was said, without the defaults, as YAML; with this version, loading it gives the same recipe."""
        said: dict[str, Any] = {"name": self.name}  # in another file it would become that file's name
        for path, value in _leaves(self.to_value(), ()):
            if self._origin(path) != DEFAULT:
                _put(said, path, value)
        return dump_document(said)

    def show(self) -> str:
        """Return every value with where it came from, one a line, for people."""
        rows = [(".".join(map(str, path)), dump_line(value), self._origin(path)) for path, value in _leaves(self.to_value(), ())]
        widths = [min(max(len(row[column]) for row in rows), 60) for column in (0, 1)]
        return "\n".join(f"{path:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for path, value, origin in rows)

    def _origin(self, path: Key) -> str:
        if path in self._given:
            return self._given[path]
        if path[-1] == "type" and not any(key[: len(path) - 1] == path[:-1] and len(key) >= len(path) for key in self._given):
            return self._given.get(path[:-1], DEFAULT)  # the short form: a component given by its name alone
        return DEFAULT


def _leaves(value: Any, path: Key) -> Iterator[tuple[Key, Any]]:
    """Yield the scalars, and the lists of nothing but scalars, with their places."""
    if isinstance(value, dict) and value:
        parts: Iterator[tuple[str | int, Any]] = iter(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        parts = iter(enumerate(value))
    else:
        yield path, value
        return
    for key, part in parts:
        yield from _leaves(part, (*path, key))


def _put(tree: dict[str, Any], path: Key, value: Any) -> None:
    """Set a value in nested mappings and lists; lists are filled in their order."""
    node: Any = tree
    for key, following in pairwise((*path, None)):
        if following is None:
            new = value
        elif isinstance(following, int):
            new = []
        else:
            new = {}
        if isinstance(node, list):
            if int(str(key)) == len(node):
                node.append(new)
            node = node[-1]
        else:
            node = node.setdefault(key, new)
