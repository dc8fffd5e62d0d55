"""What a recipe's pre-trained encoders ask of its data: their own tokenizer, and the size, mean and spread of their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepseek.fields import Kind
from deepseek.recipe import Choices, Recipe

_PRESETS = {"text_pretrained": Kind.TEXT.value, "image_timm": Kind.IMAGE.value}
"""Models that are one encoder for all inputs of a kind, and that kind."""


def is_pretrained(model: Any) -> bool:
    """Say whether any part of a model begins with weights that were trained before.

    Args:
        model: A model's spec, or `auto`.
    """
    return any(spec["pretrained"] for _, spec in _with_checkpoints(model, ()))


def pretrained_choices(recipe: Recipe) -> Choices:
    """Return what follows from the checkpoints that a recipe's model names: where they are, and how their inputs are prepared.

    A relative path begins at the recipe's folder. What the recipe itself says of a column's transform stands.

    Args:
        recipe: The recipe.

    Raises:
        InputError: A checkpoint is not there, or does not say what is needed.
    """
    choices: Choices = {}
    for path, named in _with_checkpoints(recipe.model, ("model",)):
        given, spec = named["pretrained"], named
        rooted = recipe.folder / given if isinstance(given, str) else None
        if rooted is not None and not Path(given).exists() and rooted.exists():
            choices[(*path, "pretrained")] = (str(rooted.absolute()), "relative to the recipe")
            spec = {**spec, "pretrained": str(rooted.absolute())}
        if path == ("model", "encoder") and spec["type"] == "text_pretrained":
            words = {"type": "words", "pretrained": spec["pretrained"]}
            for kind in (Kind.TEXT.value, Kind.TAGS.value):
                if kind not in recipe.data.transforms:
                    choices[("data", "transforms", kind)] = (words, f"as {spec['pretrained']} was trained")
            continue
        column = _input_of(path, spec)
        if column is None or not spec["pretrained"]:
            continue
        transform = _transform_for(spec)
        if transform and column not in recipe.data.transforms:
            choices[("data", "transforms", column)] = (transform, f"as {spec['pretrained']} was trained")
    return choices


def _with_checkpoints(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Yield the specs that name a checkpoint, and where they stand."""
    if isinstance(value, Mapping):
        if value.get("pretrained"):
            yield path, value
        for key, part in value.items():
            yield from _with_checkpoints(part, (*path, key))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from _with_checkpoints(part, (*path, place))


def _input_of(path: tuple[str | int, ...], spec: Mapping[str, Any]) -> str | None:
    """Return the column or kind whose inputs an encoder at a place reads; nothing where it is of no kind that is prepared for it."""
    if path == ("model",):
        return _PRESETS.get(spec["type"])
    return str(path[2]) if path[:2] == ("model", "encoders") and len(path) > 2 else None


def _transform_for(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    if spec["type"] == "text_pretrained":
        return {"type": "text_pretrained", "pretrained": spec["pretrained"], "max_tokens": "auto"}
    if spec["type"] == "image_timm":
        from deepseek.models.encoders.image_timm import image_standard

        return {"type": "image", **image_standard(spec["architecture"], spec["pretrained"]), "missing": "mean"}
    return None
