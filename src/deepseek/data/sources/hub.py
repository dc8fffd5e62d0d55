"""Datasets of the Hugging Face hub, and folders that `datasets` reads or wrote, named by a recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from annotated_types import Ge, Le

from deepseek.artifacts.files import sha256_json
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, SPLITS, Source
from deepseek.data.sources.files import check_request, deliver, plain_batch, plain_schema
from deepseek.data.sources.hub_stream import StreamedRows
from deepseek.data.sources.hugging_face import is_dataset_dict, named_rows, only_paths
from deepseek.data.sources.memory import hash_rows
from deepseek.data.sources.parquet import unified
from deepseek.errors import DataError, DeepSeekError, InputError, MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    import pyarrow.compute as pc

_COMMIT, _FULL_COMMIT = re.compile(r"@([0-9a-f]{40})/"), re.compile(r"[0-9a-f]{40}")
_OFFLINE = ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE")
_SAVED = ("dataset_dict.json", "state.json")
SPLIT_COLUMN = "split"


class HuggingFaceSource(Source):
    """Read a dataset through the library `datasets`, memory-mapped and in batches.

    A `ClassLabel` is its name, missing where it is -1; an `Image` or `Audio` is the bytes of its file, or the path where that is all.
    Without `split` all splits are read, and the column `split` says which is which. The run's `data.json` holds the hash of the rows, and
    the commit that they are of.

    With `streaming`, rows are read where they lie and land at once: the cache of `datasets` keeps no files beside them, and `limit` rows
    cost no more than these. A lost connection is made again, and reading goes on behind the last row that came.

    Args:
        folder: What a relative path is relative to.
        path: A folder: one that `save_to_disk` wrote, or of files that `load_dataset` reads. Where there is none, the dataset's name on the
            hub, `OWNER/NAME`; a token for private ones is looked up in `HF_TOKEN`.
        config: Which of the dataset's configurations to read, where it has several.
        split: Which split to read; also a part of one, `train[:10%]`.
        revision: A commit, tag or branch of the hub's repository; the newest where not given. Only a commit stays what it is.
        streaming: Whether rows are read as they come, without the cache. Parts of splits have no meaning there.
        limit: With `streaming`, the most rows that are read of each split.
        retries: With `streaming`, how often reading is begun again behind the last row where none came in between, 0 to 20.

    Raises:
        DataError: There is no such dataset, it cannot be reached, or a split's name is unknown.
        InputError: The arguments contradict each other.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path = Path(),
        /,
        *,
        path: str,
        config: str | None = None,
        split: str | None = None,
        revision: str | None = None,
        streaming: bool = False,
        limit: Annotated[int, Ge(1)] | None = None,
        retries: Annotated[int, Ge(0), Le(20)] = 5,
    ) -> None:
        super().__init__(folder)
        self.streaming, self.limit, self.retries = streaming, limit, retries
        if limit is not None and not streaming:
            raise InputError(f"limit is {limit:,}, and rows are not streamed", hint="say streaming: true, or split: train[:1000]")
        self.path, self.config, self.split, self.wanted_revision = path, config, split, revision
        full = self.folder / Path(path).expanduser()
        self._local = full if full.is_dir() else None
        if self._local is None and (path.startswith((".", "/", "~")) or "://" in path or path.count("/") > 1):
            raise DataError(f"there is no folder {str(full)!r}", hint="name a folder, or a dataset of the hub: OWNER/NAME")
        if self._local is not None and revision is not None:
            raise InputError(f"revision is {revision!r}, and {path!r} is a folder", hint="a folder has no revisions; leave it out")
        self._loaded: list[tuple[str | None, _Rows]] | None = None

    def schema(self) -> pa.Schema:
        """Return the columns and types that all splits have; types that differ are widened to one."""
        with _foreign(self.path, local=self._local is not None):
            schema = unified([(Path(name or self.path), part.schema) for name, part in self._parts()])
        return schema.append(pa.field(SPLIT_COLUMN, pa.string())) if self._parts()[0][0] else schema

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        schema = self.schema()
        wanted = check_request(schema, columns, batch_rows)
        names = schema.names if wanted is None or where is not None else wanted
        return deliver(self._batches(names, schema, batch_rows), columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str | None:
        """Return the SHA-256 of the schema and of every row; of what is streamed from the hub that of its commit, if one is named."""
        if self.streaming and self._local is None:
            about = [self.path, self.config, self.split, self.limit, self.revision]
            return None if self.revision is None else sha256_json(about)
        schema = self.schema()
        return hash_rows(schema, self._batches(schema.names, schema, DEFAULT_BATCH_ROWS))

    @property
    def revision(self) -> str | None:
        """The commit of the hub's repository that the rows are of, where they are of one; of what is streamed, the one that is named."""
        if self.streaming:
            return self.wanted_revision if _FULL_COMMIT.fullmatch(self.wanted_revision or "") else None
        sums = [name for _, part in self._parts() if isinstance(part, _MappedRows) for name in part.checksums]
        commits = {found.group(1) for found in map(_COMMIT.search, sums) if found}
        return ", ".join(sorted(commits)) or None

    def given_split(self) -> str | None:
        """Return `split` where all splits are read."""
        return SPLIT_COLUMN if self._parts()[0][0] else None

    def _batches(self, names: list[str], schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        target = pa.schema([schema.field(name) for name in names])
        for name, part in self._parts():
            read = [column for column in names if not (name and column == SPLIT_COLUMN)] or part.names[:1]
            tables = part.tables(read, batch_rows)
            while True:
                with _foreign(self.path, local=self._local is not None):
                    table = next(tables, None)
                if table is None:
                    break
                if name:
                    table = table.append_column(SPLIT_COLUMN, pa.array([SPLITS[name.lower()]] * table.num_rows, pa.string()))
                for batch in table.select(names).combine_chunks().to_batches():
                    yield plain_batch(batch, target)

    def _parts(self) -> list[tuple[str | None, _Rows]]:
        """Return the rows to read, each with the split that it is, or nothing where only one was asked for."""
        if self._loaded is None:
            self._loaded = self._checked(self._load())
        return self._loaded

    def _load(self) -> Any:
        try:
            import datasets
        except ImportError:
            raise MissingExtraError("datasets", "hub", f"reading the dataset {self.path!r}") from None
        with _foreign(self.path, local=self._local is not None), _without_bars(datasets):
            if self._local is not None and any((self._local / name).is_file() for name in _SAVED):
                if self.streaming:
                    raise InputError(f"{self.path!r} was written by save_to_disk, and is memory-mapped already", hint="leave streaming out")
                return self._saved(datasets.load_from_disk(str(self._local)))
            place = str(self._local) if self._local is not None else self.path
            more = {"streaming": True} if self.streaming else {}
            return datasets.load_dataset(place, name=self.config, split=self.split, revision=self.wanted_revision, **more)

    def _saved(self, value: Any) -> Any:
        if self.config is not None:
            raise InputError(f"config is {self.config!r}, and {self.path!r} was written by save_to_disk", hint="leave it out")
        if self.split is None:
            return value
        splits = value if is_dataset_dict(value) else {str(value.split): value}
        if self.split not in splits:
            raise UnknownNameError("split", self.split, list(splits), hint="parts of splits are read from files, not from what was saved")
        return splits[self.split]

    def _checked(self, value: Any) -> list[tuple[str | None, _Rows]]:
        given: list[tuple[str | None, Any]] = list(value.items()) if isinstance(value, Mapping) else [(None, value)]
        parts = [(name, self._rows(part)) for name, part in given]
        unknown = [name for name, _ in parts if name and name.lower() not in SPLITS]
        if unknown:
            raise DataError(
                f"the dataset {self.path!r} has splits called {', '.join(map(repr, unknown))}",
                hint=f"name the one to read under split: {', '.join(str(name) for name, _ in parts)}",
            )
        with _foreign(self.path, local=self._local is not None):
            doubled = any(SPLIT_COLUMN in part.names for name, part in parts if name)
            empty = all(part.empty for _, part in parts)
        if doubled:
            raise DataError(f"the dataset {self.path!r} has splits, and a column named 'split' too", hint="name one split under split")
        if empty:
            raise DataError(f"the dataset {self.path!r} has no rows")
        return parts

    def _rows(self, dataset: Any) -> _Rows:
        if not self.streaming:
            return _MappedRows(dataset)
        return StreamedRows(dataset, f"the dataset {self.path!r}", limit=self.limit, retries=self.retries)


class _MappedRows:
    """The rows of a `Dataset`, which is memory-mapped."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._paths = only_paths(dataset)

    @property
    def names(self) -> list[str]:
        return list(self._dataset.column_names)

    @property
    def empty(self) -> bool:
        return not self._dataset.num_rows

    @property
    def checksums(self) -> Mapping[str, Any]:
        return dict(self._dataset.info.download_checksums or {})

    @property
    def schema(self) -> pa.Schema:
        return plain_schema(named_rows(self._dataset.with_format("arrow")[:0], self._dataset.features, paths=self._paths).schema)

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        for table in self._dataset.select_columns(list(columns)).with_format("arrow").iter(batch_size=rows):
            yield named_rows(table, self._dataset.features, paths=self._paths)


_Rows = _MappedRows | StreamedRows


@contextmanager
def _foreign(path: str, *, local: bool) -> Iterator[None]:
    """Turn what `datasets` and all that it calls raise into a `DataError` that names the dataset."""
    try:
        yield
    except DeepSeekError:
        raise
    except Exception as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"the dataset {path!r} cannot be read: {why}", hint=None if local else _hint(error)) from error


def _hint(error: Exception) -> str | None:
    offline = [name for name in _OFFLINE if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}]
    if offline:
        return f"{offline[0]} is set, so that only what was loaded before is there; unset it, or name a folder"
    if isinstance(error, FileNotFoundError):
        return "name a folder, relative to that of the recipe, or a dataset of the hub: OWNER/NAME; private ones need HF_TOKEN"
    if isinstance(error, OSError):
        return "the hub may not be reachable from here; a folder that save_to_disk wrote needs no network"
    return None


@contextmanager
def _without_bars(datasets: Any) -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
