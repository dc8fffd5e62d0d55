"""Landing: one streaming pass from a source through the checks into an Arrow file that is memory-mapped from then on.

Memory does not grow with the table: what is held is a few batches, and 8 bytes for each row that was set aside (16 for every row while
the check `unique` looks for repeats). Nothing is learned here and nothing disappears: each row that does not land is counted under its
check and, unless the recipe says `drop`, written to `rejects/` with the reason.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.artifacts.files import plain_disk_errors, read_json, sync_file, write_json
from deepseek.data.checks.base import Check
from deepseek.data.columns import require_columns, with_columns
from deepseek.data.rejects import CheckCount, Inspection, RejectsFile, check_name, reject_malformed
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source, rooted
from deepseek.errors import CheckError, ColumnError, DataError
from deepseek.statistics import mix64

_DATA = "data.arrow"
_ABOUT = "landed.json"
_REJECTS = "rejects"
_BLOCK_BYTES = 64 << 20
_SAMPLE_ROWS = 1 << 20


@dataclass(frozen=True)
class LandingCounts:
    """What became of every row.

    Attributes:
        read: The rows that the source delivered.
        kept: Those that landed: `read` less what the checks dropped and quarantined.
        malformed: The records that the source could not parse; they are not among `read`.
        checks: What each check found, in the order of the recipe.
    """

    read: int
    kept: int
    malformed: int
    checks: tuple[CheckCount, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return {"read": self.read, "kept": self.kept, "malformed": self.malformed, "checks": [check.to_json() for check in self.checks]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the counts that `to_json` wrote."""
        return cls(value["read"], value["kept"], value["malformed"], tuple(CheckCount(**check) for check in value["checks"]))


class LandedTable:
    """A table that has landed: read by memory map, without a copy, batch by batch or column by column.

    Args:
        path: The Arrow file.
        counts: What became of the source's rows.
        given_split: The column that says which split a row is in, where the source itself knows.
    """

    def __init__(self, path: Path, counts: LandingCounts, *, given_split: str | None = None) -> None:
        self.path = path
        self.counts = counts
        self.given_split = given_split

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what `land` wrote to this folder.

        Raises:
            DataError: It is not there.
            BundleError: Its description is damaged.
        """
        if not (folder / _DATA).is_file() or not (folder / _ABOUT).is_file():
            raise DataError(f"{folder} holds no landed table", hint="run the recipe again; it lands the source anew")
        about = read_json(folder / _ABOUT)
        return cls(folder / _DATA, LandingCounts.from_json(about["counts"]), given_split=about["given_split"])

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self._starts[-1])

    @property
    def schema(self) -> pa.Schema:
        """The columns and their Arrow types."""
        return self._reader.schema

    def batches(
        self, *, rows: np.ndarray | None = None, columns: Sequence[str] | None = None, batch_rows: int = DEFAULT_BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows in order, without a copy where whole stretches of them are wanted.

        Args:
            rows: Which rows: a boolean mask `[rows]`, or row numbers in ascending order; all where not given.
            columns: Which columns, in that order; all where not given.
            batch_rows: The most rows of a batch, 1 or more.

        Raises:
            ColumnError: A column is not in the table.
            DataError: The mask or the row numbers do not fit the table.
        """
        names = list(self.schema.names if columns is None else columns)
        require_columns(names, self.schema.names, what="the table")
        chosen = None if rows is None else self._checked(rows)
        for block, (start, stop) in enumerate(pairwise(self._starts.tolist())):
            wanted = None if chosen is None else _within(chosen, start, stop)
            if wanted is not None and not len(wanted):
                continue
            part = self._reader.get_batch(block).select(names)
            if wanted is not None and len(wanted) < stop - start:
                part = part.take(pa.array(wanted))
            for offset in range(0, part.num_rows, batch_rows):
                yield part.slice(offset, batch_rows)
            self._release()

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all rows, memory-mapped.

        Raises:
            ColumnError: It is not in the table.
        """
        require_columns([name], self.schema.names, what="the table")
        place = self.schema.get_field_index(name)
        blocks = [self._reader.get_batch(block).column(place) for block in range(self._reader.num_record_batches)]
        return pa.chunked_array(blocks, type=self.schema.field(name).type)

    def sample(self, rows: np.ndarray | None, n: int, seed: int) -> pa.Table:
        """Return a uniform sample of rows, in the order of the table; the same for the same arguments on any machine.

        Args:
            rows: The rows to choose from, a mask or ascending numbers; all where not given.
            n: How many rows; all of them where there are fewer.
            seed: Changes which ones.
        """
        chosen = None if rows is None else self._checked(rows)
        numbers, keys = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
        for start in range(0, self.rows, _SAMPLE_ROWS):
            stop = min(start + _SAMPLE_ROWS, self.rows)
            more = np.arange(start, stop) if chosen is None else _within(chosen, start, stop) + start
            numbers, keys = np.concatenate((numbers, more)), np.concatenate((keys, mix64(more.astype(np.uint64), seed)))
            if len(numbers) > n:
                best = np.argpartition(keys, n)[:n]
                numbers, keys = numbers[best], keys[best]
        return pa.Table.from_batches(self.batches(rows=np.sort(numbers)), self.schema)

    @cached_property
    def _reader(self) -> pa.ipc.RecordBatchFileReader:
        try:
            return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise DataError(f"{self.path} is not as it was written: {error}", hint=f"delete {self.path.parent}; it is made anew") from None

    @cached_property
    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _release(self) -> None:
        """Let go of the pages read so far: they stay in the page cache, but count no longer as this process's memory."""
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _starts(self) -> np.ndarray:
        sizes = [self._reader.get_batch(block).num_rows for block in range(self._reader.num_record_batches)]
        return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        given = np.asarray(rows)
        if given.dtype == bool:
            if given.shape != (self.rows,):
                raise DataError(f"a mask of shape {given.shape} was given for a table of {self.rows} rows")
            return given
        if len(given) and not (given[0] >= 0 and given[-1] < self.rows and (given[1:] > given[:-1]).all()):
            raise DataError(f"the row numbers must ascend, without repeats, from 0 to {self.rows - 1}")
        return given.astype(np.int64, copy=False)


