"""Tables that are already in memory: pandas, polars, Arrow, NumPy and Hugging Face `datasets`, handed in from Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver, plain_batch, plain_schema, unique_names
from deepseek.data.sources.hugging_face import dataset_table, is_dataset, is_dataset_dict, refuse_streams, splits_table
from deepseek.errors import DataError

if TYPE_CHECKING:
    import pyarrow.compute as pc


class MemorySource(Source):
    """Read a table that is already in memory; nothing is copied that Arrow can share.

    It takes a pandas or polars frame, an Arrow table or record batch, anything with the Arrow stream interface, a mapping of names to NumPy
    arrays or lists (of Pillow images too), a pair `(X, y)` of arrays, a list of records (mappings) or of rows, a Hugging Face `Dataset`,
    or a `DatasetDict`, whose splits become the column `split`.

    Args:
        data: The table. Arrays of more than one dimension in a mapping become tensor columns; a matrix `X` becomes the columns `x0`, `x1` …

    Raises:
        DataError: It is no table, or a column cannot be held by Arrow.

    Example:
        >>> MemorySource({"age": [31, 44], "name": ["a", "b"]}).schema().names
        ['age', 'name']
    """

    def __init__(self, data: object, /) -> None:
        super().__init__()
        self._split: str | None = None
        refuse_streams(data)
        if is_dataset_dict(data):
            table, self._split = splits_table(data), "split"
        else:
            table = _to_table(data)
        unique_names(table.column_names, "the table")
        if not table.num_columns:
            raise DataError("the table has no columns")
        self._table = table
        self._schema = plain_schema(table.schema)

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        return self._schema

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        wanted = check_request(self._schema, columns, batch_rows)
        read = self._schema.names if wanted is None or where is not None else wanted
        return deliver(self._batches(read, batch_rows), columns=wanted, where=where, batch_rows=batch_rows)

    def _batches(self, names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([self._schema.field(name) for name in names])
        for batch in self._table.select(names).to_batches(max_chunksize=batch_rows):
            yield plain_batch(batch, schema)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the schema and of every value, whatever the chunks they lie in."""
        pieces = (
            self._table.slice(start, DEFAULT_BATCH_ROWS).combine_chunks() for start in range(0, self._table.num_rows, DEFAULT_BATCH_ROWS)
        )
        return hash_rows(self._schema, (plain_batch(batch, self._schema) for piece in pieces for batch in piece.to_batches()))

    def given_split(self) -> str | None:
        """Return `split` where the table came as a mapping of splits."""
        return self._split


def hash_rows(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> str:
    """Return the SHA-256 of a schema and of every value of the batches."""
    sink = _HashSink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.total.hexdigest()


def tensor_column(values: np.ndarray) -> pa.Array:
    """Return an array of any number of dimensions as a column: a tensor for each row where it has more than one.

    A matrix of one column is a plain column.

    Raises:
        DataError: Its type is none that a column can hold.
    """
    try:
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim > 1:
            return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"an array of type {values.dtype} and shape {values.shape} cannot be a column: {error}") from error


def is_table(value: object) -> bool:
    """Say whether a value is something that `MemorySource` takes (a mapping of names to arrays included)."""
    if isinstance(value, Mapping):
        return bool(value) and not isinstance(value.get("type"), str)
    return not isinstance(value, str | bytes) and (
        hasattr(value, "__arrow_c_stream__")
        or hasattr(value, "with_format")
        or hasattr(value, "collect_schema")
        or isinstance(value, pa.RecordBatch | np.ndarray | tuple | list)
    )


class _HashSink:
    """A writable file that keeps nothing but the hash of what was written."""

    closed = False

    def __init__(self) -> None:
        self.total = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.total.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def close(self) -> None:
        """Do nothing: there is no file."""


def _to_table(data: Any) -> pa.Table:
    try:
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if is_dataset(data):
            return dataset_table(data)
        if hasattr(data, "collect_schema") and hasattr(data, "collect"):  # a polars LazyFrame
            data = data.collect()
        if hasattr(data, "reset_index") and hasattr(data, "to_numpy"):  # pandas
            return _from_pandas(data)
        if hasattr(data, "__arrow_c_stream__"):  # Arrow tables, polars, DuckDB and others
            return pa.table(data)
        if isinstance(data, np.ndarray) or (isinstance(data, tuple) and len(data) == 2):
            x, y = (data, None) if isinstance(data, np.ndarray) else data
            named = x.dtype.names if isinstance(x, np.ndarray) else None
            inputs = {name: x[name] for name in named} if named else _matrix("x", x)
            data = {**inputs, **({} if y is None else _matrix("y", y))}
        if isinstance(data, list) and data and all(isinstance(row, list | tuple | np.ndarray) for row in data):
            data = _matrix("x", data)
        if isinstance(data, Mapping):
            return _from_mapping(data)
        if isinstance(data, list) and data and all(isinstance(item, Mapping) for item in data):
            return pa.Table.from_pylist(_same_keys(data))
    except (pa.ArrowException, TypeError, ValueError) as error:
        why = "; ".join(map(str, error.args))
        raise DataError(f"a {type(data).__name__} cannot be read as a table: {why}", hint="give each column values of one type") from error
    raise DataError(
        f"a {type(data).__name__} is no table",
        hint="give a pandas or polars frame, an Arrow table, a mapping of names to arrays, (X, y), records, or a Hugging Face dataset",
    )


def _from_pandas(frame: Any) -> pa.Table:
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index() if len(named) == frame.index.nlevels else frame.reset_index(drop=True)
    frame.columns = unique_names([str(name) for name in frame.columns], "the table")
    return pa.Table.from_pandas(frame, preserve_index=False)


def _from_mapping(columns: Mapping[str, Any]) -> pa.Table:
    arrays = {str(name): _column(values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns have unequal lengths: {lengths}", hint="every column needs one value for each row")
    return pa.table(arrays)


def _column(values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if values is None or isinstance(values, str | bytes | bool | int | float):
        raise DataError(f"a column is given as {values!r}", hint="give a list or an array with one value for each row")
    if isinstance(values, np.ndarray) or (hasattr(values, "__array__") and not hasattr(values, "__arrow_c_stream__")):
        return tensor_column(np.asarray(values))
    if isinstance(values, Sequence) and values and all(type(value).__module__.startswith("PIL.") for value in values):
        return pa.array([_png(image) for image in values], pa.binary())
    return pa.array(values)


def _png(image: Any) -> bytes:
    """Return a Pillow image's bytes as a file without losses."""
    file = BytesIO()
    (image if image.mode in {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"} else image.convert("RGB")).save(file, "PNG")
    return file.getvalue()


def _matrix(name: str, values: Any) -> dict[str, Any]:
    """Return the columns of a matrix, named by their position; a vector or a tensor is one column."""
    array = np.asarray(values)
    return {f"{name}{i}": array[:, i] for i in range(array.shape[1])} if array.ndim == 2 else {name: array}


def _same_keys(records: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Arrow takes the columns of the first record alone; later ones would be lost.
    names = dict.fromkeys(name for record in records for name in record)
    return [{name: record.get(name) for name in names} for record in records]
