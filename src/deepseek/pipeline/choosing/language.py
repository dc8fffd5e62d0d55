"""What follows from a recipe's task where it is about the tokens of a text: which columns are read, and how the text is split."""

from __future__ import annotations

from collections.abc import Mapping

from deepseek.data.sources.corpus import DOCUMENT, PLACE, TEXT
from deepseek.fields import Kind
from deepseek.recipe import Choices, Recipe


def language_choices(recipe: Recipe) -> Choices:
    """Return what a language model's recipe leaves unsaid of its data.

    The pieces of a corpus are one text: they are read on, and its end is what is validated and tested with. What the recipe says stands.

    Args:
        recipe: The recipe.
    """
    task, data = recipe.task, recipe.data
    if not isinstance(task, Mapping) or task["type"] != "language_modelling":
        return {}
    if not isinstance(data.source, Mapping) or data.source.get("type") != "corpus":
        return {}
    choices: Choices = {("data", "fields", TEXT): (Kind.TEXT.value, "what the files hold")}
    unused = [name for name in (PLACE, DOCUMENT) if name not in data.drop and name not in data.fields]
    choices["data.drop"] = ([*data.drop, *unused], "they say where a piece stands, not what it says")
    transform = dict(data.transforms.get(TEXT) or {"type": "tokens"})
    if "documents" not in transform or TEXT not in data.transforms:
        choices[("data", "transforms", TEXT)] = ({**transform, "documents": False}, "the pieces of a corpus are one text")
    split = data.split
    if not (split.group or split.time or split.column or split.folds):
        choices["data.split.time"] = (PLACE, "the text goes on from piece to piece: its end is kept for validation and test")
    return choices
