"""Recipe files as text: YAML to plain values and the line of every key, and back.

The reader takes the part of YAML that people mean and none of its traps: `no`, `on`, `12:30`, `010` and dates stay text, `1e-5` is a
number, a key that stands twice is an error. Nesting and the size after aliases are bounded before anything is built, so that no file,
however hostile, costs more than its own size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deepseek.errors import InputError, Problem, RecipeError, closest

Key = tuple[str | int, ...]
"""A place in a document: the keys and indices that lead to it."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 100_000
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".arrow", ".feather", ".jsonl", ".ndjson", ".npz", ".xlsx"})
"""Endings of files that hold rows, and no recipe."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | float | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan"),
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A recipe file, read.

    Attributes:
        value: Mappings, lists and scalars.
        lines: The line of every key and list item, counted from 1.
        file: The file's name, for messages.
    """

    value: Any
    lines: Mapping[Key, int]
    file: str


def read_document(path: Path) -> Document:
    """Read a recipe file.

    Raises:
        InputError: There is no such file, or it is a table.
        RecipeError: It is no UTF-8 text, or no YAML that a recipe may use; the problems name file and line.
    """
    if path.suffix.lower() in _TABLES:
        raise InputError(f"{str(path)!r} is a table, and no recipe", hint=f"train on it with: deepseek train {path} --target COLUMN")
    try:
        raw = path.read_bytes()
    except OSError as error:
        near = closest(path.name, (other.name for other in path.parent.glob("[!.]*"))) if path.parent.is_dir() else None
        hint = f"{f'did you mean {str(path.with_name(near))!r}? ' if near else ''}give a YAML file, or the folder of a run"
        raise InputError(f"the recipe {str(path)!r} cannot be read: {error.strerror or error}", hint=hint) from None
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no path: {error}", hint="give the path of a YAML file") from None
    if len(raw) > MAX_BYTES:
        raise _refusal(f"the file has {len(raw)} bytes; a recipe has at most {MAX_BYTES}", path.name)
    try:
        return parse_document(raw.decode("utf-8-sig"), path.name)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refusal(f"the file is not UTF-8 text (byte {raw[error.start]:#04x}); save it as UTF-8", path.name, line) from None


def parse_document(text: str, file: str) -> Document:
    """Parse the text of a recipe.

    Args:
        text: YAML, one document.
        file: What messages call the text.

    Raises:
        RecipeError: The text is no YAML, or uses what a recipe may not: tags, merge keys, doubled keys, several documents.
    """
    try:
        _survey(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    builder = _Builder(file)
    value = None if node is None else builder.build(node, ())
    if builder.problems:
        raise RecipeError(builder.problems)
    return Document(value, builder.lines, file)


def parse_value(text: str) -> Any:
    """Parse one value by the rules of a recipe, as it stands behind `--set key=`: a scalar, or a list or mapping in flow style.

    Text that YAML reserves the first character of (`*.csv`) is text.

    Example:
        >>> parse_value("[1e-3, no, 010]")
        [0.001, 'no', '010']
    """
    return text if text[:1] in tuple("*&!%@`|>") else parse_document(text, "--set").value


def dump_document(value: Any) -> str:
    """Return plain values as YAML that `parse_document` reads back as the same values; keys keep their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def dump_line(value: Any) -> str:
    """Return plain values as one line of YAML, in flow style."""
    return str(yaml.dump([value], Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9)).strip()[1:-1]


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means.

    Example:
        >>> [resolve_scalar(text) for text in ("1e-5", "no", "010", "12:30", "2024-01-01", "~")]
        [1e-05, 'no', '010', '12:30', '2024-01-01', None]
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _refusal(message: str, file: str, line: int | None = None, path: str = "") -> RecipeError:
    return RecipeError([Problem(path, message, file, line)])


def _line(part: yaml.Event | yaml.Node) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _survey(text: str, file: str) -> None:
    """Go over the text once without building anything, and refuse what must not be built."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = _line(event)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refusal("a second document starts here; a recipe is one document", file, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _refusal(f"more than {MAX_DEPTH} levels are nested here", file, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _refusal(f"the tag {tag!r} is not allowed; a recipe holds plain values", file, line)


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> RecipeError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a character that YAML forbids: the reader gives its position alone
        position = getattr(error, "position", 0)
        return _refusal(
            f"the text holds a character that YAML does not allow: {error}".split("\n", 1)[0], file, text.count("\n", 0, position) + 1
        )
    lines = text.splitlines() or [""]
    number = min(mark.line, len(lines) - 1)  # what is missing at the end is missed one line behind it
    indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    if "\t" in indent or "'\\t'" in str(error):
        return _refusal("a tab stands where YAML wants spaces; indent with spaces", file, number + 1)
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    return _refusal(f"this is no valid YAML: {', '.join(part for part in parts if part)}", file, number + 1)


@dataclass
class _Builder:
    file: str
    lines: dict[Key, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _nodes: int = 0
    _open: set[int] = field(default_factory=set)

    def build(self, node: yaml.Node, path: Key) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refuse(node, path, f"aliases blow the recipe up to more than {MAX_NODES} values")
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style else resolve_scalar(node.value)
        if id(node) in self._open or len(path) > MAX_DEPTH:
            raise self._refuse(node, path, "an alias leads back into itself, or too deep")
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.discard(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: Key) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, value_node in node.value:
            wrong = _wrong_key(key_node)
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            place = (*path, key)
            if wrong or key in value:
                message = wrong or f"the key {key!r} stands twice; the first is in line {self.lines[place]}"
                self.problems.append(self._refuse(key_node, place, message).problems[0])
                continue
            self.lines[place] = _line(key_node)
            value[key] = self.build(value_node, place)
        return value

    def _sequence(self, node: yaml.Node, path: Key) -> list[Any]:
        value = []
        for index, item in enumerate(node.value):
            self.lines[*path, index] = _line(item)
            value.append(self.build(item, (*path, index)))
        return value

    def _refuse(self, node: yaml.Node, path: Key, message: str) -> RecipeError:
        return _refusal(message, self.file, _line(node), ".".join(map(str, path)))


def _wrong_key(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be text, not a list or a mapping"
    if node.style:
        return None
    if node.value == "<<":
        return "merge keys (<<) are not supported; repeat the values"
    meaning = resolve_scalar(node.value)
    return None if isinstance(meaning, str) else f"a key must be text; write {node.value!r} in quotes"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote what this reader, unlike PyYAML's, would not take for text."""
    plain = isinstance(resolve_scalar(text), str) and text != "<<"
    style = '"' if re.search("[\n\x85\u2028\u2029]", text) else None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
