"""What is handed in for predicting, from Python or as files, and answers in the same form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from deepseek.data.sources import open_source
from deepseek.data.sources.folder import SUFFIXES, FolderSource
from deepseek.data.sources.listed_files import ListedFiles
from deepseek.data.volumes import is_volume
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Kind
from deepseek.registry import family

if TYPE_CHECKING:
    from deepseek.data.sources.base import Source
    from deepseek.fields import Schema

FILE = "file"
"""The column of the answers that names the file where a row is one."""

_FILE_KINDS: dict[Kind, Literal["image", "audio", "text", "volume"]] = {
    Kind.IMAGE: "image",
    Kind.AUDIO: "audio",
    Kind.TEXT: "text",
    Kind.VOLUME: "volume",
}


def open_rows(given: Any, schema: Schema, columns: Sequence[str]) -> Source:
    """Return the source of rows to be answered.

    Beside what `open_source` takes: one row as a mapping or a pandas Series, a Series of a model's only column, and for a model whose only
    input is an image, a volume, a sound or a text the files themselves: one, several, a pattern, or a folder without classes.

    Args:
        given: The rows.
        schema: What the columns were in training.
        columns: The columns that are needed.

    Raises:
        InputError: No source reads such a thing.
        DataError: There is no such file.
    """
    if _is_path(given) or (isinstance(given, list) and given and all(map(_is_path, given))):
        listed = _listed(given, schema, columns)
        return listed or open_source([str(item) for item in given] if isinstance(given, list) else str(given))
    if getattr(given, "ndim", None) == 1 and getattr(getattr(given, "dtype", None), "names", None) is None:
        given = _one_dimension(given, columns)
    elif _has_no_names(given):
        given = _by_place(given, columns)
    elif isinstance(given, Mapping) and given and all(map(_is_scalar, given.values())) and not _is_spec(given, columns):
        given = [given]
    return open_source(given)


def _one_dimension(given: Any, columns: Sequence[str]) -> Any:
    """Return a Series as a table: a row, where its index has the names of columns, or the only column."""
    if not hasattr(given, "to_frame"):
        raise InputError(
            "the rows are given as an array of one dimension", hint="give one row as row[None, :], a column as column[:, None]"
        )
    if _is_row(given, columns):
        return [{str(name): value for name, value in given.to_dict().items()}]
    if len(columns) == 1:
        return given.to_frame(columns[0])
    what = f"the Series {given.name!r} is neither a row nor the model's only column"
    raise InputError(what, hint=f"a row has the values {', '.join(columns)} by name")


def _is_row(series: Any, columns: Sequence[str]) -> bool:
    return set(columns) <= _names(getattr(series, "index", ()))


def _names(names: Iterable[Any]) -> set[str]:
    """Return the names of pandas as a table has them: numbers as text."""
    return set(map(str, names))


def _has_no_names(given: Any) -> bool:
    """Whether a matrix, or a pandas frame whose columns are numbered, is given."""
    if isinstance(given, np.ndarray):
        return given.ndim == 2
    return hasattr(given, "reset_index") and not any(isinstance(name, str) for name in given.columns)


def _by_place(given: Any, columns: Sequence[str]) -> Any:
    """Return a matrix for a model that was trained on one, a numbered frame as it is for a model that was trained on such a one."""
    if set(columns) <= _names(getattr(given, "columns", ())):
        return given
    matrix = np.asarray(given)
    if all(re.fullmatch(r"x\d+", name) for name in columns):
        return matrix
    what = f"the columns of the {type(given).__name__} have no names; the model needs {', '.join(map(repr, columns))}"
    raise ColumnError(what, hint="give a table with names, such as pandas.DataFrame(rows, columns=predictor.columns)")


def like(given: Any, answers: pa.Table, columns: Sequence[str]) -> Any:
    """Return answers as the kind of table that was given: pandas with its index, polars, else Arrow.

    Args:
        given: The rows.
        answers: The answer to each.
        columns: The columns that are needed.
    """
    made = in_kind(given, answers)
    if type(given).__module__.partition(".")[0] == "pandas":
        made.index = [given.name] if given.ndim == 1 and _is_row(given, columns) else given.index
    return made


def in_kind(given: Any, answers: pa.Table) -> Any:
    """Return answers as the kind of table that was given: pandas, polars, else Arrow; rows need not be those that were given.

    Args:
        given: The rows.
        answers: The answers.
    """
    kind = type(given).__module__.partition(".")[0]
    if kind == "pandas":
        return answers.to_pandas()
    if kind == "polars":
        import polars as pl

        return pl.from_arrow(answers)
    return answers


def with_names(source: Source, answers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give answers to files the files' names, in a first column."""
    done = 0
    for batch in answers:
        if isinstance(source, ListedFiles):
            names = source.names[done : done + batch.num_rows]
            done += batch.num_rows
            batch = pa.record_batch([pa.array(names, pa.string()), *batch.columns], [FILE, *batch.schema.names])  # noqa: PLW2901
        yield batch


def skipped_files(source: Source) -> list[str]:
    """Say which files of a folder were passed over, where there are any."""
    if not isinstance(source, ListedFiles) or not source.skipped:
        return []
    names = ", ".join(source.skipped[:5]) + (" …" if len(source.skipped) > 5 else "")
    return [f"{len(source.skipped)} files were passed over, which are no {source.kind}: {names}"]


def _listed(given: Any, schema: Schema, columns: Sequence[str]) -> ListedFiles | None:
    """Return files that are rows themselves, or nothing where what is given is a table of rows."""
    kind = _FILE_KINDS.get(schema[columns[0]].kind) if len(columns) == 1 else None
    if kind is None:
        return None
    try:
        listed = ListedFiles(given, column=columns[0], kind=kind)
    except DataError:
        if kind != "text" and _is_path(given) and _is_named(str(given), kind):
            raise  # no table is called like that: the file is not there
        return None
    return None if kind == "text" and _is_table(given, columns[0]) else listed


def _is_named(path: str, kind: str) -> bool:
    """Whether a path is that of an image, a sound or a volume, by its suffix."""
    return is_volume(path) if kind == "volume" else Path(path).suffix.lower() in SUFFIXES[kind]


def _is_table(given: Any, column: str) -> bool:
    """Whether text files are read as tables with the wanted column: `.txt` may be either."""
    try:
        source = open_source(given if isinstance(given, list) else str(given))
        return not isinstance(source, FolderSource) and column in source.schema().names
    except DataError:
        return False


def _is_path(value: object) -> bool:
    return isinstance(value, str | PathLike)


def _is_spec(given: Mapping[str, Any], columns: Sequence[str]) -> bool:
    """Whether a mapping names a source, rather than being a row that has a column `type`."""
    return "type" not in columns and given.get("type") in family("source").names()


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | bytes) or not (hasattr(value, "__len__") or hasattr(value, "__arrow_c_array__"))
