"""A plugin: the source `series_features`, which adds to a table in order of time what each row's past says, and its place in the calendar.

All features are expressions over whole columns, which polars computes; no row is looked at in Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge

from deepseek.data.sources import open_source
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver
from deepseek.registry import family

Statistic = Literal["mean", "std", "min", "max"]
Calendar = Literal["hour", "weekday", "month", "is_weekend"]
_CALENDAR = {
    "hour": lambda at: at.dt.hour(),
    "weekday": lambda at: at.dt.weekday() - 1,
    "month": lambda at: at.dt.month(),
    "is_weekend": lambda at: at.dt.weekday() > 5,
}


@family("source").register("series_features")
class SeriesFeaturesSource(Source):
    """Read a table in order of time, with lags, statistics of the rows before each row, and the calendar's columns beside it.

    Args:
        folder: What relative paths are relative to.
        source: The table: a path, or a source by name.
        time: The column of points in time.
        columns: The columns whose past is looked at.
        lags: How many rows back a value is repeated.
        windows: Over how many rows before a row, without that row itself, statistics are taken; fewer at the start.
        statistics: Which: `mean`, `std` (of the sample), `min`, `max`.
        calendar: What is read off the time: `hour`, `weekday` (Monday is 0), `month`, `is_weekend`.
    """

    def __init__(
        self,
        folder: Path = Path(),
        /,
        *,
        source: str | dict[str, Any],
        time: str,
        columns: list[str],
        lags: list[Annotated[int, Ge(1)]] = [1],  # noqa: B006 - never changed
        windows: list[Annotated[int, Ge(1)]] = [24],  # noqa: B006
        statistics: list[Statistic] = ["mean", "std", "min", "max"],  # noqa: B006
        calendar: list[Calendar] = ["hour", "weekday", "month", "is_weekend"],  # noqa: B006
    ) -> None:
        super().__init__(folder)
        self._table = open_source(source, folder=folder)
        self._made = [self._column(pl.col(name).shift(lag), f"{name}_lag_{lag}") for name in columns for lag in lags]
        for name in columns:
            for window in windows:
                past = pl.col(name).shift(1)
                for one in statistics:
                    least = {"min_samples": 2 if one == "std" else 1}
                    self._made.append(self._column(getattr(past, f"rolling_{one}")(window, **least), f"{name}_{one}_{window}"))
        self._made += [self._column(_CALENDAR[name](pl.col(time)), name) for name in calendar]

    def schema(self) -> pa.Schema:
        """Return the table's columns, then the features'."""
        return self._with_features(self._table.schema().empty_table()).schema

    def read(
        self, *, columns: Sequence[str] | None = None, where: pc.Expression | None = None, batch_rows: int = DEFAULT_BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`); the table is held in memory."""
        wanted = check_request(self.schema(), columns, batch_rows)
        table = pa.Table.from_batches(list(self._table.read()), self._table.schema())
        return deliver(iter(self._with_features(table).combine_chunks().to_batches()), columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str | None:
        """Return a hash of the table's content and of what is made of it."""
        below = self._table.fingerprint()
        return None if below is None else hashlib.sha256(f"{below} {self._made}".encode()).hexdigest()

    def _with_features(self, table: pa.Table) -> pa.Table:
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        made = frame.select(self._made).to_arrow()
        return pa.table({**{name: table[name] for name in table.column_names}, **{name: made[name] for name in made.column_names}})

    @staticmethod
    def _column(expression: pl.Expr, name: str) -> pl.Expr:
        return expression.cast(pl.Float64).alias(name)
