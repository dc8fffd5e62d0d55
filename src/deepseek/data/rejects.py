"""Asking the checks about batches, and keeping what they refuse: counts for each rule and a file with the rows and the reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.artifacts.files import plain_disk_errors
from deepseek.data.checks.base import Check
from deepseek.data.sources.base import Source
from deepseek.errors import CheckError

if TYPE_CHECKING:
    from deepseek.data.landing import LandedTable

_SHOWN_ROWS = 5


@dataclass(frozen=True)
class CheckCount:
    """What one check found.

    Attributes:
        check: The check's name.
        reason: Its rule in words.
        on_fail: What becomes of bad rows.
        bad: The rows that break the rule, those among them that another check set aside as well.
        dropped: The rows that this check dropped.
        quarantined: The rows that this check set aside into the rejects file.
        flagged: The rows that this check flagged and kept.
    """

    check: str
    reason: str
    on_fail: str
    bad: int = 0
    dropped: int = 0
    quarantined: int = 0
    flagged: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the count as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SetAside:
    """Rows of one batch that go to the rejects file.

    Attributes:
        batch: The rows themselves.
        rows: Their numbers in the source, from 0.
        checks: The name of the check that set each aside.
        reasons: Why.
    """

    batch: pa.RecordBatch
    rows: np.ndarray
    checks: list[str]
    reasons: list[str]


class Inspection:
    """Asks every check about every row and counts the answers.

    Args:
        checks: The rules, in the order of the recipe.

    Attributes:
        read: The rows that came.
        kept: The rows that every check let pass.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = list(checks)
        self._counts = [CheckCount(check_name(check), check.reason, check.on_fail) for check in checks]
        self._gone: list[np.ndarray] = []
        self._gaps = np.empty(0, dtype=np.int64)
        self._passed = 0
        self.read = 0
        self.kept = 0

    @property
    def counts(self) -> tuple[CheckCount, ...]:
        """What each check found so far."""
        return tuple(self._counts)

    def by_row(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, SetAside]:
        """Ask the checks that look at one row at a time; return the rows kept and those for the rejects file."""
        numbers = np.arange(self.read, self.read + batch.num_rows)
        self.read += batch.num_rows
        good, aside, gone = self._ask(batch, numbers, table_wide=False)
        self._gone.append(numbers[gone])
        self.kept += good.num_rows
        return good, aside

    def observe(self, batch: pa.RecordBatch) -> None:
        """Show a batch of kept rows to the table-wide checks."""
        for check in self._checks:
            if check.table_wide:
                check.observe(batch)

    def finish(self) -> None:
        """End the pass of `observe`."""
        gone = np.concatenate(self._gone) if self._gone else np.empty(0, dtype=np.int64)
        self._gaps = gone - np.arange(len(gone))  # how many kept rows stand before each row that is gone
        self._passed = 0
        for check in self._checks:
            if check.table_wide:
                check.finish()

    def by_table(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, SetAside]:
        """Ask the table-wide checks about a batch of kept rows, in the order of `observe`."""
        landed = np.arange(self._passed, self._passed + batch.num_rows)
        self._passed += batch.num_rows
        numbers = landed + np.searchsorted(self._gaps, landed, side="right")
        good, aside, gone = self._ask(batch, numbers, table_wide=True)
        self.kept -= int(gone.sum())
        return good, aside

    def _ask(self, batch: pa.RecordBatch, numbers: np.ndarray, *, table_wide: bool) -> tuple[pa.RecordBatch, SetAside, np.ndarray]:
        by = np.full(batch.num_rows, -1, dtype=np.int32)
        for place, check in enumerate(self._checks):
            if check.table_wide != table_wide:
                continue
            bad = np.asarray(check.bad(batch), dtype=bool)
            found = int(bad.sum())
            first = bad & (by < 0)
            count = self._counts[place]
            self._counts[place] = count = replace(count, bad=count.bad + found)
            if check.on_fail == "fail" and found:
                raise self._failure(place, batch.filter(pa.array(bad)), numbers[bad])
            if check.on_fail == "flag":
                self._counts[place] = replace(count, flagged=count.flagged + found)
            elif check.on_fail in {"drop", "quarantine"}:
                by[first] = place
                key = "dropped" if check.on_fail == "drop" else "quarantined"
                self._counts[place] = replace(count, **{key: getattr(count, key) + int(first.sum())})
        gone = by >= 0
        return batch.filter(pa.array(~gone)) if gone.any() else batch, self._set_aside(batch, numbers, by), gone

    def _set_aside(self, batch: pa.RecordBatch, numbers: np.ndarray, by: np.ndarray) -> SetAside:
        quarantine = np.array([check.on_fail == "quarantine" for check in self._checks], dtype=bool)
        kept_aside = (by >= 0) & (quarantine[by] if len(quarantine) else False)
        places = by[kept_aside].tolist()
        return SetAside(
            batch.filter(pa.array(kept_aside)),
            numbers[kept_aside],
            [self._counts[place].check for place in places],
            [self._counts[place].reason for place in places],
        )

    def _failure(self, place: int, bad: pa.RecordBatch, numbers: np.ndarray) -> CheckError:
        count = self._counts[place]
        columns = [name for name in self._checks[place].columns if name in bad.schema.names]
        shown = bad.select(columns).slice(0, _SHOWN_ROWS).to_pylist()
        rows = [
            f"row {number}: " + ", ".join(f"{k} = {v!r:.80}" for k, v in row.items()) for number, row in zip(numbers, shown, strict=False)
        ]
        return CheckError(
            f"the check {count.check} failed: {count.reason}; {count.bad:,} bad among the first {self.read:,} rows: {'; '.join(rows)}",
            hint="mend the source, or set on_fail to quarantine, drop or flag; rows are counted from 0",
        )


