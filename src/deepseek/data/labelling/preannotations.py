"""A model's answers as pre-annotations, and labelling set-ups for what a model predicts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import numpy as np

from deepseek.data.labelling.shapes import Box, Polygon, box_value, polygon_value
from deepseek.data.labelling.spans import Span

Order = Literal["least_confident", "margin", "entropy", "as_is"]
ROW = "deepseek_row"
"""The field of a task that says which row it is, so that none is pushed a second time."""


def choices_result(names: Sequence[str], *, control: str, to: str) -> list[dict[str, Any]]:
    """Return chosen names as the result of a control.

    Args:
        names: What is chosen.
        control: The control's name.
        to: The object that it belongs to.
    """
    return [{"from_name": control, "to_name": to, "type": "choices", "value": {"choices": list(names)}}] if names else []


def spans_result(text: str, spans: Sequence[Span], *, control: str, to: str) -> list[dict[str, Any]]:
    """Return stretches of a text as the result of a control; the arguments are those of `choices_result`."""
    return [
        {
            "from_name": control,
            "to_name": to,
            "type": "labels",
            "value": {"start": span.start, "end": span.end, "text": text[span.start : span.end], "labels": [span.label]},
        }
        for span in spans
    ]


def shapes_result(shapes: Sequence[Box | Polygon], size: tuple[int, int], *, control: str, to: str) -> list[dict[str, Any]]:
    """Return boxes and polygons in pixels as the result of a control.

    Args:
        shapes: The boxes or polygons.
        size: The picture's width and height in pixels.
        control: The control's name.
        to: The object that it belongs to.
    """
    made = []
    for shape in shapes:
        kind, value = (
            ("rectanglelabels", box_value(shape, size)) if isinstance(shape, Box) else ("polygonlabels", polygon_value(shape, size))
        )
        result = {"from_name": control, "to_name": to, "type": kind, "value": {**value, kind: [shape.label]}}
        made.append({**result, "original_width": size[0], "original_height": size[1], "image_rotation": 0})
    return made


def doubt(probability: np.ndarray, order: Order) -> np.ndarray:
    """Return how unsure answers are, larger for less sure, float64 `[n]` (Settles, "Active learning literature survey", 2009).

    Args:
        probability: Of each class, `[n, classes]`.
        order: `least_confident` goes by the likeliest class, `margin` by how far it is ahead of the next, `entropy` by all.
    """
    if order == "as_is":
        return np.zeros(len(probability))
    values = probability.astype(np.float64)
    if order == "entropy":
        known = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
        return np.asarray(-(known * np.log(np.maximum(known, 1e-300))).sum(axis=1))
    ranked = np.sort(values, axis=1)
    return np.asarray(1.0 - ranked[:, -1] if order == "least_confident" else 1.0 - (ranked[:, -1] - ranked[:, -2]))


def row_key(row: Mapping[str, Any]) -> str:
    """Return a key of a row's content."""
    text = json.dumps({key: value for key, value in row.items() if key != ROW}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def labelling_config(fields: Mapping[str, str], classes: Sequence[str], *, control: str, multiple: bool = False) -> str:
    """Return a labelling set-up: every field shown, and the classes to choose from.

    Args:
        fields: By name, `image` or `text`.
        classes: The names to choose from.
        control: The control's name; that of the target, so that what is pulled has its column.
        multiple: Whether several can be chosen.
    """
    shown = [
        f"  <{'Image' if kind == 'image' else 'Text'} name={quoteattr(object_name(name))} value={quoteattr(f'${name}')}/>"
        for name, kind in fields.items()
    ]
    to = object_name(next(iter(fields)))
    choice = "multiple" if multiple else "single"
    names = [f"    <Choice value={quoteattr(name)}/>" for name in classes]
    head = f"  <Choices name={quoteattr(control)} toName={quoteattr(to)} choice={quoteattr(choice)}>"
    return "\n".join(["<View>", *shown, head, *names, "  </Choices>", "</View>"])


def object_name(field: str) -> str:
    """Return the name of the object that shows a field: letters, digits and `_` alone, and not the control's."""
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', field)}_"