def _within(chosen: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the chosen rows among those from `start` to `stop`, from `start` on; a mask is never turned into 8 bytes a row at once."""
    if chosen.dtype == bool:
        return np.flatnonzero(chosen[start:stop])
    low, high = np.searchsorted(chosen, (start, stop))
    return np.asarray(chosen[low:high] - start)


def land(
    source: Source,
    checks: Sequence[Check],
    folder: Path,
    *,
    progress: Callable[[int], None] | None = None,
    max_rows: int | None = None,
    max_rejected: float = 0.5,
) -> LandedTable:
    """Read a source through the checks into a folder.

    Each check sees every row; a row that breaks several rules is counted under each as bad, and set aside under the first in the order of
    the recipe whose `on_fail` is `drop` or `quarantine`. Table-wide checks (`unique`) look at the rows that the others kept, in passes over
    the landed file; the source is read once. NaN lands as null, and checks see it so.

    Args:
        source: Where the rows come from.
        checks: The rules.
        folder: Where `data.arrow`, `landed.json` and `rejects/` go; what is there under these names is replaced, the data last.
        progress: Called with the number of rows read so far, after each batch.
        max_rows: Stop after this many rows, for a preview.
        max_rejected: The share of rows, 0 to 1, that may be set aside or malformed before landing stops with an error.

    Raises:
        CheckError: A check with `on_fail: fail` met bad rows, or too many rows were set aside.
        ColumnError: A check reads a column that is not there, or two columns have one name.
        DataError: The source cannot be read, or no row is left.
        RunError: The disk is full or the folder read-only.
    """
    schema = rooted(_plain_schema(source.schema()), source.root)
    for check in checks:
        require_columns(check.columns, schema.names, what=f"the check {check_name(check)}")
    inspection = Inspection(checks)
    with plain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _ABOUT).unlink(missing_ok=True)
    partial = folder / f"{_DATA}.partial"
    rejects = RejectsFile(folder / _REJECTS, schema)
    try:
        with rejects:
            wide = any(check.table_wide for check in checks)
            batches = _limited(source, schema, max_rows)
            _write(partial, schema, _inspected(batches, inspection, rejects, progress))
            if wide:
                _second_pass(partial, schema, inspection, rejects)
        malformed = 0 if max_rows is not None else reject_malformed(source, folder / _REJECTS)
        counts = LandingCounts(inspection.read, inspection.kept, malformed, inspection.counts)
        _refuse_losses(counts, max_rejected, folder / _REJECTS)
        with plain_disk_errors(folder):
            partial.replace(folder / _DATA)
        write_json(folder / _ABOUT, {"counts": counts.to_json(), "given_split": source.given_split()}, durable=False)
    finally:
        partial.unlink(missing_ok=True)
    return LandedTable.open(folder)


def _inspected(
    batches: Iterator[pa.RecordBatch], inspection: Inspection, rejects: RejectsFile, progress: Callable[[int], None] | None
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        kept, set_aside = inspection.by_row(batch)
        rejects.write(set_aside)
        if progress is not None:
            progress(inspection.read)
        yield kept


def _second_pass(partial: Path, schema: pa.Schema, inspection: Inspection, rejects: RejectsFile) -> None:
    landed = LandedTable(partial, LandingCounts(0, 0, 0))
    for batch in landed.batches():
        inspection.observe(batch)
    inspection.finish()

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in landed.batches():
            good, set_aside = inspection.by_table(batch)
            rejects.write(set_aside)
            yield good

    again = partial.with_suffix(".again")
    try:
        _write(again, schema, kept())
        with plain_disk_errors(partial):
            again.replace(partial)
    finally:
        again.unlink(missing_ok=True)


def _write(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    # only the writing stands under `plain_disk_errors`: what the source raises, while the generator is advanced, is the source's own
    with plain_disk_errors(path):
        sink = pa.OSFile(str(path), "wb")
        writer = pa.ipc.new_file(sink, schema)
    try:
        for block in _blocks(batches):
            with plain_disk_errors(path):
                writer.write_batch(block)
        with plain_disk_errors(path):
            writer.close()
    finally:
        sink.close()
    with plain_disk_errors(path):
        sync_file(path)


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches: a file of a thousand tiny ones is slow to open and to read."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        if held and _full([*held, batch]):
            yield pa.concat_batches(held)
            held = []
        held.append(batch)
    if held:
        yield pa.concat_batches(held)


def _full(batches: list[pa.RecordBatch]) -> bool:
    rows, size = sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches)
    return bool(rows > DEFAULT_BATCH_ROWS or size > _BLOCK_BYTES)


def _limited(source: Source, schema: pa.Schema, max_rows: int | None) -> Iterator[pa.RecordBatch]:
    left = max_rows
    for batch in source.read():
        if left is not None and left <= 0:
            return
        wanted = batch if left is None else batch.slice(0, left)
        left = None if left is None else left - wanted.num_rows
        if wanted.schema.names != schema.names:
            raise DataError(f"the source announced the columns {schema.names} and delivered {wanted.schema.names}")
        try:
            yield _without_nan(wanted if wanted.schema.equals(schema) else wanted.cast(schema))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"the source delivered values that are not of the type it announced: {error}") from None


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    doubled = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if doubled:
        raise ColumnError(f"the table has more than one column named {', '.join(map(repr, doubled))}", hint="rename one of them")
    # An Arrow file holds one dictionary a column, and batches from several files have several; plain values cost disk, not memory.
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema]
    return pa.schema([field.with_type(kind).with_nullable(True) for field, kind in zip(schema, kinds, strict=True)])


def _without_nan(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with NaN as null: for some libraries it is a missing value and for others a number; past here it is the one."""
    known = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_floating(column.type) and pc.any(absent := pc.is_nan(column)).as_py():
            known[name] = pc.if_else(absent, pa.scalar(None, column.type), column)
    return with_columns(batch, known)


def _refuse_losses(counts: LandingCounts, max_rejected: float, rejects: Path) -> None:
    total = counts.read + counts.malformed
    if not total:
        raise DataError("the source has no rows", hint="check its path, query or filter")
    lost = total - counts.kept
    reasons = [
        f"{check.dropped + check.quarantined:,} because {check.reason}" for check in counts.checks if check.dropped + check.quarantined
    ]
    if counts.malformed:
        reasons.append(f"{counts.malformed:,} because they could not be parsed")
    if lost > max_rejected * total:
        raise CheckError(
            f"{lost:,} of {total:,} rows ({lost / total:.0%}) were set aside: {'; '.join(reasons)}",
            hint=f"look at {rejects}; mend the source or the checks, or allow more than max_rejected = {max_rejected:g}",
        )
    if not counts.kept:
        raise DataError(f"no row is left of {total:,}: {'; '.join(reasons)}", hint=f"look at {rejects}")
