"""Sources: where rows come from. `open_source` finds the right one for whatever is given."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, INGESTED, Source
from deepseek.data.sources.masks import pair_of
from deepseek.data.sources.memory import MemorySource, is_table
from deepseek.data.sources.remote.cache import matching, names_below
from deepseek.data.sources.remote.urls import is_remote, local_path, path_of, shown
from deepseek.errors import DataError, InputError
from deepseek.registry import family

__all__ = ["DEFAULT_BATCH_ROWS", "Source", "is_database", "is_url", "open_source"]

_DATABASE = re.compile(
    r"(?:postgres(?:ql)?|mysql|mariadb|sqlite|mssql|oracle|duckdb|snowflake|redshift|bigquery|trino|presto|clickhouse\w*|cockroachdb|db2"
    r"|ibm_db_sa|firebird|hana|teradatasql|vertica|databricks|crate|exa|[a-z][a-z0-9_]*\+[a-z0-9_]+)(?:\+\w+)?://"
)

_TYPES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".zip": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".npz": "npz",
}


def open_source(value: object, *, folder: Path = Path()) -> Source:
    """Return the source that reads what is given.

    Args:
        value: A path or a pattern (the suffix says the format; `.gz`, `.zip` and their like may follow it), a list of paths, a folder (of
            class subfolders, of images with their masks, of table files of one suffix, or of what `deepseek ingest` took in), the URL of
            any of these, a source's spec (`{type: csv, path: …}`, `{type: sql, url: …, table: …}`), a source, or a table in memory: pandas,
            polars, Arrow, NumPy, a Hugging Face dataset.
        folder: What relative paths are relative to.

    Raises:
        DataError: No source reads such a thing.

    Example:
        >>> open_source({"age": [31, 44]}).schema().names
        ['age']
    """
    if isinstance(value, Source):
        return value
    if is_database(value):
        return cast(Source, family("source").build({"type": "sql", "url": value}, folder))
    if isinstance(value, str) and is_remote(value):
        return _open_url(value, folder)
    if isinstance(value, str | Path):
        return _open_path(str(local_path(value)), folder)
    if isinstance(value, Mapping) and isinstance(value.get("type"), str):
        return cast(Source, family("source").build(value, folder))
    if isinstance(value, list) and value and all(isinstance(item, str | Path) for item in value):
        return _build(_type_of([Path(path_of(item)) if is_url(item) else local_path(item) for item in value]), value, folder)
    if is_table(value):
        return MemorySource(value)
    raise InputError(
        f"the data is given as a {type(value).__name__}",
        hint="give a path, a mapping with the key type, a pandas, polars or Arrow table, arrays, or a Hugging Face dataset",
    )


def is_database(value: object) -> bool:
    """Whether a value is a database's URL; which table of it is read has to be said beside it."""
    return isinstance(value, str) and _DATABASE.match(value) is not None


def is_url(value: object) -> bool:
    """Whether a value is the URL of a file or folder, of a web server or an object store."""
    return not is_database(value) and is_remote(value)


def _open_url(value: str, folder: Path) -> Source:
    path = Path(path_of(value))
    if _suffix(path) in _TYPES:
        return _build(_TYPES[_suffix(path)], value, folder)
    if glob.has_magic(value):
        return _build(_type_of([Path(path_of(url)) for url in matching(value)]), value, folder)
    names = names_below(value)
    suffixes = Counter(_suffix(Path(name)) for name in names if len(name.parts) == 1 and _suffix(Path(name)) in _TYPES)
    if not suffixes or any(len(name.parts) > 1 for name in names):
        return _build("folder", value, folder)
    if len(suffixes) > 1:
        raise DataError(
            f"the folder {shown(value)!r} holds tables of several formats: {', '.join(sorted(suffixes))}",
            hint="name the files, as s3://bucket/folder/*.csv",
        )
    suffix = next(iter(suffixes))
    return _build(_TYPES[suffix], [f"{value.rstrip('/')}/{name}" for name in names if _suffix(Path(name)) == suffix], folder)


def _open_path(value: str, folder: Path) -> Source:
    full = folder / Path(value).expanduser()
    if full.is_dir():
        if (full / INGESTED).is_file():
            return _build("ingest", value, folder)
        if pair_of(full) is not None:
            return _build("masks", value, folder)
        return _open_folder(full, value, folder)
    names = glob.glob(str(full), recursive=True) if glob.has_magic(value) and not full.exists() else []  # noqa: PTH207
    return _build(_type_of([Path(name) for name in names] or [full]), value, folder)


def _open_folder(full: Path, value: str, folder: Path) -> Source:
    """Read a folder: of table files where it has such and no subfolders of files, else of classes."""
    entries = [entry for entry in full.iterdir() if not entry.name.startswith(".")]
    suffixes = Counter(_suffix(entry) for entry in entries if entry.is_file() and _suffix(entry) in _TYPES)
    if not suffixes or any(entry.is_dir() for entry in entries):
        return _build("folder", value, folder)
    if len(suffixes) > 1:
        raise DataError(
            f"the folder {str(full)!r} holds tables of several formats: {', '.join(sorted(suffixes))}",
            hint="name the files, as folder/*.csv",
        )
    suffix = next(iter(suffixes))
    return _build(_TYPES[suffix], sorted(str(entry) for entry in entries if _suffix(entry) == suffix), folder)


def _type_of(files: list[Path]) -> str:
    suffix = _suffix(sorted(files)[0])
    if suffix not in _TYPES:
        raise DataError(
            f"the format of {str(files[0])!r} cannot be told from its suffix {suffix or '(none)'!r}",
            hint=f"known suffixes: {' '.join(_TYPES)}; or say it: data.source={{type: csv, path: {files[0].name}}}",
        )
    return _TYPES[suffix]


def _suffix(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in {".gz", ".zip", ".bz2", ".xz", ".zst"}:
        inner = suffixes[-2] if len(suffixes) > 1 else ""
        return inner if inner in _TYPES else suffixes[-1]
    return suffixes[-1] if suffixes else ""


def _build(name: str, path: Any, folder: Path) -> Source:
    given = [str(item) for item in path] if isinstance(path, list) else str(path)
    return cast(Source, family("source").build({"type": name, "path": given}, folder))
