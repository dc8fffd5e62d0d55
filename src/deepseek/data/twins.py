"""Rows that are nearly the same on both sides of a split: a text with another word, a picture saved again, numbers rounded otherwise.

`data.leaks` counts rows that are equal to the last bit. Here measured rows (validation and test) are held, at most 50,000 of each part,
drawn at random, and training rows pass by once, in memory that does not grow with them. Each column of texts and of pictures is looked at
by itself; the other columns together, where there are no texts and pictures beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import as_float64, get_column, hash_rows, is_number, is_text, plain
from deepseek.data.landing import LandedTable
from deepseek.fields import Kind
from deepseek.statistics import mix64
from deepseek.statistics.near_duplicates import Bands, minima, overlap, picture_bits, pieces

if TYPE_CHECKING:
    from deepseek.data.prepared import PreparedDataset

MOST_MEASURED = 50_000
TEXT_SHARE = 0.8
"""How much of two texts' pieces must be the same."""
TEXT_CHARACTERS, LEAST_CHARACTERS = 1_000, 20
"""Of a long text its beginning is compared; short ones are the same by chance."""
PICTURE_DIFFERENCE = 4.0
"""How far the small pictures may be apart, in levels of 255, on average over the fields; their brightness and contrast are evened first."""
GRID = 1e-4
"""Numbers that differ by less than this part of their column's spread are the same, but for those beside an edge of the grid."""
BY_CHANCE = 0.01
"""Where more rows than this part of those measured might have a twin by chance, rounded rows tell nothing and are not compared."""
EXAMPLES = 5

