"""One table looked through in two passes and bounded memory: what each column is, then what stands in it.

The first pass counts rows, repeats, missing and different values, and keeps a uniform sample of rows; from that follows what each column
is. The second pass measures each column as what it is. Only quantiles, the values of columns with very many of them, and what two columns
have to do with each other are taken from the sample; everything else is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data.columns import as_float64, hash_rows, is_number, missing
from deepseek.data.sources import Source
from deepseek.data.sources.base import rooted
from deepseek.errors import DataError
from deepseek.fields import Kind, infer_kind, parse_kind
from deepseek.profiling.measures import Measure, measure_of
from deepseek.statistics import DistinctCount, Moments, SeenHashes, mix64

SAMPLE_ROWS = 50_000
SAMPLE_BYTES = 64 << 20
LEAST_SAMPLE = 500
"""A sample has at least so many rows, however large they are."""


@dataclass
class Column:
    """What the passes found of a column.

    Attributes:
        name: The column.
        type: Its Arrow type.
        kind: What it holds, and
        reason: why.
        missing: How many rows have none.
        distinct: How many different values there are.
        distinct_exact: Whether that is counted, not estimated.
        measure: What was measured of it, as what it is.
    """

    name: str
    type: pa.DataType
    kind: Kind
    reason: str
    missing: int
    distinct: int
    distinct_exact: bool
    measure: Measure


@dataclass
class Survey:
    """What two passes over a table found.

    Attributes:
        rows: How many rows it has.
        repeats: How many of them stand there before, the same in every column.
        sample: A uniform sample of its rows, in the order of the table.
        columns: By name, in the order of the table.
        malformed: How many records could not be parsed.
    """

    rows: int
    repeats: int
    sample: pa.Table
    columns: dict[str, Column]
    malformed: int

    @property
    def sampled(self) -> bool:
        """Whether the sample is less than the table."""
        return self.rows > int(self.sample.num_rows)


def survey(source: Source, *, kinds: Mapping[str, str] | None = None) -> Survey:
    """Look a table through.

    Args:
        source: Where the rows come from; it is read twice.
        kinds: What some columns are, where that is known.

    Raises:
        DataError: It cannot be read, or has no rows.
    """
    first = _FirstPass(rooted(source.schema(), source.root))
    with progress.task("first look") as advance:
        for batch in source.read():
            first.observe(batch)
            advance(batch.num_rows)
    if not first.rows:
        raise DataError("the source has no rows", hint="check its path, query or filter")
    malformed = sum(batch.num_rows for batch in source.rejects())
    sample = first.sample.table()
    columns = {name: first.column(name, sample, (kinds or {}).get(name)) for name in first.names}
    with progress.task("measuring", first.rows) as advance:
        for batch in source.read():
            for name, column in columns.items():
                column.measure.observe(batch.column(batch.schema.get_field_index(name)))
            advance(batch.num_rows)
    return Survey(first.rows, first.repeats, sample, columns, malformed)


@dataclass
class _FirstPass:
    schema: pa.Schema
    rows: int = 0
    repeats: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    distinct: dict[str, DistinctCount] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = list(self.schema.names)
        self.sample = RowSample(self.schema)
        self._seen = SeenHashes()

    def observe(self, batch: pa.RecordBatch) -> None:
        whole = np.zeros(batch.num_rows, dtype=np.uint64)
        for place, name in enumerate(self.names):
            column = batch.column(batch.schema.get_field_index(name))
            absent = missing(column)
            hashes = hash_rows(batch, [name])
            self.missing[name] = self.missing.get(name, 0) + int(absent.sum())
            self.distinct.setdefault(name, DistinctCount()).update(hashes[~absent] if absent.any() else hashes)
            whole = mix64(whole ^ hashes, place)
            if is_number(column.type):
                with np.errstate(over="ignore", invalid="ignore"):  # squares of what is near the largest float are infinite
                    self.moments.setdefault(name, Moments()).update(as_float64(column))
        self.repeats += int(self._seen.add(whole).sum())
        self.sample.add(batch, self.rows)
        self.rows += batch.num_rows

    def column(self, name: str, sample: pa.Table, given: str | None) -> Column:
        values = sample.column(name)
        kind, reason = (parse_kind(given), "given") if given else infer_kind(values, name)
        count = self.distinct[name]
        measure = measure_of(kind, values, schema=self.schema.field(name), moments=self.moments.get(name), distinct=count.value)
        return Column(name, values.type, kind, reason, self.missing[name], count.value, count.exact, measure)


class RowSample:
    """A uniform sample of a stream of rows, the same whatever the size of the batches: those with the smallest pseudo-random keys.

    Args:
        schema: The columns.
        capacity: The most rows; fewer are kept where they are large.
    """

    def __init__(self, schema: pa.Schema, *, capacity: int = SAMPLE_ROWS) -> None:
        self._schema, self._capacity = schema, capacity
        self._rows: list[pa.Table] = []
        self._keys: list[np.ndarray] = []
        self._places: list[np.ndarray] = []
        self._limit = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
        self._held = 0
        self._sized = False

    def add(self, batch: pa.RecordBatch, start: int) -> None:
        """Take in rows, the first of which is row `start` of the stream."""
        if not batch.num_rows:
            return
        if not self._sized:
            fitting = SAMPLE_BYTES // max(batch.nbytes // batch.num_rows, 1)
            self._capacity, self._sized = min(self._capacity, max(fitting, LEAST_SAMPLE)), True
        places = np.arange(start, start + batch.num_rows)
        keys = mix64(places.astype(np.uint64), 0)
        small = np.flatnonzero(keys <= self._limit)
        if not len(small):
            return
        self._rows.append(pa.Table.from_batches([batch]).take(pa.array(small)))
        self._keys.append(keys[small])
        self._places.append(places[small])
        self._held += len(small)
        if self._held > 2 * self._capacity:
            self._compact()

    def table(self) -> pa.Table:
        """Return the sample, in the order of the stream."""
        if not self._rows:
            return self._schema.empty_table()
        self._compact()
        return self._rows[0].take(pa.array(np.argsort(self._places[0])))

    def _compact(self) -> None:
        rows, keys, places = pa.concat_tables(self._rows), np.concatenate(self._keys), np.concatenate(self._places)
        if len(keys) > self._capacity:
            kept = np.argpartition(keys, self._capacity - 1)[: self._capacity]
            rows, keys, places = rows.take(pa.array(kept)), keys[kept], places[kept]
            self._limit = keys.max()
        self._rows, self._keys, self._places, self._held = [rows.combine_chunks()], [keys], [places], len(keys)
