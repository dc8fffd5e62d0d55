"""Raw columns as what a sketch takes: numbers, names, lengths of texts, brightness of images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from deepseek.data.columns import as_float64, is_text, missing, plain, spell
from deepseek.data.deep_pictures import brightness
from deepseek.data.sources.base import ROOT_KEY
from deepseek.errors import ColumnError
from deepseek.fields import Kind
from deepseek.statistics.counts import TopCounts
from deepseek.statistics.sketches import ColumnSketch, NameSketch, NumberSketch, sketch_names, sketch_numbers

SKETCHED = (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TEXT, Kind.IMAGE)
"""Kinds that are compared. Points in time are not: they go on by themselves."""
IMAGES = 200
"""So many images of a batch are looked at, evenly spread."""
_COUNTED_NAMES = 100_000
_IMAGE_ERRORS = (OSError, KeyError, SyntaxError, ValueError, TypeError, UnidentifiedImageError, Image.DecompressionBombError)


def measured(column: pa.Array, kind: Kind, root: str = "") -> np.ndarray:
    """Return what is compared of a column that is no name: float64 `[rows]`, NaN where missing or unreadable.

    Args:
        column: The raw column.
        kind: What it was in training: a number as it is, a text by its length in characters, an image by its mean brightness, 0 to 255.
        root: The folder that paths of images are relative to.
    """
    values = plain(column) if kind is not Kind.IMAGE else column
    if kind is Kind.IMAGE:
        return _brightness(column, root)
    if kind is Kind.TEXT:
        lengths = pc.utf8_length(values.cast(pa.large_string()))
        return np.asarray(lengths.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    if is_text(values.type):
        texts = pl.Series(values.cast(pa.large_string()))
        return texts.str.strip_chars().cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    return as_float64(values)


def counted_names(column: pa.Array, name: str) -> tuple[dict[str, int], int]:
    """Return how many rows have each name of a column, and how many have none; numbers are spelled as training spelled them."""
    texts, places = spell(column, name)
    lacks = missing(plain(column)) | (places < 0)
    counts = np.bincount(places[~lacks], minlength=len(texts))
    found: dict[str, int] = {}
    for text, count in zip(texts, counts.tolist(), strict=True):
        if text is not None and count:
            found[text] = found.get(text, 0) + count
    return found, int(len(column) - sum(found.values()))


def sketch_of(table: pa.Table, name: str, kind: Kind) -> ColumnSketch:
    """Return the reference sketch of a column."""
    root = root_of(table.schema, name)
    if kind in {Kind.CATEGORY, Kind.BINARY}:
        counts, lacking = TopCounts(_COUNTED_NAMES), 0
        for chunk in table.column(name).chunks:
            found, none = counted_names(chunk, name)
            counts.update(found.items())
            lacking += none
        return sketch_names(dict(counts.most_common()), missing=lacking)
    parts = [measured(chunk, kind, root) for chunk in table.column(name).chunks]
    return sketch_numbers(np.concatenate(parts) if parts else np.empty(0))


def fold(sketches: Mapping[str, ColumnSketch], kinds: Mapping[str, Kind], batch: pa.RecordBatch) -> list[str]:
    """Fold a batch's columns into their sketches.

    Args:
        sketches: By column.
        kinds: What each column was in training.
        batch: Raw rows.

    Returns:
        Columns that are not there, or hold something that cannot be what the column was; each of their rows counts as missing.
    """
    wrong = []
    for name, sketch in sketches.items():
        place = batch.schema.get_field_index(name)
        try:
            if place < 0:
                raise ColumnError(name)
            _fold(sketch, batch.column(place), name, kinds[name], root_of(batch.schema, name))
        except (ColumnError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            wrong.append(name)
            empty = np.full(batch.num_rows, np.nan)
            sketch.update(empty)
    return wrong


def root_of(schema: pa.Schema, name: str) -> str:
    """Return the folder that a column's paths are relative to."""
    return str(((schema.field(name).metadata or {}).get(ROOT_KEY) or b"").decode())


def _fold(sketch: ColumnSketch, column: pa.Array, name: str, kind: Kind, root: str) -> None:
    if isinstance(sketch, NameSketch):
        found, lacking = counted_names(column, name)
        sketch.update_counts(found.items(), missing=lacking)
    else:
        assert isinstance(sketch, NumberSketch)
        sketch.update(measured(column, kind, root))


def _brightness(column: pa.Array, root: str) -> np.ndarray:
    step = max(len(column) // IMAGES, 1)
    chosen = column.take(pa.array(np.arange(0, len(column), step)[:IMAGES]))
    if isinstance(chosen, pa.FixedShapeTensorArray):
        return np.array([_mean(item) for item in chosen.to_numpy_ndarray()])
    return np.array([np.nan if item is None else _opened(item, root) for item in plain(chosen).to_pylist()], dtype=np.float64)


def _opened(item: Any, root: str) -> float:
    try:
        if isinstance(item, list):
            return _mean(np.asarray(item, dtype=np.float64))
        content = item["bytes"] or item["path"] if isinstance(item, dict) else item
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else Path(root) / content) as image:
            image.draft("L", (96, 96))
            return brightness(image)
    except _IMAGE_ERRORS:
        return float("nan")


def _mean(pixels: np.ndarray) -> float:
    known = pixels.astype(np.float64)
    return float(known.mean() * (1 if pixels.dtype == np.uint8 or known.max(initial=0) > 1 else 255))