class RejectsFile:
    """Writes quarantined rows to `rows.parquet`: the table's columns after `check`, `reason` and `row`; no file where there are none.

    Where the table has a column of such a name, the one added here is called `reject_check`, `reject_reason` or `reject_row`.

    Args:
        folder: The rejects folder; rejects of an earlier landing are taken away.
        schema: The table's columns.
        name: The file's name.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, name: str = "rows.parquet") -> None:
        self._path = folder / name
        added = {"check": pa.string(), "reason": pa.string(), "row": pa.int64()}
        names = [f"reject_{name}" if name in schema.names else name for name in added]
        self._schema = pa.schema([*zip(names, added.values(), strict=True), *schema])
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        with plain_disk_errors(self._path):
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            with plain_disk_errors(self._path):
                self._writer.close()

    def write(self, aside: SetAside) -> None:
        """Add rows.

        Raises:
            RunError: The disk is full or the folder read-only.
        """
        if not aside.batch.num_rows:
            return
        columns = [pa.array(aside.checks), pa.array(aside.reasons), pa.array(aside.rows), *aside.batch.columns]
        with plain_disk_errors(self._path):
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._path, self._schema)
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))


class Rejected:
    """Writes the rows that preparation set aside to `SPLIT.parquet`, as they landed, with the reason; no file where there are none.

    Args:
        table: The landed table.
        folder: The rejects folder.
        split: What the rows were prepared for: `train`, `validation` or `test`.
    """

    def __init__(self, table: LandedTable, folder: Path, split: str) -> None:
        self._table, self._split = table, split
        self._file = RejectsFile(folder, table.schema, name=f"{split}.parquet")

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.__exit__(kind, error, trace)

    def write(self, reason: str, rows: np.ndarray) -> None:
        """Add rows by their ascending numbers in the table.

        Raises:
            RunError: The disk is full or the folder read-only.
        """
        start = 0
        for batch in self._table.batches(rows=rows):
            numbers = rows[start : start + batch.num_rows]
            start += batch.num_rows
            self._file.write(SetAside(batch, numbers, [f"preparing {self._split} rows"] * len(numbers), [reason] * len(numbers)))


def reject_malformed(source: Source, folder: Path) -> int:
    """Write the records that a source could not parse to `malformed.jsonl`, one JSON object a line, and return how many there are.

    Raises:
        RunError: The disk is full or the folder read-only.
    """
    path = folder / "malformed.jsonl"
    with plain_disk_errors(path):
        path.unlink(missing_ok=True)
    count = 0
    for batch in source.rejects():
        if not batch.num_rows:
            continue
        lines = "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in batch.to_pylist())
        with plain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(lines)
        count += batch.num_rows
    return count


def check_name(check: Check) -> str:
    """Return a check's name as recipes spell it: `in_set` for `InSetCheck`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(check).__name__.removesuffix("Check")).lower()
