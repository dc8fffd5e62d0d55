"""One topic of a folder that `deepseek ingest` wrote, as it is at one moment."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, ROOT_KEY
from deepseek.data.sources.files import reading, reject_batch
from deepseek.data.sources.ingested.columns import columns_up_to
from deepseek.data.sources.ingested.manifest import (
    BLOBS,
    COUNTERS,
    FIRST_CHAIN,
    ID,
    SEQ,
    Manifest,
    topic_folder,
)
from deepseek.data.sources.merging import as_shown, conform, merged
from deepseek.data.sources.part_files import PartFiles
from deepseek.fields import NAMES_NO_FILE


class Topic:
    """The rows of one topic, as they are when this is made.

    Args:
        folder: The folder of ingested data.
        name: The topic.
        version: The number of the last content to read; all where not given.
        texts: Columns to be read as text.
    """

    def __init__(self, folder: Path, name: str, version: int | None = None, *, texts: Collection[str] = ()) -> None:
        self._folder, self.name, self._texts = folder, name, frozenset(texts)
        whole = Manifest.read(folder, name)
        parts = whole.parts if version is None else tuple(part for part in whole.parts if part.first <= version)
        self._cut = version if parts and version is not None and version < parts[-1].last else None
        self.manifest = replace(whole, parts=parts)
        lost = "it was deleted, or joined to others since this was opened; open it again"
        self._files = PartFiles(topic_folder(folder, name) / "parts", lost=lost)

    @property
    def chain(self) -> str:
        """What names every content of this state: the same whatever parts they lie in."""
        if self._cut is None:
            return self.manifest.chain
        contents = self._files.table(self.manifest.parts[-1].files["contents"])
        before = self._up_to_cut(contents)
        return str(before["chain"][-1].as_py()) if before.num_rows else FIRST_CHAIN

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns up to the last content and the narrowest types that hold them; those of files say where their paths begin."""
        files = [part.files["rows"] for part in self.manifest.parts if "rows" in part.files]
        columns = [columns_up_to(self._files.schema(about), self._cut) for about in files]
        stored = [list(one) for one in columns]
        schemas = [pa.schema(list(one.values())) for one in columns]
        whole = merged(schemas, lambda number, place: self._values(files[number], stored[number][place]))
        shown = as_shown((field for field in whole if field.name not in COUNTERS), self._texts)
        return pa.schema([self._marked(field) for field in shown])

    def _marked(self, field: pa.Field) -> pa.Field:
        """Return a column with what its texts are: paths of ours, or names that only look like such."""
        if pa.types.is_string(field.type) and field.name in BLOBS:
            return field.with_metadata({ROOT_KEY: os.fsencode(topic_folder(self._folder, self.name))})
        if pa.types.is_string(field.type) and field.name.startswith("_"):  # a sender's `filename` is no path of ours
            return field.with_metadata({NAMES_NO_FILE: b"1"})
        return field

    def files(self) -> list[Path]:
        """Return the files that hold the rows, in order."""
        return [path for part in self.manifest.parts if (path := self.manifest.path(self._folder, part, "rows"))]

    def batches(self, columns: Sequence[str] | None = None, *, batch_rows: int = DEFAULT_BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order of their coming.

        Args:
            columns: The columns wanted; all where not given.
            batch_rows: The most rows of a batch.

        Raises:
            DataError: A part is not there or not as it was written.
        """
        names = self.schema.names if columns is None else list(columns)
        target = pa.schema([self.schema.field(name) for name in names])
        for part in self.manifest.parts:
            if "rows" not in part.files:
                continue
            path = self._files.path(part.files["rows"])
            with reading(path), pq.ParquetFile(path) as opened:
                stored = columns_up_to(opened.schema_arrow, self._cut)
                present = [name for name, field in stored.items() if field.name in names]
                for batch in opened.iter_batches(batch_size=batch_rows, columns=[*present, SEQ]):
                    table = self._up_to_cut(pa.Table.from_batches([batch]))
                    own = [stored[name].name if name in stored else name for name in table.column_names]
                    yield from conform(table.rename_columns(own), target).to_batches()

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows at once."""
        names = self.schema.names if columns is None else list(columns)
        return pa.Table.from_batches(self.batches(columns), pa.schema([self.schema.field(name) for name in names]))

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the records that were refused when they came; those of a content that came again and was stored are the later one's."""
        if not any("rejects" in part.files for part in self.manifest.parts):
            return
        replaced = self._replaced()
        for part in self.manifest.parts:
            if "rejects" in part.files:
                table = self._up_to_cut(self._files.table(part.files["rejects"]))
                table = table.filter(pc.invert(pc.is_in(table[SEQ], replaced)))
                reasons = [f"{self.name}, content {name}: {reason}" for name, reason in zip(*_lists(table, "_id", "reason"), strict=True)]
                if reasons:
                    yield reject_batch(table["line"].to_pylist(), reasons, table["raw"].to_pylist())

    def _replaced(self) -> pa.Array:
        """Return the numbers of contents that were refused whole, and are stored under a later one: the schema was mended in between."""
        parts = [self._up_to_cut(self._files.table(part.files["contents"])) for part in self.manifest.parts]
        contents = pa.concat_tables([part.select([SEQ, ID, "sha256", "rows"]) for part in parts])
        refused = contents.filter(pc.equal(contents["rows"], 0))
        same = contents.filter(pc.is_in(contents[ID], refused[ID]))
        last = {(row[ID], row["sha256"]): row[SEQ] for row in same.to_pylist()}
        return pa.array([row[SEQ] for row in refused.to_pylist() if last[row[ID], row["sha256"]] > row[SEQ]], pa.int64())

    def _values(self, about: Mapping[str, Any], stored: str) -> Iterator[pa.ChunkedArray]:
        """Yield the values of a stored column."""
        for table in self._files.batches(about, [stored, SEQ]):
            yield self._up_to_cut(table)[stored]

    def _up_to_cut(self, table: pa.Table) -> pa.Table:
        return table if self._cut is None else table.filter(pc.less_equal(table[SEQ], self._cut))


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]
