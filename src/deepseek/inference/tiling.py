"""Objects in pictures much larger than a network sees at once: overlapping tiles, and what was found in several of them found once.

Legend of shapes: `n` answers of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Lt

from deepseek.data.columns import get_column
from deepseek.data.placement import frames
from deepseek.data.sources.base import ROOT_KEY, rooted_batches
from deepseek.data.transforms.image import ImageTransform
from deepseek.errors import DataError, InputError
from deepseek.inference.tables import with_names
from deepseek.tasks.box_answers import Found, candidates, found_table, in_pixels, intersections, overlaps, survivors

if TYPE_CHECKING:
    from deepseek.data.sources.base import Source
    from deepseek.inference.predictor import Predictor

TOGETHER = 16
"""Tiles that go through the network at once."""
_PART = 0.6
"""Of what is cut by a tile's edge: from so much of the smaller box inside the other on, two answers are the same object."""
_NEAR = 2.0
"""Pixels from the edge of a tile within which a box is taken for cut."""


class Tiles(NamedTuple):
    """How a picture is cut.

    Attributes:
        size: Height and width of a tile, in pixels of the picture.
        overlap: The part of a tile that the next one shows again, in [0, 1); objects up to that size are whole in some tile.
    """

    size: Annotated[int, Ge(1)] = 640
    overlap: Annotated[float, Ge(0.0), Lt(1.0)] = 0.2

    def starts(self, length: int) -> list[int]:
        """Return where tiles begin along a side; the last ends with it.

        Example:
            >>> Tiles(100, 0.2).starts(250)
            [0, 80, 150]
        """
        if length <= self.size:
            return [0]
        step = max(1, round(self.size * (1 - self.overlap)))
        return [*range(0, length - self.size, step), length - self.size]


def stream_tiled(predictor: Predictor, source: Source, tiles: Tiles) -> Iterator[pa.RecordBatch]:
    """Answer a source of pictures tile by tile, one picture in memory at a time.

    Args:
        predictor: A detector.
        source: The pictures, as `Predictor.open` returned them.
        tiles: How they are cut.

    Raises:
        InputError: The model finds no objects, or the tiles make no sense.
        DataError: A picture cannot be read.
    """
    image = _image_of(predictor)
    if tiles.size < 1 or not 0 <= tiles.overlap < 1:
        raise InputError(f"tiles of {tiles.size} pixels, {tiles.overlap} of them seen twice", hint="a size from 1 on, an overlap in [0, 1)")
    predictor.require_columns(source.schema().names)
    rows = rooted_batches(source.read(columns=predictor.columns, batch_rows=TOGETHER), source.root)
    answers = (
        found_table(predictor.target, [_found(predictor, image, picture, tiles) for picture in _pictures(batch, image)]).to_batches()
        for batch in rows
    )
    yield from with_names(source, (batch for some in answers for batch in some))


def _image_of(predictor: Predictor) -> ImageTransform:
    images = [transform for transform in predictor.preparation.transforms if isinstance(transform, ImageTransform)]
    if predictor.target.kind != "boxes" or len(images) != 1 or len(predictor.columns) != 1:
        raise InputError("only a detector's pictures are cut into tiles", hint="leave the tiles out for this model")
    return images[0]


def _pictures(batch: pa.RecordBatch, image: ImageTransform) -> Iterator[np.ndarray]:
    column = image.fields[0].name
    values = get_column(batch, column)
    if isinstance(values.type, pa.FixedShapeTensorType):
        yield from values.to_numpy_ndarray()
        return
    root = Path((batch.schema.field(column).metadata or {}).get(ROOT_KEY, b"").decode())
    for item in values.to_pylist():
        if item is None:
            raise DataError(f"a picture in column {column!r} is missing", hint="leave rows without a picture out")
        read = image.read_pixels(item, root)
        if isinstance(read, str):
            raise DataError(read, hint="replace or remove the file")
        yield read


