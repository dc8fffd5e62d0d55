"""The JSON Schema of recipes, for editors: completion and help while typing."""

from __future__ import annotations

from typing import Any

from deepseek.components import FAMILIES
from deepseek.recipe.sections import RecipeSections
from deepseek.registry import family


def json_schema() -> dict[str, Any]:
    """Return the schema of a recipe, every component's arguments included; this imports every component."""
    schema = RecipeSections.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for name in FAMILIES:
        definitions[_definition(name)] = _family_schema(name, definitions)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "deepseek recipe"
    linked: dict[str, Any] = _link(schema)
    return linked


def _definition(family_name: str) -> str:
    return f"component-{family_name}"


def _family_schema(family_name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    registry = family(family_name)
    names = registry.names()
    whole = []
    for name in names:
        one = registry.schema(name).model_json_schema()
        definitions.update(one.pop("$defs", {}))
        one["properties"] = {"type": {"const": name}, **one.get("properties", {})}
        one["required"] = ["type", *one.get("required", [])]
        whole.append(one)
    return {"title": f"{family_name} component", "oneOf": [{"enum": names}, *whole]}


def _link(node: Any) -> Any:
    """Replace the marks that `component` left by references to the families' definitions."""
    if isinstance(node, list):
        return [_link(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "x-family" not in node:
        return {key: _link(item) for key, item in node.items()}
    rest = {key: item for key, item in node.items() if key not in ("x-family", "x-words")}
    reference = {"$ref": f"#/$defs/{_definition(node['x-family'])}"}
    words = node.get("x-words")
    return {**rest, "anyOf": [{"enum": words}, reference]} if words else {**rest, **reference}
