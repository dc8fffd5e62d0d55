"""`deepseek components`: what a recipe can name, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deepseek import progress
from deepseek.cli.options import Json, Plugins
from deepseek.cli.output import Output, as_table
from deepseek.registry import describe, family, list_components, load_plugin


def components_verb(
    family_name: Annotated[str | None, typer.Argument(metavar="FAMILY", help="For example optimizer; all where not given.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A component, for its arguments.")] = None,
    *,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """List what a recipe can name, or its arguments."""
    progress.quiet(as_json)
    for plugin in plugins:
        load_plugin(plugin, Path())
    if family_name is None:
        families = list_components()
        return Output(dict(families), as_table([(key, ", ".join(names)) for key, names in families.items()]))
    if name is None:
        registry = family(family_name)
        found = {key: {"summary": describe(registry.get(key))[0], "origin": registry.origin(key)} for key in registry.names()}
        return Output(found, as_table([(key, about["origin"], about["summary"]) for key, about in found.items()]))
    return _one(family_name, name)


def _one(family_name: str, name: str) -> Output:
    registry = family(family_name)
    summary, help_of = describe(registry.get(name))
    properties = registry.schema(name).model_json_schema()
    arguments = {
        key: {
            "type": _type_text(shape, properties.get("$defs", {})),
            "default": shape.get("default", "required"),
            "help": help_of.get(key, ""),
        }
        for key, shape in properties.get("properties", {}).items()
    }
    result = {"family": family_name, "name": name, "origin": registry.origin(name), "summary": summary, "arguments": arguments}
    rows = [(key, about["type"], _default_text(about["default"]), about["help"]) for key, about in arguments.items()]
    head = f"{name} ({family_name}, {result['origin']})\n{summary}"
    return Output(result, f"{head}\n\n{as_table(rows)}" if rows else f"{head}\n\nno arguments")


def _default_text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _type_text(shape: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return a JSON Schema type in a few words: `integer, at least 1`."""
    if "$ref" in shape:
        return _type_text(definitions.get(shape["$ref"].rpartition("/")[2], {}), definitions)
    if "x-family" in shape:
        return " or ".join([*shape.get("x-words", []), shape["x-family"]])
    for key in ("anyOf", "oneOf"):
        if key in shape:
            return " or ".join(dict.fromkeys(_type_text(one, definitions) for one in shape[key]))
    if "const" in shape or "enum" in shape:
        return " | ".join(map(str, shape.get("enum", [shape.get("const")])))
    text = f"list of {_type_text(shape['items'], definitions)}" if isinstance(shape.get("items"), dict) else str(shape.get("type", "any"))
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join([text, *(f"{word} {shape[key]:g}" for key, word in words.items() if key in shape)])
