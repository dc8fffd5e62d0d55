"""Tables written to files, batch by batch; the suffix says the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from deepseek.errors import InputError, UnknownNameError

FORMATS = (".csv", ".parquet", ".arrow", ".feather", ".jsonl")


class TableWriter(Protocol):
    """What takes the batches of one table."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Write rows behind those before."""


def require_format(target: Path, *, what: str) -> None:
    """See that a table can be written to a file.

    Args:
        target: The file.
        what: What the table is, for the message: `the answers`.

    Raises:
        InputError: It is a folder.
        UnknownNameError: Its suffix is that of no format.
    """
    if target.is_dir():
        raise InputError(f"the file for {what}, {str(target)!r}, is a folder", hint="name a file, such as answers.csv")
    if target.suffix not in FORMATS:
        raise UnknownNameError("format of predictions", target.suffix or target.name, FORMATS)


def table_writer(path: Path, suffix: str, schema: pa.Schema) -> Any:
    """Return a context manager that writes a table's batches to a file (a `TableWriter`).

    Args:
        path: The file.
        suffix: The suffix that says the format, one of `FORMATS`.
        schema: The table's columns.
    """
    if suffix == ".csv":
        return pa.csv.CSVWriter(str(path), schema)
    if suffix == ".parquet":
        return pa.parquet.ParquetWriter(str(path), schema)
    if suffix == ".jsonl":
        return _JsonLines(path)
    return pa.ipc.new_file(str(path), schema)


class _JsonLines:
    """Writes Arrow batches as JSON Lines, through polars."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write_batch(self, batch: pa.RecordBatch) -> None:
        import polars as pl

        frame = pl.from_arrow(pa.Table.from_batches([batch]))
        assert isinstance(frame, pl.DataFrame)
        frame.write_ndjson(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
