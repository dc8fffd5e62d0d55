"""What is measured of a column, as what it is: numbers, names, texts, points in time, images."""

from __future__ import annotations

import io
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from deepseek.data.columns import as_float64, is_text, missing, plain, spell
from deepseek.data.deep_pictures import brightness, shallow
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.timestamps import holds_numbers, unit_of
from deepseek.data.transforms.timestamp import parse_times
from deepseek.errors import ColumnError
from deepseek.fields import Kind
from deepseek.fields.timestamps import COMPACT, ISO, forms_of, is_compact
from deepseek.statistics import Moments, TopCounts

BINS = 30
SHOWN_VALUES = 10
COUNTED_VALUES = 10_000
"""Names are counted in all rows up to so many different ones; of more, those of the sample are."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
OPENED_IMAGES = 300
_SCRIPT_CHARACTERS = 200_000
_DAY_US = 86_400_000_000


class Measure(ABC):
    """What the second pass gathers of a column."""

    def observe(self, column: pa.Array) -> None:
        """Look at the column in the next batch of rows."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what was found, as plain JSON values."""


def measure_of(kind: Kind, sample: pa.ChunkedArray, *, schema: pa.Field, moments: Moments | None, distinct: int) -> Measure:
    """Return what measures a column of a kind.

    Args:
        kind: What the column holds.
        sample: Its values in a sample of the rows.
        schema: Its name, type and metadata.
        moments: Mean and spread over all rows, where the first pass knows them.
        distinct: How many different values it has.
    """
    if kind is Kind.NUMBER:
        return NumberMeasure(sample, moments)
    if kind is Kind.TIMESTAMP:
        return TimeMeasure(sample)
    if kind is Kind.TEXT:
        return TextMeasure(sample)
    if kind is Kind.IMAGE:
        return ImageMeasure(sample, (schema.metadata or {}).get(ROOT_KEY, b"").decode())
    if kind in {Kind.CATEGORY, Kind.BINARY, Kind.ID} and not pa.types.is_nested(sample.type):
        return NameMeasure(sample, counted=distinct <= COUNTED_VALUES)
    return LengthMeasure(sample)


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column as float64 `[rows]`; what is no number, or infinite, is NaN."""
    parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    read = [_as_numbers(part) for part in parts]
    values = np.concatenate(read) if read else np.empty(0)
    return np.where(np.isfinite(values), values, np.nan)


def _as_numbers(part: pa.Array) -> np.ndarray:
    values = plain(part)
    if not is_text(values.type):
        return as_float64(values)
    texts = pl.Series(values.cast(pa.large_string()))
    return texts.str.strip_chars().cast(pl.Float64, strict=False).to_numpy().astype(np.float64)


class NumberMeasure(Measure):
    """Spread, shape, zeros, outliers and a histogram."""

    def __init__(self, sample: pa.ChunkedArray, moments: Moments | None) -> None:
        given = numbers(sample)
        values = np.sort(given[np.isfinite(given)])
        if moments is None:
            moments = Moments()
            with np.errstate(over="ignore", invalid="ignore"):
                moments.update(values)
        mean, std = float(moments.mean[0]), float(moments.std()[0])
        self._mean, self._std = (mean, std) if np.isfinite([mean, std]).all() else (0.0, 0.0)
        self._quantiles = np.quantile(values, QUANTILES) if len(values) else np.full(len(QUANTILES), np.nan)
        low, high = np.quantile(values, [0.005, 0.995]) if len(values) else (0.0, 1.0)
        self.edges = _bin_edges(float(low), float(high), values)
        self.bins = np.zeros(len(self.edges) - 1, dtype=np.int64)
        quarter, three = self._quantiles[QUANTILES.index(0.25)], self._quantiles[QUANTILES.index(0.75)]
        self._fences = quarter - 1.5 * (three - quarter), three + 1.5 * (three - quarter)
        self._low, self._high, self._cubes, self._count = np.inf, -np.inf, 0.0, 0
        self._counts = Counter[str]()

    def observe(self, column: pa.Array) -> None:
        """Look at the next batch."""
        given = numbers(column)
        values = given[np.isfinite(given)]
        self._counts["unreadable"] += int(len(given) - len(values) - missing(column).sum())
        if not len(values):
            return
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        self._count += len(values)
        if self._std:
            standard = (values - self._mean) / self._std
            self._cubes += float((standard**3).sum())
            self._counts["beyond_3_sigma"] += int((np.abs(standard) > 3).sum())
        self._counts["beyond_fences"] += int(((values < self._fences[0]) | (values > self._fences[1])).sum())
        self._counts["zeros"] += int((values == 0).sum())
        self._counts["negative"] += int((values < 0).sum())
        self.bins += np.histogram(np.clip(values, self.edges[0], self.edges[-1]), bins=self.edges)[0]

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        empty = not self._count
        return {
            "min": None if empty else self._low,
            "max": None if empty else self._high,
            "mean": None if empty else self._mean,
            "std": None if empty else self._std,
            "skew": None if empty or not self._std else self._cubes / self._count,
            "quantiles": {} if empty else {f"{level:g}": float(value) for level, value in zip(QUANTILES, self._quantiles, strict=True)},
            **{name: self._counts[name] for name in ("zeros", "negative", "beyond_3_sigma", "beyond_fences", "unreadable")},
            "histogram": {"edges": self.edges.tolist(), "counts": self.bins.tolist()},
        }


class NameMeasure(Measure):
    """How often each name comes."""

    def __init__(self, sample: pa.ChunkedArray, *, counted: bool) -> None:
        self.counts, self.counted = TopCounts(), counted
        if not counted:
            for chunk in sample.chunks:
                self._count(chunk)

    def observe(self, column: pa.Array) -> None:
        """Look at the next batch."""
        if self.counted:
            self._count(column)

    def _count(self, column: pa.Array) -> None:
        texts, indices = spell(column, "")
        rows = np.bincount(indices[indices >= 0], minlength=len(texts))
        self.counts.update((text, int(count)) for text, count in zip(texts, rows, strict=True) if text is not None and count)

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        total = self.counts.total
        common = self.counts.most_common(SHOWN_VALUES)
        return {
            "most_common": [{"value": value, "rows": rows, "share": rows / total} for value, rows in common],
            "of_sample": not self.counted,
            "singletons": sum(rows == 1 for _, rows in self.counts.most_common()) if self.counted else None,
        }


class LengthMeasure(Measure):
    """How long lists, series and other values are, from the sample."""

    def __init__(self, sample: pa.ChunkedArray) -> None:
        kind = sample.type
        self._shape = list(kind.shape) if isinstance(kind, pa.FixedShapeTensorType) else None
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        self._lengths = np.asarray(pc.list_value_length(sample).drop_null().to_numpy()) if lists else np.empty(0)

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        facts: dict[str, Any] = {"shape": self._shape}
        if len(self._lengths):
            facts["lengths"] = spread(self._lengths)
        return facts


class TextMeasure(Measure):
    """How long texts are, in which scripts, and which come again."""

    def __init__(self, sample: pa.ChunkedArray) -> None:
        texts = sample.cast(pa.string()).combine_chunks().drop_null()
        self._lengths = _text_lengths(texts)
        self._words = np.asarray(pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts))).to_numpy())
        self._scripts = _scripts(texts)
        self._common = NameMeasure(pa.chunked_array([texts]), counted=False)
        self._moments, self._low, self._high, self._blank = Moments(), np.inf, 0, 0
        self.edges = np.unique(np.linspace(0, max(np.quantile(self._lengths, 0.99) if len(texts) else 1, 1), BINS + 1).round())
        self.bins = np.zeros(len(self.edges) - 1, dtype=np.int64)

    def observe(self, column: pa.Array) -> None:
        """Look at the next batch."""
        texts = plain(column).cast(pa.string()).drop_null()
        if not len(texts):
            return
        lengths = _text_lengths(texts)
        self._moments.update(lengths)
        self._low, self._high = min(self._low, int(lengths.min())), max(self._high, int(lengths.max()))
        self._blank += pc.sum(pc.equal(pc.utf8_trim_whitespace(texts), "")).as_py() or 0
        self.bins += np.histogram(np.clip(lengths, self.edges[0], self.edges[-1]), bins=self.edges)[0]

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        if not self._moments.count[0]:
            return {}
        exact = {"min": int(self._low), "max": int(self._high), "mean": float(self._moments.mean[0])}
        repeated = [item for item in self._common.facts()["most_common"] if item["rows"] > 1]
        return {
            "characters": {**spread(self._lengths), **exact},
            "words": spread(self._words),
            "scripts": self._scripts,
            "blank": self._blank,
            "most_common": repeated,
            "of_sample": True,
            "histogram": {"edges": self.edges.tolist(), "counts": self.bins.tolist()},
        }


class TimeMeasure(Measure):
    """First and last moment, how many days have rows, and the longest stretch without any."""

    def __init__(self, sample: pa.ChunkedArray) -> None:
        whole = sample.combine_chunks() if sample.num_chunks else pa.array([], sample.type)
        self.form = ISO
        if is_text(sample.type):
            self.form = next(iter(forms_of(whole.slice(0, 2_000))), ISO)
        elif pa.types.is_integer(sample.type) and is_compact(whole):
            self.form = COMPACT
        elif holds_numbers(sample.type):
            self.form = unit_of(as_float64(whole))
        self._low, self._high, self._unreadable = np.iinfo(np.int64).max, np.iinfo(np.int64).min, 0
        self._days = np.empty(0, dtype=np.int64)
        moments = self.moments(whole)
        low, high = (float(moments.min()), float(moments.max())) if len(moments) else (0.0, 1.0)
        self.edges = _bin_edges(low, high, moments)
        self.bins = np.zeros(len(self.edges) - 1, dtype=np.int64)

    def moments(self, column: pa.Array) -> np.ndarray:
        """Return a column's points in time as microseconds since 1970, int64, those that can be read."""
        try:
            times = parse_times(column, self.form)
        except ColumnError:
            return np.empty(0, dtype=np.int64)
        return np.asarray(times.cast(pa.int64()).drop_null().to_numpy())

    def observe(self, column: pa.Array) -> None:
        """Look at the next batch."""
        moments = self.moments(column)
        self._unreadable += len(column) - int(missing(column).sum()) - len(moments)
        if len(moments):
            self._low, self._high = min(self._low, int(moments.min())), max(self._high, int(moments.max()))
            self._days = np.union1d(self._days, moments // _DAY_US)
            self.bins += np.histogram(np.clip(moments, self.edges[0], self.edges[-1]), bins=self.edges)[0]

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        if not len(self._days):
            return {"unreadable": self._unreadable}
        gaps = np.diff(self._days)
        widest = int(gaps.argmax()) if len(gaps) else 0
        gap = [_date(self._days[widest] + 1), _date(self._days[widest + 1] - 1)] if len(gaps) and gaps[widest] > 1 else None
        return {
            "form": self.form,
            "first": str(np.datetime64(self._low, "us").astype("datetime64[s]")),
            "last": str(np.datetime64(self._high, "us").astype("datetime64[s]")),
            "days": len(self._days),
            "days_without_rows": int(self._days[-1] - self._days[0] + 1) - len(self._days),
            "longest_gap": gap,
            "unreadable": self._unreadable,
            "histogram": {"edges": self.edges.tolist(), "counts": self.bins.tolist(), "dates": True},
        }


class ImageMeasure(Measure):
    """Sizes, colours and brightness, and whether images can be read, from the sample."""

    def __init__(self, sample: pa.ChunkedArray, root: str) -> None:
        whole = sample.combine_chunks() if sample.num_chunks else pa.array([], sample.type)
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.chunk(0)
        step = max(len(whole) // OPENED_IMAGES, 1)
        chosen = whole.take(pa.array(np.arange(0, len(whole), step)[:OPENED_IMAGES])).drop_null()
        items: list[Any] = list(chosen.to_numpy_ndarray()) if isinstance(chosen, pa.FixedShapeTensorArray) else chosen.to_pylist()
        self.pictures: list[Image.Image] = []
        self._sizes, self._modes, self.brightness = Counter[str](), Counter[str](), list[float]()
        self._unreadable: list[str] = []
        for item in items:
            self._look(item, root)
        self._looked_at = len(items)

    def _look(self, item: Any, root: str) -> None:
        try:
            image = opened_image(item, root)
            bright = brightness(image)
        except (OSError, SyntaxError, ValueError, TypeError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            self._unreadable.append(str(error))
            return
        self._sizes[f"{image.width}×{image.height}"] += 1
        self._modes[image.mode] += 1
        self.brightness.append(bright)
        if len(self.pictures) < 12:
            shown = shallow(image)
            shown.thumbnail((96, 96))
            self.pictures.append(shown)

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        return {
            "looked_at": self._looked_at,
            "sizes": [{"value": size, "rows": rows} for size, rows in self._sizes.most_common(SHOWN_VALUES)],
            "modes": dict(self._modes.most_common()),
            "brightness": spread(np.array(self.brightness)) if self.brightness else None,
            "unreadable": len(self._unreadable),
            "unreadable_why": self._unreadable[:3],
        }


def opened_image(item: Any, root: str) -> Image.Image:
    """Return an image that is given as pixels, as encoded bytes or as a path below a folder."""
    if isinstance(item, np.ndarray):
        pixels = item if item.dtype == np.uint8 else (np.clip(item, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    with Image.open(io.BytesIO(item) if isinstance(item, bytes) else Path(root) / item) as image:
        image.load()
        return image


def spread(values: np.ndarray) -> dict[str, float]:
    """Return smallest, quartiles, 95th percentile, largest and mean of numbers, of which there is at least one."""
    if not len(values):
        return {}
    low, quarter, half, three, most, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 0.95, 1]).tolist()
    return {"min": low, "0.25": quarter, "0.5": half, "0.75": three, "0.95": most, "max": high, "mean": float(np.mean(values))}


def _text_lengths(texts: pa.Array) -> np.ndarray:
    return np.asarray(pc.utf8_length(texts).to_numpy(zero_copy_only=False), dtype=np.float64)


def _scripts(texts: pa.Array) -> dict[str, float]:
    """Return the share of letters in each script, from the beginning of their Unicode names: LATIN, CYRILLIC, CJK."""
    look = "".join(texts.slice(0, 5_000).to_pylist())[:_SCRIPT_CHARACTERS]
    found = Counter[str]()
    for letter, count in Counter(look).items():
        if letter.isalpha():
            found[unicodedata.name(letter, "OTHER").split()[0].capitalize()] += count
    total = sum(found.values())
    return {script: count / total for script, count in found.most_common(5)}


def _bin_edges(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """Return the ends of bins; of whole numbers each has equally many, or some bins would look full and some empty."""
    if not high > low:
        return np.array([low - 0.5, low + 0.5])
    if (values == np.floor(values)).all() and high - low < 1e9:
        width = np.ceil((np.floor(high) - np.floor(low) + 1) / BINS)
        return np.asarray(np.arange(np.floor(low), np.floor(high) + width + 1, width) - 0.5)
    return np.linspace(low, high, BINS + 1)


def _date(day: int) -> str:
    return str(np.datetime64(int(day), "D"))
