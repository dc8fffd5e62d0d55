"""Arrow files: the IPC file format (Feather version 2) and the IPC stream format, told apart by their first bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from deepseek.data.sources.files import FileSource, plain_batch, plain_schema, reading
from deepseek.data.sources.parquet import unified


class ArrowSource(FileSource):
    """Read Arrow IPC files and streams; files are memory-mapped, not copied.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them. All files must have the same columns.
    """

    def schema(self) -> pa.Schema:
        """Return the columns and types that all files have; types that differ are widened to one."""
        return unified([(file, self._schema_of(file)) for file in self.files()])

    def _schema_of(self, file: Path) -> pa.Schema:
        with _opened(file) as (schema, _):
            return plain_schema(schema)

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        target = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        for file in self.files():
            with _opened(file) as (_, batches):
                for batch in batches:
                    # Arrow believes what the file says of offsets and indices; where they lead out of it, looking ends the process.
                    batch.validate(full=True)
                    yield plain_batch(batch.select(target.names), target)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    with reading(file), pa.memory_map(str(file)) as mapped:
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        if is_file:
            with pa.ipc.open_file(mapped) as reader:
                yield reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            with pa.ipc.open_stream(mapped) as reader:
                yield reader.schema, reader