def _found(predictor: Predictor, image: ImageTransform, picture: np.ndarray, tiles: Tiles) -> Found:
    """Return the objects of a picture, in its pixels."""
    places = [(top, left) for top in tiles.starts(picture.shape[0]) for left in tiles.starts(picture.shape[1])]
    parts: list[tuple[Found, np.ndarray]] = []
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        cut = [picture[top : top + tiles.size, left : left + tiles.size] for top, left in some]
        parts += _answers(predictor, image, cut, some, whole=(picture.shape[0], picture.shape[1]))
    chosen = predictor.selection
    return merged([found for found, _ in parts], [cut for _, cut in parts], overlap=chosen.overlap, most=chosen.most)


def _answers(
    predictor: Predictor, image: ImageTransform, tiles: list[np.ndarray], places: list[tuple[int, int]], *, whole: tuple[int, int]
) -> list[tuple[Found, np.ndarray]]:
    """Return what each tile's answers are, in pixels of the picture, and which of them its edge cuts."""
    rows = np.ascontiguousarray(np.stack(tiles))
    rows = rows if rows.ndim == 4 else rows[..., None]
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(rows)
    stored_rows = image.apply(pa.record_batch([column], [image.fields[0].name]))[str(image.name)]
    decoded = predictor.backend.run({str(image.name): np.asarray(stored_rows)})
    high, wide = rows.shape[1:3]
    stored = (predictor.target.shape[0], predictor.target.shape[1])
    frame = frames(np.array([[high, wide]]), stored, image.fit)[0]
    made = []
    for boxes, scores, (top, left) in zip(decoded["box"], decoded["score"], places, strict=True):
        found = candidates(boxes, scores, least=predictor.selection.least)
        inside = in_pixels(found.boxes, frame)
        border = np.array([left > 0, top > 0, left + wide < whole[1], top + high < whole[0]])
        near = np.hstack([inside[:, :2] <= _NEAR, inside[:, 2:] >= np.array([wide, high]) - _NEAR])
        made.append((found._replace(boxes=inside + np.tile([left, top], 2)), (near & border).any(axis=1)))
    return made


def merged(parts: list[Found], cut: list[np.ndarray], *, overlap: float, most: int) -> Found:
    """Return the answers of several tiles as those of one picture, each object once.

    Two answers of a class are the same object if they overlap by `overlap`, as within a picture; and also where one is cut by its tile's
    edge and most of the smaller box lies in the other: half an object overlaps the whole one too little. Whole boxes go before cut ones.

    Args:
        parts: Each tile's answers, in pixels of the picture.
        cut: Which of them are cut by an edge that is not the picture's, bool `[n]` each.
        overlap: Intersection over union from which two are the same.
        most: How many are kept.
    """
    tile = np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts])
    boxes, scores, classes = (np.concatenate([part[place] for part in parts]) for place in range(3))
    cuts = np.concatenate(cut)
    order = np.lexsort((-scores, cuts))
    boxes, scores, classes, cuts, tile = (values[order] for values in (boxes, scores, classes, cuts, tile))
    shared = intersections(boxes[:, None], boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    inside = shared / np.maximum(np.minimum(areas[:, None], areas), 1e-9) > _PART
    doubles = overlaps(boxes[:, None], boxes) > overlap
    doubles |= inside & (cuts[:, None] | cuts) & (tile[:, None] != tile)
    kept = survivors(doubles & (classes[:, None] == classes))
    surest = np.argsort(-scores[kept], kind="stable")[:most]
    return Found(*(values[kept][surest] for values in (boxes, scores, classes)))


def tiles_of(value: Any) -> Tiles:
    """Return tiles from what a caller gave: a size, a mapping with `size` and `overlap`, or tiles.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(value, Tiles):
        return value
    given = value if isinstance(value, dict) else {"size": value}
    size, overlap = given.get("size", Tiles().size), given.get("overlap", Tiles().overlap)
    numbers = type(size) is int and isinstance(overlap, int | float)
    if not numbers or not set(given) <= set(Tiles._fields):
        raise InputError(f"tiles are {value!r}", hint="give a size in pixels, or a mapping with size and overlap")
    return Tiles(size, overlap)
