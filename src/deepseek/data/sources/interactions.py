"""Clicks and purchases as rows to learn from: each choice, and beside it items that were not chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Le

from deepseek import progress
from deepseek.artifacts.files import sha256_json
from deepseek.data.columns import is_number, require_columns
from deepseek.data.expressions import RowExpression
from deepseek.data.negatives import NONE, InteractionLog, NegativeRules, Way, draw_negatives, stands_for
from deepseek.data.sources import open_source
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver, plain_schema
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import ColumnError, DataError, InputError

if TYPE_CHECKING:
    import pyarrow.compute as pc

SPLIT = "split"
STANDS_FOR = "stands_for"
_PARTS = pa.array(["train", "validation", "test"])


class InteractionSource(Source):
    """Read a log of choices as a table of user, item and label: 1 for a choice, 0 for items drawn beside it that the user had not chosen.

    The rows come in the order of time, each choice before its negatives. With a time column everything is as of the moment of the choice:
    only items are drawn that existed, that the user had not chosen until then, and by their popularity until then. What the user chose
    later may be drawn, as it might have been at the time: to leave it out would tell of the future.

    Args:
        folder: What relative paths are relative to.
        source: The log: a path, several, or a source by name.
        user: The column that says who chose.
        item: The column that says what.
        time: The column of points in time; without it every choice sees the whole log, and users' negatives are what they never chose.
        positive: Which rows of the log are choices, as an expression: `rating >= 4`; the others have no label, and are never drawn.
        carry: Further columns of the log that negatives take over from their choice: the user's situation, not the item's.
        label: What the label's column is called.
        how: `uniform`, by `popularity`, as in a `batch`, or `hard`, among what users with common choices chose.
        ratio: Negatives for each choice.
        power: The power of `popularity`: 0 is uniform, 1 popularity itself.
        hard_share: With `hard`, the part of the negatives that is drawn so; the others are uniform.
        weighted: Whether a column `stands_for` says how many items a negative stands for, as `data.weight`; `uniform` only.
        holdout: `last` adds a column `split` with each user's last choice for testing and the one before for validation; those of users
            with fewer than three are for training.
        holdout_ratio: Negatives for each held out choice.
        seed: Says which items are drawn.
    """

    def __init__(  # noqa: PLR0913 - its arguments are its schema
        self,
        folder: Path = Path(),
        /,
        *,
        source: str | list[str] | dict[str, Any],
        user: str,
        item: str,
        time: str | None = None,
        positive: str | None = None,
        carry: list[str] | None = None,
        label: str = "label",
        how: Way = "uniform",
        ratio: Annotated[int, Ge(1), Le(1000)] = 4,
        power: Annotated[float, Ge(0), Le(1)] = 0.75,
        hard_share: Annotated[float, Ge(0), Le(1)] = 0.5,
        weighted: bool = False,
        holdout: Literal["last"] | None = None,
        holdout_ratio: Annotated[int, Ge(1), Le(1000)] = 99,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(folder)
        self.source, self.user, self.item, self.time = source, user, item, time
        self.carry, self.label, self.positive = tuple(carry or ()), label, None if positive is None else RowExpression(positive)
        self.rules = NegativeRules(how, ratio, power, hard_share, seed)
        self.weighted, self.holdout, self.holdout_ratio = weighted, holdout, holdout_ratio
        self._said = {name: value for name, value in locals().items() if name not in ("self", "folder", "source", "__class__")}
        self._opened: Source | None = None
        self._aside: list[tuple[int, str, str]] = []
        names = [user, item, *filter(None, (time,)), *self.carry, label]
        names += [STANDS_FOR] if weighted else []
        names += [SPLIT] if holdout else []
        if len(set(names)) < len(names):
            raise InputError(
                f"the columns of interactions are {', '.join(names)}", hint="name each once; call the label otherwise with label"
            )
        if weighted and how != "uniform":
            raise InputError(
                f"weighted negatives are asked for, drawn by {how!r}", hint="what a negative stands for is known of uniform ones"
            )

    @property
    def log(self) -> Source:
        """The source of the log."""
        if self._opened is None:
            self._opened = open_source(self.source, folder=self.folder)
        return self._opened

    @property
    def root(self) -> Path | None:
        """The folder that paths in its columns are relative to."""
        return self.log.root

    def files(self) -> list[Path]:
        """Return the files of the log, where it has any."""
        listed = getattr(self.log, "files", None)
        return list(listed()) if callable(listed) else []

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        known = self.log.schema()
        require_columns(self._columns, known.names, what="the log of interactions")
        fields = [pa.field(name, known.field(name).type) for name in self._kept]
        fields.append(pa.field(self.label, pa.int64()))
        fields += [pa.field(STANDS_FOR, pa.float64())] if self.weighted else []
        fields += [pa.field(SPLIT, pa.string())] if self.holdout else []
        return plain_schema(pa.schema(fields))

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        wanted = check_request(self.schema(), columns, batch_rows)
        return deliver(self._batches(), columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str | None:
        """Return a hash of the log's content and of everything that was said here."""
        known = self.log.fingerprint()
        return None if known is None else sha256_json([known, self._said])

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield what the log could not parse, and its rows without a user, an item or a time."""
        yield from self.log.rejects()
        if self._aside:
            line, reason, raw = zip(*self._aside, strict=True)
            yield pa.record_batch([pa.array(line, pa.int64()), pa.array(reason), pa.array(raw)], names=["line", "reason", "raw"])

    def as_text(self, columns: Collection[str]) -> Self:
        """Return the same over a log that reads these columns as text."""
        made = type(self)(self.folder, source=self.source, **self._said)
        made._opened = self.log.as_text([name for name in columns if name in self._kept])  # noqa: SLF001 - one of its own kind
        return made

    def given_split(self) -> str | None:
        """Return the column of the split, where choices are held out."""
        return SPLIT if self.holdout else None

    @property
    def _kept(self) -> list[str]:
        return [self.user, self.item, *filter(None, (self.time,)), *self.carry]

    @property
    def _columns(self) -> list[str]:
        more = self.positive.columns if self.positive is not None else ()
        return list(dict.fromkeys([*self._kept, *more]))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        table, chosen = self._in_order()
        if not table.num_rows:
            raise DataError("the log of interactions has no row with a user and an item")
        users, items = (table.column(name).combine_chunks().dictionary_encode() for name in (self.user, self.item))
        moments = None if self.time is None else _moments(table.column(self.time).combine_chunks(), self.time)
        log = InteractionLog(_codes(users), _codes(items), moments, chosen=chosen)
        rows = np.flatnonzero(chosen)
        parts = _held_out(log.users, rows) if self.holdout else np.zeros(len(rows), dtype=np.int8)
        most = max(self.rules.ratio, self.holdout_ratio if self.holdout else 0) + 1
        size = max(1, DEFAULT_BATCH_ROWS // most)
        fewer = 0
        for start in range(0, len(rows), size):
            here, part = rows[start : start + size], parts[start : start + size]
            found = self._draw(log, here, part)
            wanted = np.where(part > 0, self.holdout_ratio, self.rules.ratio)
            fewer += int(((found != NONE).sum(axis=1) - 1 < wanted).sum())
            yield self._block(table, items.dictionary, log, rows=here, parts=part, found=found)
        if fewer:
            progress.warn(
                f"{fewer:,} of {len(rows):,} choices have fewer negatives than asked for: there were not so many other items then"
            )

    def _draw(self, log: InteractionLog, rows: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Return the items of choices, and behind each its negatives: int64 `[b, 1 + r]`, -1 where there is none."""
        ratios = (self.rules.ratio, self.holdout_ratio)
        width = max(ratio for held, ratio in enumerate(ratios) if ((parts > 0) == bool(held)).any())
        found = np.full((len(rows), width + 1), NONE, dtype=np.int64)
        found[:, 0] = log.items[rows]
        for held, ratio in enumerate(ratios):
            chosen = (parts > 0) == bool(held)
            if chosen.any():
                found[chosen, 1 : ratio + 1] = draw_negatives(log, rows[chosen], replace(self.rules, ratio=ratio))
        return found

    def _block(
        self, table: pa.Table, names: pa.Array, log: InteractionLog, *, rows: np.ndarray, parts: np.ndarray, found: np.ndarray
    ) -> pa.RecordBatch:
        """Return choices and their negatives as rows."""
        choice, place = np.nonzero(found != NONE)
        sources = table.take(pa.array(rows[choice]))
        columns = {name: sources.column(name).combine_chunks() for name in self._kept}
        columns[self.item] = names.take(pa.array(found[choice, place]))
        columns[self.label] = pa.array((place == 0).astype(np.int64))
        if self.weighted:
            each = np.where(parts > 0, stands_for(log, rows, self.holdout_ratio), stands_for(log, rows, self.rules.ratio))
            columns[STANDS_FOR] = pa.array(np.where(place == 0, 1.0, each[choice]))
        if self.holdout:
            columns[SPLIT] = _PARTS.take(pa.array(parts[choice]))
        schema = self.schema()
        return pa.record_batch([columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema)

    def _in_order(self) -> tuple[pa.Table, np.ndarray]:
        """Return the log's rows in the order of time, and which of them are choices."""
        self._aside = []
        kept: list[pa.RecordBatch] = []
        chosen: list[np.ndarray] = []
        start = 0
        schema = plain_schema(pa.schema([self.log.schema().field(name) for name in self._columns]))
        for batch in self.log.read(columns=self._columns):
            given = pa.record_batch([column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema)
            missing = self._missing(given, start)
            start += given.num_rows
            held = given.filter(pa.array(~missing))
            kept.append(held.select(self._kept))
            chosen.append(np.ones(held.num_rows, bool) if self.positive is None else self.positive.evaluate(held)[0])
        table = pa.Table.from_batches(kept, pa.schema([schema.field(name) for name in self._kept]))
        mask = np.concatenate(chosen) if chosen else np.zeros(0, bool)
        if self.time is None or not table.num_rows:
            return table.combine_chunks(), mask
        order = np.argsort(_moments(table.column(self.time).combine_chunks(), self.time), kind="stable")
        return table.take(pa.array(order)).combine_chunks(), mask[order]

    def _missing(self, batch: pa.RecordBatch, start: int) -> np.ndarray:
        bad = np.zeros(batch.num_rows, dtype=bool)
        for name in filter(None, (self.user, self.item, self.time)):
            without = batch.column(batch.schema.get_field_index(name)).is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(without & ~bad):
                self._aside.append((start + int(row) + 1, f"{name} is missing", str(batch.slice(int(row), 1).to_pylist()[0])))
            bad |= without
        return bad


def _held_out(users: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return 2 for each user's last choice and 1 for the one before, of those who have three or more; else 0: int8 `[b]`."""
    order = np.argsort(users[rows], kind="stable")
    of_user = users[rows][order]
    ends = np.searchsorted(of_user, of_user, side="right")
    from_end = ends - np.arange(len(rows))
    enough = ends - np.searchsorted(of_user, of_user, side="left") >= 3
    parts = np.zeros(len(rows), dtype=np.int8)
    parts[order] = np.where(enough & (from_end <= 2), 3 - from_end, 0)
    return parts


def _codes(column: pa.DictionaryArray) -> np.ndarray:
    return np.asarray(column.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _moments(column: pa.Array, name: str) -> np.ndarray:
    if is_number(column.type):
        return np.asarray(column.cast(pa.float64() if pa.types.is_floating(column.type) else pa.int64()))
    try:
        read = read_timestamps(column)
    except ColumnError as error:
        raise ColumnError(f"the time column {name!r}: {error.message}", hint=error.hint) from None
    if read.null_count:
        raise DataError(
            f"{read.null_count:,} values of {name!r} cannot be read as points in time",
            hint="write times as 2025-04-03 14:30:00, or as numbers that grow",
        )
    return np.asarray(read.cast(pa.int64()))
