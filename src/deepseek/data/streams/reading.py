"""Reading a snapshot: partition after partition, each in the order of its offsets, however it was cut into parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS
from deepseek.data.sources.files import RAW_CHARACTERS, reading, reject_batch
from deepseek.data.sources.merging import as_shown, conform, merged
from deepseek.data.sources.part_files import PartFiles
from deepseek.data.streams.manifest import OFFSET, PARTITION, PARTS, Manifest, Part
from deepseek.data.streams.rows import RAW, REASON
from deepseek.data.streams.writing import partition_key


class _Group(NamedTuple):
    partition: str
    part: Part
    number: int


class SnapshotRows:
    """The rows of one version of a snapshot.

    Args:
        folder: The folder.
        manifest: The state to be read.
        places: Whether the partition and the offset of each row are among the columns.
        texts: Columns to be read as text.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, places: bool = False, texts: Collection[str] = ()) -> None:
        self.manifest = manifest
        self._files = PartFiles(folder / PARTS, lost="bring the folder back from a copy, or take the snapshot into a new one")
        self._places, self._texts = places, frozenset(texts)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns and the narrowest types that hold every value; those that a snapshot adds come last."""
        hidden = () if self._places else (PARTITION, OFFSET)
        files = [part.files["rows"] for part in self.manifest.parts if "rows" in part.files]
        schemas = [self._files.schema(about) for about in files]
        whole = merged(schemas, lambda number, place: self._values(files[number], schemas[number].names[place]))
        return as_shown((field for field in whole if field.name not in hidden), self._texts)

    def batches(self, columns: Sequence[str] | None = None, *, batch_rows: int = DEFAULT_BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows.

        Args:
            columns: The columns wanted; all where not given.
            batch_rows: The most rows of a batch.

        Raises:
            DataError: A part is not there or not as it was written.
        """
        names = self.schema.names if columns is None else list(columns)
        target = pa.schema([self.schema.field(name) for name in names])
        for group in self._groups():
            path = self._files.path(group.part.files["rows"])
            with reading(path), pq.ParquetFile(path) as opened:
                present = [name for name in opened.schema_arrow.names if name in names or name == OFFSET]
                for batch in opened.iter_batches(batch_size=batch_rows, row_groups=[group.number], columns=present):
                    yield from conform(pa.Table.from_batches([batch]), target).to_batches()

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the messages that became no rows; `line` is the offset."""
        for part in self.manifest.parts:
            if "rejects" in part.files:
                table = self._files.table(part.files["rejects"])
                where, offsets, reasons = (table[name].to_pylist() for name in (PARTITION, OFFSET, REASON))
                said = [f"{place}, offset {offset}: {reason}" for place, offset, reason in zip(where, offsets, reasons, strict=True)]
                raw = [(one or b"").decode(errors="replace")[:RAW_CHARACTERS] for one in table[RAW].to_pylist()]
                yield reject_batch(offsets, said, raw)

    def _values(self, about: Mapping[str, Any], name: str) -> Iterator[pa.ChunkedArray]:
        """Yield the values of a column."""
        for table in self._files.batches(about, [name]):
            yield table[name]

    def _groups(self) -> list[_Group]:
        groups = [
            _Group(partition, part, number)
            for part in self.manifest.parts
            if "rows" in part.files
            for number, partition in enumerate(part.files["rows"]["groups"])
        ]
        return sorted(groups, key=lambda one: (partition_key(one.partition), one.part.number))
