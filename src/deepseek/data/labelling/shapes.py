"""Boxes and polygons: percent of the picture, as Label Studio has them, and pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepseek.errors import DataError


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels.

    Attributes:
        x: Its left edge.
        y: Its upper edge.
        width: How wide it is.
        height: How high it is.
        label: What it shows.
        rotation: By how many degrees it is turned clockwise about its upper left corner.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    rotation: float = 0.0


@dataclass(frozen=True)
class Polygon:
    """A polygon in pixels.

    Attributes:
        points: Its corners, x and y, in order; at least three.
        label: What it shows.
    """

    points: tuple[tuple[float, float], ...]
    label: str


def box_from(value: Mapping[str, Any], size: tuple[int, int], label: str) -> Box:
    """Return a box in pixels.

    Args:
        value: `x`, `y`, `width`, `height` in percent of the picture, and `rotation` in degrees.
        size: The picture's width and height in pixels.
        label: What it shows.

    Raises:
        DataError: A number is missing, or the box has no area.
    """
    wide, high = size
    try:
        x, y, width, height = (float(value[name]) for name in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        raise DataError(f"a box is given as {dict(value)!r}", hint="x, y, width and height are numbers, in percent") from None
    if not (width > 0 and height > 0):
        raise DataError(f"a box of {label!r} is {width} by {height} percent: it has no area")
    return Box(x * wide / 100, y * high / 100, width * wide / 100, height * high / 100, label, float(value.get("rotation") or 0.0))


def box_value(box: Box, size: tuple[int, int]) -> dict[str, float]:
    """Return a box in percent, as Label Studio takes it; the inverse of `box_from`."""
    wide, high = size
    return {
        "x": box.x * 100 / wide,
        "y": box.y * 100 / high,
        "width": box.width * 100 / wide,
        "height": box.height * 100 / high,
        "rotation": box.rotation,
    }


def polygon_from(value: Mapping[str, Any], size: tuple[int, int], label: str) -> Polygon:
    """Return a polygon in pixels; the arguments are those of `box_from`, with `points` in percent.

    Raises:
        DataError: There are fewer than three corners.
    """
    points = value.get("points")
    if not isinstance(points, Sequence) or len(points) < 3:
        raise DataError(f"a polygon of {label!r} has {len(points) if isinstance(points, Sequence) else 'no'} corners; it needs three")
    return Polygon(tuple((float(x) * size[0] / 100, float(y) * size[1] / 100) for x, y in points), label)


def polygon_value(polygon: Polygon, size: tuple[int, int]) -> dict[str, Any]:
    """Return a polygon in percent, as Label Studio takes it; the inverse of `polygon_from`."""
    return {"points": [[x * 100 / size[0], y * 100 / size[1]] for x, y in polygon.points], "closed": True}


def overlap(first: Box | Polygon, second: Box | Polygon) -> float:
    """Return the intersection over the union of two shapes' upright frames, 0 to 1."""
    (ax, ay, bx, by), (cx, cy, dx, dy) = _frame(first), _frame(second)
    shared = max(min(bx, dx) - max(ax, cx), 0.0) * max(min(by, dy) - max(ay, cy), 0.0)
    whole = (bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - shared
    return shared / whole if whole > 0 else 0.0


def _frame(shape: Box | Polygon) -> tuple[float, float, float, float]:
    if isinstance(shape, Box):
        return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
    xs, ys = [x for x, _ in shape.points], [y for _, y in shape.points]
    return min(xs), min(ys), max(xs), max(ys)
