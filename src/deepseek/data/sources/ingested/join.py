"""Topics joined to one table: each row of the first with what belongs to it in the others, by a key and the time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import is_text
from deepseek.data.sources.files import RAW_CHARACTERS, reject_batch
from deepseek.data.sources.ingested.manifest import AT, ID, attribute_name
from deepseek.data.sources.ingested.topic import Topic
from deepseek.data.sources.merging import MICROSECONDS, as_text
from deepseek.data.sources.moments import Direction, Moments, Others
from deepseek.data.timestamps import from_numbers, holds_numbers, read_timestamps
from deepseek.errors import ColumnError
from deepseek.recipe.quantities import Duration
from deepseek.recipe.sections import Section
from deepseek.recipe.values import Text


class JoinSection(Section):
    """How topics are joined."""

    key: Text
    """The column, or the attribute, that says what belongs together."""
    within: Duration | None = None
    """The longest time between two rows that belong together; any where not given."""
    time: Text = AT
    """The column, or the attribute, that says when: a time, text that is one, or seconds since 1970; the arrival where not given."""
    direction: Direction = "nearest"
    """Which row of another topic is wanted: the nearest in time, the last one before, or the first one after."""
    series: tuple[Text, ...] = ()
    """Topics of which all rows within that time are wanted, as lists in the order of time."""
    unmatched: Literal["keep", "reject"] = "keep"
    """Whether a row that has none in one of the other topics is kept, with missing values, or set aside."""


class Joined:
    """The rows of the first topic, each with those of the others that belong to it.

    Args:
        topics: The topics, the one that gives the rows first.
        how: What belongs together.

    Attributes:
        unmatched: By topic, how many rows of the first have none in it; known once `batches` has begun.
        unused: By topic, how many of its rows belong to none of the first.

    Raises:
        ColumnError: A topic has neither a column nor an attribute of the key's or the time's name.
    """

    def __init__(self, topics: Sequence[Topic], how: JoinSection) -> None:
        self._base, self._others, self._how = topics[0], topics[1:], how
        self._within_us = None if how.within is None else round(how.within * 1e6)
        for topic in topics:
            self._moment_columns(topic)
        self.unmatched: dict[str, int] = {}
        self.unused: dict[str, int] = {}
        self._missing: list[np.ndarray] = []

    @property
    def schema(self) -> pa.Schema:
        """The first topic's columns, then those of the others as `TOPIC.COLUMN`."""
        fields = list(self._base.schema)
        for topic in self._others:
            fields += [self._field(topic, name) for name in self._columns(topic)]
        return pa.schema(fields)

    def batches(self, columns: Sequence[str] | None, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the joined rows in the order of the first topic."""
        names = self.schema.names if columns is None else list(columns)
        own = [name for name in names if name in self._base.schema.names]
        base = self._moments(self._base)
        found = [_Found(self, topic, base, names) for topic in self._others]
        self._missing = [one.missing for one in found]
        self.unmatched = {topic.name: int(one.missing.sum()) for topic, one in zip(self._others, found, strict=True)}
        self.unused = {topic.name: one.unused for topic, one in zip(self._others, found, strict=True)}
        target = pa.schema([self.schema.field(name) for name in names])
        start = 0
        for batch in self._base.batches([*own, *(() if own else (ID,))], batch_rows=batch_rows):
            stop = start + batch.num_rows
            arrays = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
            for one in found:
                arrays |= one.columns(start, stop)
            whole = pa.record_batch([arrays[name] for name in names], schema=target)
            yield whole.filter(pa.array(~self._set_aside(start, stop))) if self._how.unmatched == "reject" else whole
            start = stop

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the first topic that were set aside by the last `batches`."""
        if self._how.unmatched == "keep" or not self._missing:
            return
        start = 0
        for batch in self._base.batches():
            rows = np.flatnonzero(self._set_aside(start, start + batch.num_rows))
            if len(rows):
                lacking = [[name for name, one in zip(self.unmatched, self._missing, strict=True) if one[start + row]] for row in rows]
                raw = [json.dumps(row, default=str, ensure_ascii=False)[:RAW_CHARACTERS] for row in batch.take(pa.array(rows)).to_pylist()]
                yield reject_batch((rows + start).tolist(), [f"nothing of {', '.join(names)} belongs to it" for names in lacking], raw)
            start += batch.num_rows

    def _set_aside(self, start: int, stop: int) -> np.ndarray:
        missing: np.ndarray = np.stack([one[start:stop] for one in self._missing])
        return np.asarray(missing.any(axis=0))

    def _columns(self, topic: Topic) -> list[str]:
        """Return the columns of another topic that are joined: of series without those that say the same for every row or nothing."""
        if topic.name not in self._how.series:
            return list(topic.schema.names)
        time = self._moment_columns(topic)[1]
        return [name for name in topic.schema.names if not name.startswith("_") or name in time]

    def _field(self, topic: Topic, name: str) -> pa.Field:
        field = topic.schema.field(name)
        kind = pa.list_(field.type) if topic.name in self._how.series else field.type
        return pa.field(f"{topic.name}.{name}", kind, metadata=field.metadata)

    def _moment_columns(self, topic: Topic) -> tuple[list[str], list[str]]:
        names = topic.schema.names
        found = []
        for what, wanted in (("key", self._how.key), ("time", self._how.time)):
            present = [name for name in dict.fromkeys((wanted, attribute_name(wanted))) if name in names]
            if not present:
                raise ColumnError(
                    f"the topic {topic.name!r} has neither a column nor an attribute {wanted!r}, the {what} of the join",
                    hint=f"its columns: {', '.join(names)}",
                )
            found.append(present)
        return found[0], found[1]

    def _moments(self, topic: Topic) -> Moments:
        keys, times = self._moment_columns(topic)
        table = topic.table([*dict.fromkeys((*keys, *times))])
        return Moments(pc.coalesce(*(_key_text(table[name]) for name in keys)), pc.coalesce(*(_times(table[name]) for name in times)))


class _Found:
    """What belongs to each row of the first topic in one other, which is held in memory."""

    def __init__(self, joined: Joined, topic: Topic, base: Moments, wanted: Sequence[str]) -> None:
        how, within = joined._how, joined._within_us  # noqa: SLF001 - one class in two parts
        prefix = f"{topic.name}."
        self._prefix = prefix
        self._table = topic.table([name.removeprefix(prefix) for name in wanted if name.startswith(prefix) and name in joined.schema.names])
        moments = joined._moments(topic)  # noqa: SLF001 - as above
        others, rows = Others(moments), len(moments)
        self._series = topic.name in how.series
        if self._series:
            self._order, self._begin, self._end = others.windows(base, within, how.direction)
            self.missing = self._begin == self._end
            edges = np.zeros(len(self._order) + 1, np.int64)
            np.add.at(edges, self._begin, 1)
            np.add.at(edges, self._end, -1)
            self.unused = rows - int((np.cumsum(edges)[:-1] > 0).sum())
        else:
            self._match = others.nearest(base, within, how.direction)
            self.missing = self._match < 0
            self.unused = rows - len(np.unique(self._match[~self.missing]))

    def columns(self, start: int, stop: int) -> dict[str, pa.Array]:
        """Return the joined columns of some rows."""
        if not self._series:
            match = pa.array(self._match[start:stop], mask=self.missing[start:stop])
            taken = self._table.take(match).combine_chunks()
            return {self._prefix + name: _one(taken[name]) for name in taken.schema.names}
        lengths = (self._end - self._begin)[start:stop]
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self._begin[start:stop] - (ends - lengths), lengths)
        taken = self._table.take(pa.array(self._order[places])).combine_chunks()
        # the offset before a missing list is null, which is how Arrow is told of it
        offsets = pa.array(np.concatenate(([0], ends)).astype(np.int32), mask=np.concatenate((self.missing[start:stop], [False])))
        return {self._prefix + name: pa.ListArray.from_arrays(offsets, _one(taken[name])) for name in taken.schema.names}


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _key_text(column: pa.ChunkedArray) -> pa.Array:
    text = column if is_text(column.type) else as_text(column)
    return _one(pc.utf8_trim_whitespace(text.cast(pa.string())))


def _times(column: pa.ChunkedArray) -> pa.Array:
    values = _one(column)
    if holds_numbers(values.type):
        return from_numbers(values)
    if not is_text(values.type):
        return read_timestamps(values)
    # an attribute is always text, also where it holds the seconds since 1970
    digits = pc.match_substring_regex(values, r"^\s*\d+(\.\d+)?\s*$")
    numbers = pc.if_else(digits, pc.utf8_trim_whitespace(values), None).cast(pa.float64())
    return pc.coalesce(from_numbers(numbers), read_timestamps(pc.if_else(digits, None, values))).cast(MICROSECONDS)
