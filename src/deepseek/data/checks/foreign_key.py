"""Values that must be the key of a row of another table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.checks.base import Check, OnFail
from deepseek.data.columns import missing, plain, require_columns
from deepseek.data.sources.remote.urls import is_remote, path_of, shown
from deepseek.errors import ColumnError, InputError
from deepseek.recipe.secrets import resolve_secret
from deepseek.registry import family

if TYPE_CHECKING:
    from deepseek.data.sources.base import Source

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


class ForeignKeyCheck(Check):
    """A row is bad where a value is not among the keys of another table; a missing value is not bad.

    The other table's keys are read once, when the first batch comes, and only that column; they stay in memory. The file must be at hand
    wherever the check runs, in production too.

    Args:
        column: The column whose values are looked up.
        table: The other table: a CSV, JSON, JSON Lines, Parquet or Arrow file, told by its ending, or the URL of one; a relative path
            starts at the recipe's folder.
        key: The column of the other table that is looked up in; the same name where not given.
        on_fail: What becomes of bad rows.
    """

    def __init__(self, *, column: str, table: str | Path, key: str | None = None, on_fail: OnFail = "quarantine") -> None:
        super().__init__(on_fail=on_fail)
        self._address = str(table)
        if shown(self._address) != self._address:
            hint = "refer to it: https://${ENV:USER}:${ENV:PASSWORD}@server/…"
            raise InputError(f"the check foreign_key was given the table {shown(self._address)!r}, which holds a secret", hint=hint)
        self.column, self.table, self.key = column, Path(path_of(self._address) if is_remote(table) else table), key or column
        if self.table.suffix.lower() not in _FORMATS:
            raise InputError(f"the check foreign_key was given the table {str(table)!r}", hint=f"allowed endings: {', '.join(_FORMATS)}")
        self._keys: pa.Array | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The column whose values are looked up."""
        return (self.column,)

    @property
    def reason(self) -> str:
        """Why a row is bad."""
        return f"{self.column} must be among the values of {self.key} in {self.table.name}"

    def fingerprint(self) -> str | None:
        """Return the hash of the other table."""
        return self._source().fingerprint()

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for each row whose value is there and not among the keys."""
        require_columns(self.columns, batch.schema.names, what="the check foreign_key")
        values = plain(batch.column(self.column))
        if pa.types.is_null(values.type):
            return np.zeros(batch.num_rows, dtype=bool)
        if self._keys is None:
            self._keys = self._read()
        found = np.asarray(pc.is_in(values, self._as(self._keys, values.type)).to_numpy(zero_copy_only=False))
        return np.asarray(~found & ~missing(values))

    def _source(self) -> Source:
        spec = {"type": _FORMATS[self.table.suffix.lower()], "path": resolve_secret(self._address)}
        return cast("Source", family("source").build(spec, self.folder))

    def _read(self) -> pa.Array:
        source = self._source()
        require_columns([self.key], source.schema().names, what=f"the check foreign_key, in {self.table.name},")
        keys = pa.array([], pa.null())
        for batch in source.read(columns=[self.key]):
            column = pc.drop_null(plain(batch.column(0)))
            keys = pc.unique(pa.concat_arrays([keys.cast(column.type), column]))
        return keys

    def _as(self, keys: pa.Array, kind: pa.DataType) -> pa.Array:
        try:
            return keys.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ColumnError(
                f"the check foreign_key compares {self.column!r} ({kind}) with {self.key!r} of {self.table.name} ({keys.type})",
                hint="both columns must be read as the same type",
            ) from None
