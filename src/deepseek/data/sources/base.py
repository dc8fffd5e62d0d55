"""The contract of every source: where rows come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

DEFAULT_BATCH_ROWS = 65_536


class Source(ABC):
    """A table that can be read from its beginning as often as one likes, in the same order each time.

    A source keeps no open file between calls and never holds more than a few batches in memory.

    Args:
        folder: What relative paths are relative to; the folder of the recipe.
    """

    def __init__(self, folder: Path = Path(), /) -> None:
        self.folder = Path(folder)

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

    def given_split(self) -> str | None:
        """Return the name of the column that says `train`, `validation` or `test`, where the source itself knows the split."""
        return None
