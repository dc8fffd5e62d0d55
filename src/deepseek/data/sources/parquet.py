"""Parquet files: columns and filters are read selectively, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS
from deepseek.data.sources.files import (
    FileSource,
    check_request,
    check_same_columns,
    deliver,
    plain_batch,
    plain_schema,
    reading,
    unique_names,
)
from deepseek.errors import DataError

if TYPE_CHECKING:
    import pyarrow.compute as pc


class ParquetSource(FileSource):
    """Read Parquet files; where their pages have checksums, these are verified.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them. All files must have the same columns.
    """

    def schema(self) -> pa.Schema:
        """Return the columns and types that all files have; types that differ are widened to one."""
        return unified([(file, self._schema_of(file)) for file in self.files()])

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        schema = self.schema()
        wanted = check_request(schema, columns, batch_rows)
        names = schema.names if wanted is None or where is not None else wanted
        batches = self._read(names, schema, batch_rows)
        return deliver(batches, columns=wanted, where=where, batch_rows=batch_rows)

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        return self._read(columns or schema.names, schema, DEFAULT_BATCH_ROWS)

    def _read(self, names: list[str], schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        target = pa.schema([schema.field(name) for name in names])
        for file in self.files():
            with reading(file), pa.parquet.ParquetFile(file, page_checksum_verification=True) as opened:
                for batch in opened.iter_batches(batch_size=batch_rows, columns=names):
                    batch.validate(full=True)  # text of a damaged file may be no UTF-8, which shows later, and elsewhere
                    yield plain_batch(batch.select(names), target)

    def _schema_of(self, file: Path) -> pa.Schema:
        with reading(file), pa.parquet.ParquetFile(file) as opened:
            return plain_schema(opened.schema_arrow)


def unified(schemas: Sequence[tuple[Path, pa.Schema]]) -> pa.Schema:
    """Return the one schema of several files, types widened where they differ.

    Raises:
        DataError: Their columns or types cannot be brought together, or there is no column.
    """
    first, expected = schemas[0]
    if not expected.names:
        raise DataError(f"{str(first)!r} has no columns")
    unique_names(expected.names, first)
    for file, schema in schemas[1:]:
        check_same_columns(file, schema.names, first=first, expected=expected.names)
    try:
        return pa.unify_schemas([schema for _, schema in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files beside {str(first)!r} have columns of other types: {error}") from error
