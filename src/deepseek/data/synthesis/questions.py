"""What is asked: one row of the feature table for each row of the target table and cut-off time that somebody wants to know of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data.sources.base import Source
from deepseek.data.sources.files import reject_batch
from deepseek.data.synthesis.plan import time_form
from deepseek.data.synthesis.sections import CutoffsSection
from deepseek.data.synthesis.tables import ALWAYS, NEVER, Raw, examples, moments, places_of
from deepseek.errors import DataError, InputError, UnknownNameError

NOW = "now"
AT_ONCE = "cutoff_time"
"""The column with the cut-off time where it is one moment for all rows."""


@dataclass(frozen=True)
class Questions:
    """Rows that are asked about.

    Attributes:
        rows: The row of the target table, int64 `[questions]`, -1 where it has none of that index.
        cutoffs: The cut-off time of each, microseconds since 1970, int64 `[questions]`.
        given: The columns that go before the features: index, time and labels.
        own: Whether each row is asked about as of its own time.
        timed: Whether there are cut-off times; where no table has a time there need be none.
        set_aside: Questions that cannot be asked, as `Source.rejects` hands them out.
    """

    rows: np.ndarray
    cutoffs: np.ndarray
    given: pa.Table
    own: bool = False
    timed: bool = True
    set_aside: pa.RecordBatch | None = None

    def __len__(self) -> int:
        return len(self.rows)


def questions_of(
    section: CutoffsSection, raw: Raw, target: str, *, index: str | None, time: str | None, source: Source | None, orphans: str
) -> Questions:
    """Return what is asked.

    Args:
        section: What the recipe says.
        raw: The tables.
        target: The target table.
        index: Its index.
        time: The column with its rows' times, as it is called in the feature table.
        source: The table of questions, where there is one.
        orphans: `fail`, or `keep` questions about rows that the target table lacks.

    Raises:
        InputError: The recipe contradicts itself.
        DataError: A question cannot be understood.
    """
    timed = any(times is not None for times in raw.times.values())
    if source is not None:
        if section.time is None:
            spare = [name for name in (time, AT_ONCE) if name in source.schema().names]
            section = section.model_copy(update={"time": next(iter(spare), None)})
        return _asked(section, raw, target, index=index, source=source, timed=timed, orphans=orphans)
    if section.id is not None or section.time is not None:
        raise InputError("cutoffs name id or time, and no table that has them", hint="say which: cutoffs: {source: labels.csv, time: date}")
    if section.at is not None:
        return _at_once(section, raw, target, index=index)
    return _own(section, raw, target, index=index, time=time, timed=timed)


def _asked(section: CutoffsSection, raw: Raw, target: str, *, index: str | None, source: Source, timed: bool, orphans: str) -> Questions:
    if section.at is not None or section.known:
        raise InputError("cutoffs have a table, and at or known beside it", hint="leave out what does not belong to a table of cut-offs")
    if index is None:
        raise InputError(f"the target table {target!r} has no index, by which cut-offs could name its rows", hint="say it: index: COLUMN")
    names = source.schema().names
    key, time = section.id or index, section.time
    if time is None and timed:
        raise InputError("the table of cut-offs has no time: what its rows may see cannot be told", hint=f"time: one of {', '.join(names)}")
    labels = list(section.labels) or [name for name in names if name not in (key, time)]
    for name in filter(None, (key, time, *labels)):
        if name not in names:
            raise UnknownNameError("column of the cut-offs", name, names)
    twice = [name for name in labels if name in raw.tables[target].column_names]
    if twice:
        raise InputError(
            f"{', '.join(map(repr, twice))} of the cut-offs stand in the target table {target!r} as well, and would be given away",
            hint=f"leave them out of the features with tables: {{{target}: {{drop: [{', '.join(twice)}]}}}}, or say which are labels",
        )
    wanted = list(dict.fromkeys([key, *([time] if time else []), *labels]))
    schema = source.schema()
    table = pa.Table.from_batches(list(source.read(columns=wanted)), pa.schema([schema.field(name) for name in wanted]))
    rows, lacking = places_of(table.column(key), _required(raw.indexes[target]), what=f"the column {key!r} of the cut-offs")
    if len(lacking):
        said = f"{len(lacking):,} cut-offs are about a {key} that the table {target!r} lacks: {examples(lacking)}"
        if orphans == "fail":
            raise DataError(said, hint="add the missing rows, or say orphans: keep, and they are rows of which nothing is known")
        progress.log(said)
    cutoffs = np.full(len(rows), NEVER - 2)
    if time:
        what = f"the time {time!r} of the cut-offs"
        cutoffs = moments(table.column(time), time_form(table.column(time), what), what=what, up=False)
    bad = {"it has no index": table.column(key).is_null().to_numpy(), **({"it has no time": cutoffs == NEVER} if time else {})}
    return _without_bad(Questions(rows, cutoffs, table, timed=time is not None), bad)


def _required(index: pa.ChunkedArray | None) -> pa.ChunkedArray:
    assert index is not None, "was asked for before"
    return index


def _without_bad(asked: Questions, bad: dict[str, np.ndarray]) -> Questions:
    wrong = np.any(list(bad.values()), axis=0)
    if not wrong.any():
        return asked
    places = np.flatnonzero(wrong)
    reasons = [next(reason for reason, rows in bad.items() if rows[place]) for place in places]
    raw = [str(row) for row in asked.given.take(pa.array(places)).to_pylist()]
    good = np.flatnonzero(~wrong)
    given = asked.given.take(pa.array(good))
    aside = reject_batch((places + 1).tolist(), reasons, raw)
    return replace(asked, rows=asked.rows[good], cutoffs=asked.cutoffs[good], given=given, set_aside=aside)


def _at_once(section: CutoffsSection, raw: Raw, target: str, *, index: str | None) -> Questions:
    if section.labels or section.known:
        raise InputError("cutoffs have a moment for all rows, and labels or known beside it", hint="labels stand in a table of cut-offs")
    moment = at_moment(str(section.at))
    times = raw.times[target]
    rows = np.arange(raw.tables[target].num_rows) if times is None else np.flatnonzero(times <= moment)
    columns = {} if index is None else {index: raw.tables[target].column(index).take(pa.array(rows))}
    when = pa.array(np.full(len(rows), moment)).cast(pa.timestamp("us"))
    return Questions(rows, np.full(len(rows), moment), pa.table({**columns, AT_ONCE: when}))


def at_moment(text: str) -> int:
    """Return a moment in microseconds since 1970.

    Args:
        text: `now`, or a time as ISO 8601 writes it; without a zone it is in UTC.

    Raises:
        InputError: It is none.
    """
    try:
        moment = datetime.now(UTC) if text == NOW else datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"the moment is {text!r}", hint="give it as 2024-06-01, 2024-06-01T12:00, or now") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)


def _own(section: CutoffsSection, raw: Raw, target: str, *, index: str | None, time: str | None, timed: bool) -> Questions:
    times, table = raw.times[target], raw.tables[target]
    for name in (*section.labels, *section.known):
        if name not in table.column_names:
            raise UnknownNameError(f"column of the target table {target!r}", name, table.column_names)
    if times is None and timed:
        raise InputError(
            f"the rows of the target table {target!r} have no time, and no cut-offs are given",
            hint="give cut-offs: a table with time, or one moment for all with at",
        )
    both = sorted({*section.labels} & {*section.known})
    if both:
        raise InputError(f"{', '.join(both)} cannot be both a label and known", hint="a label is what is not known yet")
    cutoffs = np.full(table.num_rows, NEVER - 2) if times is None else times
    columns = {name: table.column(name) for name in dict.fromkeys([*([index] if index else []), *section.labels])}
    if times is not None and time is not None:
        ticks = pa.array(np.where(times == NEVER, 0, times), mask=times == NEVER)
        columns = {**({index: columns[index]} if index else {}), time: pa.chunked_array([ticks.cast(pa.timestamp("us"))]), **columns}
    asked = Questions(
        np.arange(table.num_rows), cutoffs, pa.table(columns) if columns else table.select([]), own=True, timed=times is not None
    )
    return asked if times is None else _without_bad(asked, {"it has no time": times == NEVER})


def unseen(asked: Questions, raw: Raw, target: str, *, delay_us: int) -> np.ndarray:
    """Return which questions are about rows that are not there yet at their cut-off, boolean `[questions]`.

    Args:
        asked: The questions.
        raw: The tables.
        target: The target table.
        delay_us: How much earlier than the cut-off what is seen ends.
    """
    times = raw.times[target]
    if times is None or asked.own:
        return np.zeros(len(asked), dtype=bool)
    known = times[np.where(asked.rows < 0, 0, asked.rows)] if len(times) else np.full(len(asked), ALWAYS)
    return np.asarray((asked.rows >= 0) & (known > asked.cutoffs - delay_us))
