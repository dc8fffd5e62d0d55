"""A detector's answers as a table: doubles left out, boxes in pixels of the picture; without torch, as small machines have none.

Legend of shapes: `b` pictures · `p` places · `c` classes · `n` answers. A box is left, top, right and bottom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from deepseek.data.targets import TargetSpec

CANDIDATES = 1000
"""So many of a picture's answers, the surest, are looked at for doubles; as in `tasks.boxes`."""
_EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Selection:
    """Which of a detector's answers are given.

    Attributes:
        least: The lowest score.
        overlap: Intersection over union from which two of one class are the same object.
        most: How many a picture may have.
    """

    least: float = 0.25
    overlap: float = 0.6
    most: int = 100

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> Selection:
        """Return that of a task, from a bundle's `task.json`."""
        usual = cls()
        return cls(task.get("least_score", usual.least), task.get("overlap", usual.overlap), task.get("most", usual.most))


class Found(NamedTuple):
    """The objects found in a picture, the surest first: `boxes` `[n, 4]`, `scores` `[n]` and `classes` int64 `[n]`."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersection of boxes over their union, in [0, 1], of shapes that broadcast: `[…, 4]` and `[…, 4]` to `[…]`."""
    shared, areas = intersections(one, other), (_area(one), _area(other))
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9))


def intersections(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the areas that boxes share, of shapes that broadcast."""
    inner = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    return np.asarray(np.maximum(inner, 0).prod(axis=-1))


def survivors(doubles: np.ndarray) -> np.ndarray:
    """Return which answers greedy suppression keeps, bool `[n]`: applied to all at once until nothing changes, as `tasks.boxes.suppress`.

    Args:
        doubles: Which answer (a row) would send which other one (a column) away, bool `[n, n]`; only those of a surer one are looked at.
    """
    doubles = np.triu(doubles, k=1)
    kept: np.ndarray = np.ones(len(doubles), dtype=bool)
    while True:
        after = np.logical_not((doubles & kept[:, None]).any(axis=0))
        if np.array_equal(after, kept):
            return kept
        kept = after


def candidates(boxes: np.ndarray, scores: np.ndarray, *, least: float) -> Found:
    """Return a picture's answers from a score on, the surest first, at most `CANDIDATES`.

    Args:
        boxes: `[p, 4]`.
        scores: `[p, c]`; a place may answer several classes.
        least: The lowest score.
    """
    flat = scores.reshape(-1)
    order = np.flatnonzero(flat >= least)
    order = order[np.argsort(-flat[order], kind="stable")][:CANDIDATES]
    return Found(boxes[order // scores.shape[1]], flat[order], order % scores.shape[1])


def select(boxes: np.ndarray, scores: np.ndarray, selection: Selection) -> Found:
    """Return the objects of a picture: of answers that overlap and say the same class the surest.

    Args:
        boxes: `[p, 4]`.
        scores: `[p, c]`.
        selection: Which answers are given.
    """
    found = candidates(boxes, scores, least=selection.least)
    same = found.classes[:, None] == found.classes
    kept = survivors((overlaps(found.boxes[:, None], found.boxes) > selection.overlap) & same)
    return Found(*(part[kept][: selection.most] for part in found))


def in_pixels(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return boxes in pixels of their picture, float64, cut at its border.

    Args:
        boxes: Edges as parts of the stored frame, `[n, 4]`.
        frame: Where that lies, `[6]`: left, top, width and height in the picture, and its own width and height.
    """
    placed = np.tile(frame[:2], 2) + boxes.astype(np.float64) * np.tile(frame[2:4], 2)
    return np.asarray(np.clip(placed, 0.0, np.tile(frame[4:], 2)))


def box_table(target: TargetSpec, decoded: Mapping[str, np.ndarray], selection: Selection) -> pa.Table:
    """Return `prediction`, a list of structs `left, top, right, bottom, label, score` a picture, the surest first.

    Args:
        target: What is predicted.
        decoded: `box` `[b, p, 4]` and `score` `[b, p, c]`, and `frame` `[b, 6]` where the pictures' own sizes are known; else boxes are in
            pixels of the size that the network is given.
        selection: Which answers are given.
    """
    height, width = target.shape[:2]
    frames = decoded.get("frame", np.tile([0.0, 0.0, width, height, width, height], (len(decoded["box"]), 1)))
    rows = [select(boxes, scores, selection) for boxes, scores in zip(decoded["box"], decoded["score"], strict=True)]
    placed = [row._replace(boxes=in_pixels(row.boxes, frame)) for row, frame in zip(rows, frames, strict=True)]
    return found_table(target, [_within(row) for row in placed])


def found_table(target: TargetSpec, rows: list[Found]) -> pa.Table:
    """Return found objects as a table: what `box_table` returns, of boxes that are in pixels already.

    Args:
        target: What is predicted.
        rows: The objects of each picture.
    """
    names = [int(name) for name in target.classes] if target.integer_classes else list(target.classes)
    kind = pa.int64() if target.integer_classes else pa.string()
    offsets = np.concatenate([[0], np.cumsum([len(row.scores) for row in rows])]).astype(np.int32)
    boxes = np.concatenate([row.boxes for row in rows]) if rows else np.empty((0, 4))
    scores = np.concatenate([row.scores for row in rows]) if rows else np.empty(0)
    classes = np.concatenate([row.classes for row in rows]) if rows else np.empty(0, dtype=np.int64)
    columns = {name: pa.array(boxes[:, place].astype(np.float32)) for place, name in enumerate(_EDGES)}
    columns["label"] = pa.array(names, kind).take(pa.array(classes.astype(np.int64)))
    columns["score"] = pa.array(scores.astype(np.float32))
    structs = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    return pa.table({"prediction": pa.ListArray.from_arrays(pa.array(offsets), structs)})


def _within(found: Found) -> Found:
    """Return the objects of which something lies in the picture: a letterboxed one has a border, where nothing can be shown."""
    there = _area(found.boxes) > 0
    return found if there.all() else Found(*(part[there] for part in found))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1))
