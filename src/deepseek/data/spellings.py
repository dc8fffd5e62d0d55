"""Other spellings of the same value: put right where rows are read, in training and in production alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import is_text
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.errors import ColumnError

if TYPE_CHECKING:
    import pyarrow.compute as pc_types

Spellings = Mapping[str, Mapping[str, str]]
"""By column, what a value is to be instead of what stands there."""


def respell(batch: pa.RecordBatch, spellings: Spellings) -> pa.RecordBatch:
    """Return the batch with values put right; columns that it lacks are passed over, as the target is in production.

    Raises:
        ColumnError: A column holds no text.
    """
    for name, meant in spellings.items():
        place = batch.schema.get_field_index(name)
        if place < 0:
            continue
        column = batch.column(place)
        if pa.types.is_null(column.type):
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not is_text(column.type):
            raise ColumnError(f"data.spellings names the column {name!r}, which holds {column.type}", hint="only texts have spellings")
        found = pc.index_in(column, value_set=pa.array(list(meant), column.type))
        if found.null_count < len(found):
            column = pc.coalesce(pc.take(pa.array(list(meant.values()), column.type), found), column)
        batch = batch.set_column(place, batch.schema.field(place).with_type(column.type), column)
    return batch


class RespelledSource(Source):
    """A source whose values are put right as they are read.

    Args:
        source: Where the rows come from.
        spellings: By column, what a value is to be instead.
    """

    def __init__(self, source: Source, spellings: Spellings) -> None:
        super().__init__(source.folder)
        self._source, self._spellings = source, spellings

    @property
    def origin(self) -> Source:
        """The source itself, whose values are put right."""
        return self._source

    @property
    def root(self) -> Path | None:
        """The folder that paths in its columns are relative to."""
        return self._source.root

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        return respell(pa.RecordBatch.from_pylist([], schema=self._source.schema()), self._spellings).schema

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc_types.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order; `where` looks at them as they stand in the source."""
        for batch in self._source.read(columns=columns, where=where, batch_rows=batch_rows):
            yield respell(batch, self._spellings)

    def fingerprint(self) -> str | None:
        """Return the hash of the source itself."""
        return self._source.fingerprint()

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield what could not be parsed."""
        return self._source.rejects()

    def as_text(self, columns: Collection[str]) -> Self:
        """Return the same over a source that reads these columns as text."""
        return type(self)(self._source.as_text(columns), self._spellings)

    def definitions(self) -> dict[str, Any] | None:
        """Return what the source's columns are made by."""
        return self._source.definitions()

    def given_split(self) -> str | None:
        """Return the column of the split, where the source itself knows it."""
        return self._source.given_split()
