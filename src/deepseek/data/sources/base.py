"""The contract of every source: where rows come from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

DEFAULT_BATCH_ROWS = 65_536
ROOT_KEY = b"deepseek.root"
"""The key of a column's Arrow metadata under which the folder stands that paths in it are relative to."""
HASHED_KEY = b"deepseek.hashed"
"""The key that says that the files which a column names are in the source's own fingerprint."""
INGESTED = "ingest.json"
"""The file that marks a folder which `deepseek ingest` wrote."""
DEFINITIONS = "features"
"""The key of a manifest under which the definitions stand by which a source makes its columns."""
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
SPLITS |= {"test": "test", "testing": "test"}
"""What people call the three splits, and what the framework calls them."""


class Source(ABC):
    """A table that can be read from its beginning as often as one likes, in the same order each time.

    A source keeps no open file between calls and never holds more than a few batches in memory.

    Args:
        folder: What relative paths are relative to; the folder of the recipe.
    """

    def __init__(self, folder: Path = Path(), /) -> None:
        self.folder = Path(folder)

    @property
    def root(self) -> Path | None:
        """The folder that paths in its columns are relative to; nothing for the working directory."""
        return None

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Return the columns and their Arrow types, as `read` delivers them.

        Raises:
            DataError: The source cannot be found, opened or understood.
        """

    @abstractmethod
    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order.

        Args:
            columns: The columns wanted, in that order; all where not given.
            where: Only rows for which this Arrow expression is true.
            batch_rows: The most rows that a batch may hold.

        Raises:
            DataError: A row cannot be read; the message names the file and, where it is known, the line.
        """

    @abstractmethod
    def fingerprint(self) -> str | None:
        """Return a hash that changes when the content does, or nothing where that cannot be known cheaply."""

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield what the last complete `read` could not parse: the columns `line` (int64), `reason` and `raw` (strings).

        A source that skips a malformed record must hand it out here; nothing is dropped silently. Without any, nothing is yielded.
        """
        return iter(())

    def as_text(self, columns: Collection[str]) -> Self:
        """Return a source that reads these columns as text, spelled as they stand in the file.

        A file of text is read as the narrowest types that hold *its* rows: where training rows were text, `01` and `1.50` would become
        other values. A source whose tables have types of their own is returned as it is.

        Args:
            columns: Names; those that the source does not have are passed over.
        """
        return self

    def definitions(self) -> dict[str, Any] | None:
        """Return what a source's columns are made by, where it makes them, as plain JSON values; kept with what is trained on them."""
        return None

    def given_split(self) -> str | None:
        """Return the name of the column that says `train`, `validation` or `test`, where the source itself knows the split."""
        return None


def rooted(schema: pa.Schema, root: Path | None) -> pa.Schema:
    """Return a schema whose columns of text say which folder paths in them are relative to, where they do not say it already."""
    import pyarrow as pa

    if root is None:
        return schema
    texts = {pa.string(), pa.large_string(), pa.string_view()}
    metadata = {ROOT_KEY: os.fsencode(root)}
    fields = [
        field.with_metadata({**(field.metadata or {}), **metadata})
        if field.type in texts and ROOT_KEY not in (field.metadata or {})
        else field
        for field in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)


def rooted_batches(batches: Iterator[pa.RecordBatch], root: Path | None) -> Iterator[pa.RecordBatch]:
    """Yield batches whose schemas are `rooted`: what reads files that a table names finds them beside the table."""
    import pyarrow as pa

    for batch in batches:
        yield batch if root is None else pa.record_batch(batch.columns, schema=rooted(batch.schema, root))
