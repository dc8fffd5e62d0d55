"""Datasets of the hub as they come: rows are read where they lie, without a copy of the set, and a lost connection is no end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deepseek import progress
from deepseek.data.columns import is_text
from deepseek.data.sources.files import plain_schema
from deepseek.data.sources.hugging_face import named_rows
from deepseek.errors import DataError, DeepSeekError

_ROWS = 1_024
"""Rows that are held at a time: they may be pictures."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_NO_LOSS = (ValueError, TypeError, LookupError, NotImplementedError, FileNotFoundError, PermissionError)
"""What would be raised again."""
_TYPED_BY_PIECES = "a stream types files of text piece by piece; a source of their own, csv or json, looks at all rows first"


class StreamedRows:
    """The rows of one split, read from the beginning as often as one likes.

    Where reading fails it is begun again behind the last rows that came, by the state that `datasets` keeps: whole files that were read are
    passed over, so that a row comes neither twice nor not at all. What fails again and again without a row in between is raised.

    Args:
        dataset: An `IterableDataset`.
        name: What it is, for messages.
        limit: The most rows that are read; all where not given.
        retries: How often reading is begun again where no row came in between.
    """

    def __init__(self, dataset: Any, name: str, *, limit: int | None, retries: int) -> None:
        self._dataset, self._name = dataset, name
        self._limit, self._retries = limit, retries

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self._first.column_names)

    @property
    def empty(self) -> bool:
        """Whether there is no row."""
        return not self._first.num_rows

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns and types, as they are delivered."""
        return plain_schema(self._named(self._first.slice(0, 0)).schema)

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield some columns of the rows: labels by their names, files as their bytes.

        Args:
            columns: Their names, one or more.
            rows: The most rows of a table.

        Raises:
            DataError: Later rows are of other types than the first ones.
            Exception: What `datasets` and the servers behind it raise.
        """
        done = 0
        expected = self._first.schema
        for table in self._tables(list(columns), min(rows, _ROWS)):
            fitting = pa.table([self._fitting(table[name], expected.field(name), done) for name in columns], names=list(columns))
            done += table.num_rows
            yield self._named(self._with_contents(fitting))

    @cached_property
    def _first(self) -> pa.Table:
        """The first rows as they come: where the dataset does not say what its columns are, they do."""
        return next(self._tables(None, _ROWS), pa.table({}))

    def _tables(self, columns: list[str] | None, rows: int) -> Iterator[pa.Table]:
        """Yield what comes; after a failure, what comes behind it."""
        state, left, failures = None, self._limit, 0
        while left is None or left > 0:
            # made anew: of an iterator that failed nobody knows what it still holds
            stream = (self._dataset if columns is None else self._dataset.select_columns(columns)).with_format("arrow")
            if state is not None:
                stream.load_state_dict(state)
            try:
                for table in stream.iter(batch_size=rows):
                    state, failures = stream.state_dict(), 0
                    wanted = table if left is None else table.slice(0, left)
                    left = None if left is None else left - wanted.num_rows
                    yield wanted
                    if left == 0:
                        return
                return
            except DeepSeekError:
                raise
            except pa.ArrowInvalid as error:  # pieces of two types, too small to be told apart below
                why = str(error).strip().partition("\n")[0]
                raise DataError(f"{self._name} cannot be read as a stream: {why}", hint=_TYPED_BY_PIECES) from error
            except Exception as error:
                failures += 1
                if failures > self._retries or isinstance(error, _NO_LOSS):
                    raise
                why = str(error).strip().partition("\n")[0] or type(error).__name__
                progress.log(f"{self._name} cannot be read: {why}; trying again")
                time.sleep(min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S))

    def _fitting(self, column: pa.ChunkedArray, expected: pa.Field, row: int) -> pa.ChunkedArray:
        """Return a column with the type of the first rows, where that changes no value: files of text are typed piece by piece."""
        if column.type == expected.type:
            return column
        numbers = pa.types.is_integer(column.type) and pa.types.is_floating(expected.type)
        if pa.types.is_null(column.type) or numbers or (is_text(column.type) and is_text(expected.type)):
            try:
                return column.cast(expected.type)
            except pa.ArrowInvalid:
                pass  # whole numbers that no float holds
        raise DataError(
            f"{self._name}: from row {row:,} on, counted from 0, {expected.name!r} is of type {column.type}, and before of {expected.type}",
            hint=_TYPED_BY_PIECES,
        )

    def _with_contents(self, table: pa.Table) -> pa.Table:
        """Return rows whose files are bytes: a path leads nowhere once the rows are here and the files are not."""
        features = self._features
        for place, name in enumerate(table.column_names):
            embed = getattr(features.get(name), "embed_storage", None)
            if embed is not None:
                chunks = [embed(chunk) for chunk in table.column(place).chunks]
                table = table.set_column(place, name, pc.struct_field(pa.chunked_array(chunks, table.column(place).type), "bytes"))
        return table

    def _named(self, table: pa.Table) -> pa.Table:
        return named_rows(table, self._features, paths=frozenset())

    @property
    def _features(self) -> Mapping[str, Any]:
        features = self._dataset.features
        return features if isinstance(features, Mapping) else {}
