"""One topic of a folder that `deepseek ingest` wrote, as it is at one moment."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepseek.artifacts.files import sha256_file
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
    Part,
    PartFile,
    conform,
    merged,
    topic_folder,
)
from deepseek.errors import DataError
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
        self._seen: set[Path] = set()

    @property
    def chain(self) -> str:
        """What names every content of this state: the same whatever parts they lie in."""
        if self._cut is None:
            return self.manifest.chain
        contents = self._table(self.manifest.parts[-1], "contents")
        before = self._up_to_cut(contents)
        return str(before["chain"][-1].as_py()) if before.num_rows else FIRST_CHAIN

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns up to the last content and the narrowest types that hold them; those of files say where their paths begin."""
        stored = [self._schema_of(part) for part in self.manifest.parts if "rows" in part.files]
        whole = merged([pa.schema(list(columns_up_to(one, self._cut).values())) for one in stored])
        root = {ROOT_KEY: os.fsencode(topic_folder(self._folder, self.name))}
        fields = []
        for field in whole:
            if field.name in COUNTERS:
                continue
            as_text = field.name in self._texts and not pa.types.is_nested(field.type)
            typed = field.with_type(pa.string()) if as_text else field
            if pa.types.is_string(typed.type) and typed.name in BLOBS:
                typed = typed.with_metadata(root)
            elif pa.types.is_string(typed.type) and typed.name.startswith("_"):  # a sender's `filename` is no path of ours
                typed = typed.with_metadata({NAMES_NO_FILE: b"1"})
            fields.append(typed)
        return pa.schema(sorted(fields, key=lambda field: field.name.startswith("_")))

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
            path = self._checked(part, "rows")
            if path is None:
                continue
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
                table = self._up_to_cut(self._table(part, "rejects"))
                table = table.filter(pc.invert(pc.is_in(table[SEQ], replaced)))
                reasons = [f"{self.name}, content {name}: {reason}" for name, reason in zip(*_lists(table, "_id", "reason"), strict=True)]
                if reasons:
                    yield reject_batch(table["line"].to_pylist(), reasons, table["raw"].to_pylist())

    def _replaced(self) -> pa.Array:
        """Return the numbers of contents that were refused whole, and are stored under a later one: the schema was mended in between."""
        parts = [self._up_to_cut(self._table(part, "contents")) for part in self.manifest.parts]
        contents = pa.concat_tables([part.select([SEQ, ID, "sha256", "rows"]) for part in parts])
        refused = contents.filter(pc.equal(contents["rows"], 0))
        same = contents.filter(pc.is_in(contents[ID], refused[ID]))
        last = {(row[ID], row["sha256"]): row[SEQ] for row in same.to_pylist()}
        return pa.array([row[SEQ] for row in refused.to_pylist() if last[row[ID], row["sha256"]] > row[SEQ]], pa.int64())

    def _up_to_cut(self, table: pa.Table) -> pa.Table:
        return table if self._cut is None else table.filter(pc.less_equal(table[SEQ], self._cut))

    def _schema_of(self, part: Part) -> pa.Schema:
        path = self._checked(part, "rows")
        assert path is not None
        with reading(path):
            return pq.read_schema(path).remove_metadata()

    def _table(self, part: Part, kind: PartFile) -> pa.Table:
        path = self._checked(part, kind)
        assert path is not None
        with reading(path):
            return pq.read_table(path)

    def _checked(self, part: Part, kind: PartFile) -> Path | None:
        """Return a part's file after seeing, once, that it is as it was written."""
        path = self.manifest.path(self._folder, part, kind)
        if path is None or path in self._seen:
            return path
        if not path.is_file():
            raise DataError(f"{path} is not there", hint="it was deleted, or joined to others since this was opened; open it again")
        if sha256_file(path) != part.files[kind]["sha256"]:
            raise DataError(f"{path} is not as it was written", hint="bring the folder back from a copy")
        self._seen.add(path)
        return path


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]