_BATCH = 1_024
_PIXELS = 4_000_000
_Typed = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class Near:
    """What was found by one column, or by all that are no texts and pictures.

    Attributes:
        what: What was compared, in words.
        part: `validation` or `test`.
        looked_at: How many of its rows were compared.
        of: How many it has.
        rows: Those that have a twin among the training rows, ascending, int64.
        pairs: Some of them: the row, the training row, and how alike they are, 0 to 1.
    """

    what: str
    part: str
    looked_at: int
    of: int
    rows: np.ndarray
    pairs: tuple[tuple[int, int, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the counts and examples as plain JSON values."""
        return {
            "what": self.what,
            "part": self.part,
            "looked_at": self.looked_at,
            "of": self.of,
            "twins": len(self.rows),
            "examples": [{"row": row, "training_row": twin, "alike": round(alike, 4)} for row, twin, alike in self.pairs],
        }


@dataclass
class Twins:
    """Everything that was found.

    Attributes:
        found: By column and part.
        training: Training rows that are a twin of a measured one, ascending, int64.
    """

    found: list[Near] = field(default_factory=list)
    training: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Sides:
    """The rows of both sides: of each part the table and the numbers of its rows, ascending."""

    train: tuple[LandedTable, np.ndarray]
    measured: Mapping[str, tuple[LandedTable, np.ndarray]]


def text_twins(sides: Sides, column: str, *, seed: int = 0) -> Twins:
    """Return the rows whose text is nearly that of a training row: of its pieces of five letters four fifths are the same.

    Case and blanks do not count. Of 100 pairs that share 80 % of their pieces some 98 are found, of those that share 90 % practically all;
    whatever is told of was compared exactly.

    Args:
        sides: The rows.
        column: The column of texts.
        seed: Says which rows are drawn, where there are many.
    """
    return _Search(sides, f"the text {column}", seed, (column,), _TextView(column)).twins()


def table_twins(sides: Sides, columns: Sequence[str], *, sample: pa.Table, typed: _Typed, seed: int = 0) -> Twins:
    """Return the rows whose values are those of a training row once numbers are rounded, and case and blanks left aside.

    Two grids, half a step apart, are tried: a pair is told of where it falls together in one of them. A table of few or coarse columns, in
    which strangers may well agree, is not compared: `looked_at` is then 0. How often they might is the product of how often two rows agree
    in each column, of which the root is taken as columns go together.

    Args:
        sides: The rows.
        columns: The columns of numbers, names and times.
        sample: Training rows that say how much numbers spread.
        typed: Gives rows the types of training (`Preparation.typed`).
        seed: Says which rows are drawn, where there are many.
    """
    view = _GridView(columns, sample, typed)
    what = "the row, rounded"
    if len(sides.train[1]) * view.chance(sample) ** 0.5 > BY_CHANCE:
        nothing = np.empty(0, dtype=np.int64)
        return Twins([Near(what, part, 0, len(rows), nothing) for part, (_, rows) in sides.measured.items()])
    return _Search(sides, what, seed, columns, view).twins()


def picture_twins(train: PreparedDataset, measured: Mapping[str, PreparedDataset], name: str, *, seed: int = 0) -> Twins:
    """Return the rows whose picture is nearly that of a training row: saved again, made brighter, with noise.

    Args:
        train: The prepared training rows.
        measured: By part, the prepared rows that are measured on.
        name: The input of pictures.
        seed: Says which rows are drawn, where there are many.
    """
    held = {part: _HeldPictures(data, _drawn(np.arange(len(data)), seed), name) for part, data in measured.items()}
    hits = {part: _Hits() for part in held}
    for start in range(0, len(train), _BATCH):
        places = np.arange(start, min(start + _BATCH, len(train)))
        seen = _pictures(train, places, name)
        for part, one in held.items():
            hits[part].add(one.match(seen), _numbers(train, places))
    sizes = {part: (one.looked_at, len(measured[part])) for part, one in held.items()}
    return _summed(f"the picture {name}", sizes, hits)


@dataclass(frozen=True)
class _Match:
    """What some training rows that pass by have in common with the held ones.

    Attributes:
        measured: Held rows with a twin among them, by their numbers, each once.
        places: Which of those that pass by are a twin, each once.
        pairs: Some pairs: a held row's number, a place, and how alike they are.
    """

    measured: np.ndarray
    places: np.ndarray
    pairs: list[tuple[int, int, float]]


class _Hits:
    """What was found so far; memory goes by how many rows have a twin, not by how many pairs there are."""

    def __init__(self) -> None:
        self._measured = self._training = np.empty(0, dtype=np.int64)
        self._pairs: list[tuple[int, int, float]] = []

    def add(self, match: _Match, numbers: np.ndarray) -> None:
        """Take in what was found among training rows of these numbers."""
        if not len(match.measured):
            return
        self._measured = np.union1d(self._measured, match.measured)
        self._training = np.union1d(self._training, numbers[match.places])
        pairs = [*self._pairs, *((row, int(numbers[place]), alike) for row, place, alike in match.pairs)]
        best: dict[int, tuple[int, int, float]] = {}
        for pair in sorted(pairs, key=lambda one: (-one[2], one[0], one[1])):
            best.setdefault(pair[0], pair)
        self._pairs = list(best.values())[:EXAMPLES]

    def near(self, what: str, part: str, looked_at: int, of: int) -> tuple[Near, np.ndarray]:
        """Return what was found, the most alike as examples, and the training rows."""
        return Near(what, part, looked_at, of, self._measured, tuple(self._pairs)), self._training


class _Held(Protocol):
    """Measured rows, to be compared with."""

    @property
    def looked_at(self) -> int:
        """How many there are."""

    def match(self, seen: Any) -> _Match:
        """Return what is near among training rows that pass by."""


class _View(Protocol):
    """A way to look at rows: what is seen of training rows, and what of that is held of measured ones."""

    batch_rows: int

    def seen(self, batch: pa.RecordBatch) -> Any:
        """Return what is seen of rows."""

    def kept(self, seen: Any) -> Any:
        """Return what of that is held."""

    def held(self, rows: np.ndarray, kept: list[Any]) -> _Held:
        """Return the rows to compare with."""


class _Search:
    """Training rows pass by the measured ones that are held."""

    def __init__(self, sides: Sides, what: str, seed: int, columns: Sequence[str], view: _View) -> None:
        self._sides, self._what, self._seed, self._columns, self._view = sides, what, seed, list(columns), view

    def twins(self) -> Twins:
        held: dict[str, _Held] = {}
        sizes: dict[str, tuple[int, int]] = {}
        hits: dict[str, _Hits] = {}
        for part, (table, rows) in self._sides.measured.items():
            drawn = _drawn(rows, self._seed)
            kept = [self._view.kept(self._view.seen(batch)) for _, batch in self._batches(table, drawn)]
            held[part] = self._view.held(drawn, kept)
            sizes[part], hits[part] = (held[part].looked_at, len(rows)), _Hits()
        table, rows = self._sides.train
        for numbers, batch in self._batches(table, rows):
            seen_now = self._view.seen(batch)
            for part, one in held.items():
                hits[part].add(one.match(seen_now), numbers)
        return _summed(self._what, sizes, hits)

    def _batches(self, table: LandedTable, rows: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        start = 0
        for batch in table.batches(rows=rows, columns=self._columns, batch_rows=self._view.batch_rows):
            yield rows[start : start + batch.num_rows], batch
            start += batch.num_rows


class _TextView:
    """Texts as sets of pieces."""

    batch_rows = 2 * _BATCH

    def __init__(self, column: str) -> None:
        self._column = column

    def seen(self, batch: pa.RecordBatch) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Return the texts, their pieces, where these begin, and their bands."""
        column = plain(get_column(batch, self._column)).cast(pa.string())
        texts = [_even(text) for text in pc.utf8_slice_codeunits(pc.fill_null(column, ""), 0, 2 * TEXT_CHARACTERS).to_pylist()]
        texts = [text if len(text) >= LEAST_CHARACTERS else "" for text in texts]
        hashed, offsets = pieces(texts)
        return texts, hashed, offsets, minima(hashed, offsets)

    @staticmethod
    def kept(seen: tuple[list[str], np.ndarray, np.ndarray, np.ndarray]) -> tuple[list[str], np.ndarray]:
        """Return what is held of measured texts: they and their bands, without the pieces, which would take eight times the room."""
        return seen[0], seen[3]

    def held(self, rows: np.ndarray, kept: list[tuple[list[str], np.ndarray]]) -> _HeldTexts:
        """Return the texts to compare with; the same text is held once, whatever the number of its rows."""
        texts = [text for one, _ in kept for text in one]
        bands = np.concatenate([one for _, one in kept]) if kept else np.empty((0, 1), dtype=np.uint64)
        told = np.array([place for place, text in enumerate(texts) if text], dtype=np.int64)
        known: dict[str, int] = {}
        number = np.array([known.setdefault(texts[place], len(known)) for place in told.tolist()], dtype=np.int64)
        first = told[np.unique(number, return_index=True)[1]]
        return _HeldTexts(rows[told], number, list(known), Bands(bands[first]))


@dataclass
class _HeldTexts:
    rows: np.ndarray
    number: np.ndarray
    texts: list[str]
    index: Bands

    @property
    def looked_at(self) -> int:
        return len(self.rows)

    def match(self, seen: tuple[list[str], np.ndarray, np.ndarray, np.ndarray]) -> _Match:
        """Return what is near among texts that pass by."""
        _, hashed, offsets, bands = seen
        pairs = self.index.pairs(bands)
        pairs = pairs[np.diff(offsets)[pairs[:, 1]] > 0]
        asked = np.unique(pairs[:, 0]).tolist()
        mine = dict(zip(asked, _sets([self.texts[place] for place in asked]), strict=True))
        others = {place: np.unique(hashed[offsets[place] : offsets[place + 1]]) for place in np.unique(pairs[:, 1]).tolist()}
        alike = np.array([overlap(mine[one], others[other]) for one, other in pairs.tolist()])
        near = alike >= TEXT_SHARE
        return _match(self.rows, self.number, pairs[near], alike[near])


def _sets(texts: Sequence[str]) -> list[np.ndarray]:
    hashed, offsets = pieces(texts)
    return [np.unique(hashed[start:stop]) for start, stop in pairwise(offsets.tolist())]


class _GridView:
    """Rows as hashes of rounded values."""

    batch_rows = 16 * _BATCH

    def __init__(self, columns: Sequence[str], sample: pa.Table, typed: _Typed) -> None:
        self._columns, self._typed = list(columns), typed
        self._steps: dict[str, float] = {}
        batch = typed(pa.record_batch([plain(sample[name].combine_chunks()) for name in self._columns], names=self._columns))
        for name in self._columns:
            values = _as_numbers(get_column(batch, name))
            finite = None if values is None else values[np.isfinite(values)]
            if finite is not None and len(finite):
                self._steps[name] = GRID * _spread(finite)

    def seen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return two hashes a row, uint64 `[n, 2]`."""
        batch = self._typed(batch)
        return np.column_stack([hash_rows(self._rounded(batch, shift), self._columns) for shift in (0.0, 0.5)])

    def chance(self, sample: pa.Table) -> float:
        """Return how likely two strangers agree in every column, if columns knew nothing of each other."""
        batch = self._typed(pa.record_batch([plain(sample[name].combine_chunks()) for name in self._columns], names=self._columns))
        rounded, likely = self._rounded(batch, 0.0), 1.0
        for column in rounded.columns:
            counts = pc.value_counts(column).field("counts").to_numpy().astype(np.float64)
            pairs = len(column) * (len(column) - 1.0)
            likely *= max(float((counts * (counts - 1)).sum()), 1.0) / max(pairs, 1.0)
        return likely

    def _rounded(self, batch: pa.RecordBatch, shift: float) -> pa.RecordBatch:
        columns = []
        for name in self._columns:
            column = plain(get_column(batch, name))
            values = _as_numbers(column)
            if values is None:
                columns.append(pc.utf8_lower(pc.utf8_trim_whitespace(column)) if is_text(column.type) else column)
                continue
            cells = np.floor(values / self._steps.get(name, 1.0) + shift)
            columns.append(pa.array(np.where(np.isfinite(cells), cells, np.nan), from_pandas=True))
        return pa.record_batch(columns, names=self._columns)

    @staticmethod
    def kept(seen: np.ndarray) -> np.ndarray:
        """Return what is held of measured rows: their hashes."""
        return seen

    def held(self, rows: np.ndarray, kept: list[np.ndarray]) -> _HeldRows:
        """Return the rows to compare with."""
        return _HeldRows(rows, np.concatenate(kept) if kept else np.empty((0, 2), dtype=np.uint64))


@dataclass
class _HeldRows:
    rows: np.ndarray
    hashes: np.ndarray

    @property
    def looked_at(self) -> int:
        return len(self.rows)

    def match(self, seen: np.ndarray) -> _Match:
        """Return what has the same hash on either grid among rows that pass by."""
        mine, theirs = np.zeros(len(self.rows), dtype=bool), np.zeros(len(seen), dtype=bool)
        pairs: list[tuple[int, int, float]] = []
        for held, passing in zip(self.hashes.T, seen.T, strict=True):
            both, here, there = np.intersect1d(held, passing, return_indices=True)
            mine |= np.isin(held, both)
            theirs |= np.isin(passing, both)
            pairs += [(int(self.rows[one]), int(other), 1.0) for one, other in zip(here[:EXAMPLES], there[:EXAMPLES], strict=True)]
        return _Match(self.rows[mine], np.flatnonzero(theirs), pairs)


class _HeldPictures:
    """Pictures of measured rows; the same picture is held once, whatever the number of its rows."""

    def __init__(self, data: PreparedDataset, places: np.ndarray, name: str) -> None:
        bits, shown = _pictures(data, places, name)
        told = shown.any(axis=1)
        both = np.concatenate([bits[told].view(np.uint8), shown[told].view(np.uint8)], axis=1)
        _, first, number = np.unique(both, axis=0, return_index=True, return_inverse=True)
        self._rows, self._number = _numbers(data, places[told]), number.reshape(-1)
        self._shown, self._index = shown[told][first], Bands(bits[told][first])
        self.looked_at = len(places)

    def match(self, seen: tuple[np.ndarray, np.ndarray]) -> _Match:
        """Return what is near among pictures that pass by."""
        bits, small = seen
        pairs = self._index.pairs(bits)
        far = np.abs(self._shown[pairs[:, 0]] - small[pairs[:, 1]]).mean(axis=1)
        near = far <= PICTURE_DIFFERENCE
        return _match(self._rows, self._number, pairs[near], 1.0 - far[near] / 255.0)


def _match(rows: np.ndarray, number: np.ndarray, pairs: np.ndarray, alike: np.ndarray) -> _Match:
    """Return pairs of different things as rows: every row of a thing has its twins.

    Args:
        rows: The numbers of the held rows.
        number: Which thing each of them is.
        pairs: Things and places that are near, `[pairs, 2]`.
        alike: How alike they are.
    """
    if not len(pairs):
        return _Match(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), [])
    best = np.argsort(-alike, kind="stable")[: 4 * EXAMPLES].tolist()
    shown = [(int(rows[np.flatnonzero(number == pairs[one, 0])[0]]), int(pairs[one, 1]), float(alike[one])) for one in best]
    return _Match(rows[np.isin(number, pairs[:, 0])], np.unique(pairs[:, 1]), shown)


def _spread(values: np.ndarray) -> float:
    """Return how far values lie apart, whatever a few of them do: four fifths of them, in standard deviations of a normal law."""
    low, high = np.quantile(values, [0.1, 0.9])
    return float((high - low) / 2.563) or float(values.std()) or 1.0


def _as_numbers(column: pa.Array) -> np.ndarray | None:
    values = plain(column)
    if pa.types.is_temporal(values.type) and not pa.types.is_duration(values.type) and not pa.types.is_time(values.type):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    return as_float64(values) if is_number(values.type) or pa.types.is_duration(values.type) else None


def _pictures(data: PreparedDataset, places: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return bands and small pictures, brightness and contrast evened; a picture of one colour becomes nothing at all."""
    bits, small = [], []
    step = max(min(_PIXELS // int(np.prod(data.inputs[name].shape if name in data.inputs else (1,))), _BATCH), 1)
    for start in range(0, len(places), step):
        pixels = data.take(places[start : start + step], ragged=False).inputs[name].numpy()
        one, shown = picture_bits(pixels)
        bits.append(one)
        small.append(shown)
    shown = np.concatenate(small) if small else np.empty((0, 81), dtype=np.float32)
    shown = shown - shown.mean(axis=1, keepdims=True)
    spread = shown.std(axis=1, keepdims=True)
    even = np.where(spread > 1.0, shown / np.maximum(spread, 1.0) * 64.0, 0.0)
    return np.concatenate(bits) if bits else np.empty((0, 8), dtype=np.uint64), even.astype(np.float32)


def _numbers(data: PreparedDataset, places: np.ndarray) -> np.ndarray:
    return places if data.source_rows is None else np.asarray(data.source_rows[places], dtype=np.int64)


def _summed(what: str, sizes: Mapping[str, tuple[int, int]], hits: Mapping[str, _Hits]) -> Twins:
    made = [hits[part].near(what, part, *sizes[part]) for part in sizes]
    training = np.unique(np.concatenate([rows for _, rows in made])) if made else np.empty(0, dtype=np.int64)
    return Twins([near for near, _ in made], training.astype(np.int64))


def _drawn(rows: np.ndarray, seed: int) -> np.ndarray:
    if len(rows) <= MOST_MEASURED:
        return rows
    keys = mix64(rows.astype(np.uint64), seed)
    return np.sort(rows[np.argpartition(keys, MOST_MEASURED)[:MOST_MEASURED]])


def _even(text: str) -> str:
    return " ".join(text.casefold().split())[:TEXT_CHARACTERS]


def twin_kinds(kinds: Mapping[str, Kind]) -> tuple[list[str], list[str], list[str]]:
    """Return which columns are compared as texts, which as pictures, and which together as a row.

    Args:
        kinds: The kinds of the input columns.
    """
    texts = [name for name, kind in kinds.items() if kind is Kind.TEXT]
    pictures = [name for name, kind in kinds.items() if kind is Kind.IMAGE]
    rest = [name for name, kind in kinds.items() if kind in (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP)]
    numbers = any(kinds[name] is Kind.NUMBER for name in rest)
    return texts, pictures, rest if numbers and not (texts or pictures) else []
