"""Messages of a live stream, so many at a time, and what of them can be learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from deepseek.data.batch import Batch
from deepseek.data.checks.base import Check
from deepseek.data.preparation import Preparation
from deepseek.data.rejects import Inspection
from deepseek.data.sources.stream import SnapshotSource
from deepseek.data.streams.base import MESSAGES, Stream
from deepseek.data.streams.manifest import OFFSET, PARTITION
from deepseek.data.streams.rows import Rows, rows_of
from deepseek.data.streams.waiting import Patience
from deepseek.data.types import as_type
from deepseek.errors import CheckError, DataError, InputError
from deepseek.pipeline.online.arriving import batches_of
from deepseek.recipe.sections import LiveSection

_ASK_S = 0.5


class Messages:
    """Takes messages from a stream, so many at a time.

    As many messages as a batch has rows make a batch, whatever the sizes in which they come: so learning does not depend on the network,
    unless a batch has waited too long to become full.

    Args:
        stream: The stream.
        source: Whose it is: it knows the decoder.
        live: How long is waited.
        stopped: Says whether somebody wants it to end.
    """

    def __init__(self, stream: Stream, source: SnapshotSource, live: LiveSection, *, stopped: Callable[[], bool]) -> None:
        self._stream, self._live, self._stopped = stream, live, stopped
        self._decoder, self._max_message = source.decoder(), source.max_message

    def gather(self, most: int, *, patient: bool = False) -> Rows | None:
        """Return so many messages, decoded; fewer where they have waited too long; nothing where it is to end.

        Args:
            most: How many.
            patient: Whether to wait for all of them, however long it takes; the end of a stream that falls silent still counts.
        """
        found: list[pa.RecordBatch] = []
        count = 0
        waited, silent = Patience(self._live.max_wait), Patience(self._live.idle or 0.0)
        while count < most and not self._stopped():
            batch = self._stream.poll(most - count, timeout_s=_ASK_S if patient or not count else min(_ASK_S, waited.left_s))
            if batch.num_rows:
                if not count:
                    waited.renew()
                silent.renew()
                found.append(batch)
                count += batch.num_rows
            elif (count and not patient and not waited.left_s) or (self._live.idle is not None and not silent.left_s):
                break
        return rows_of(pa.Table.from_batches(found, MESSAGES), self._decoder, max_message=self._max_message) if count else None


@dataclass
class Aside:
    """Rows that are not learned from.

    Attributes:
        counts: How many, by reason.
        rows: Those that are kept, each with its reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class Usable:
    """Brings rows into the form of the first ones, and sets aside what the checks or the transforms cannot take.

    Args:
        schema: The columns of the first rows.
        checks: The recipe's; each looks at a row by itself.

    Raises:
        InputError: A check looks at the whole table.
    """

    def __init__(self, schema: pa.Schema, checks: Sequence[Check]) -> None:
        self.schema, self._checks = schema, checks
        if any(check.table_wide for check in checks):
            raise InputError(
                "the check unique looks at a whole table, and a stream has no end", hint="leave it out, or learn from a snapshot"
            )

    def checked(self, rows: pa.Table) -> tuple[pa.RecordBatch, Aside]:
        """Return the rows that all checks let pass.

        Raises:
            CheckError: A check with `on_fail: fail` met a bad row.
        """
        whole = pa.concat_batches(rows.combine_chunks().to_batches()) if rows.num_rows else pa.RecordBatch.from_pylist([], rows.schema)
        return self._one_by_one_where_it_fails(whole, self._asked)

    def prepared(self, rows: pa.RecordBatch, preparation: Preparation, size: int) -> tuple[list[tuple[pa.RecordBatch, Batch]], Aside]:
        """Return batches of at most so many rows, as the network takes them."""
        batches: list[tuple[pa.RecordBatch, Batch]] = []

        def prepare(part: pa.RecordBatch) -> tuple[pa.RecordBatch, Aside]:
            aside = Aside()
            made = list(batches_of(preparation, iter([part]), size, counts=aside.counts))
            batches[:] = made
            aside.counts = +aside.counts
            return part, aside

        _, aside = self._one_by_one_where_it_fails(rows, prepare)
        return batches, aside

    def _one_by_one_where_it_fails(
        self, rows: pa.RecordBatch, work: Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Aside]]
    ) -> tuple[pa.RecordBatch, Aside]:
        """Do something with rows; where they do not bear it, find out which, and do it with the others."""
        try:
            return work(rows)
        except CheckError:
            raise
        except (DataError, pa.ArrowException):
            good, aside = [], Aside()
        for place in range(rows.num_rows):
            one = rows.slice(place, 1)
            try:
                work(one)
                good.append(place)
            except CheckError:
                raise
            except (DataError, pa.ArrowException) as error:
                aside.counts["a value is not what its column is"] += 1
                aside.rows.append((str(error).partition("\n")[0], one.to_pylist()[0]))
        left, more = work(rows.take(pa.array(good, pa.int64())))
        return left, Aside(aside.counts + more.counts, aside.rows + more.rows)

    def _asked(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Aside]:
        inspection = Inspection(self._checks)
        good, found = inspection.by_row(self._formed(rows))
        counts = Counter({one.reason: one.dropped + one.quarantined for one in inspection.counts if one.dropped + one.quarantined})
        return good, Aside(counts, list(zip(found.reasons, found.batch.to_pylist(), strict=True)))

    def _formed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with the columns of the first ones, of their types where that changes no value; what those did not have is left out.

        A batch with one odd value in it has text where there were numbers: the numbers among them are numbers again once they stand alone.
        """
        columns = []
        for known in self.schema:
            place = rows.schema.get_field_index(known.name)
            absent = place < 0 or pa.types.is_null(rows.schema.field(place).type)
            columns.append(pa.nulls(rows.num_rows, known.type) if absent else as_type(rows.column(place), known.type))
        return pa.record_batch(columns, names=self.schema.names)


def without_places(rows: pa.Table) -> pa.Table:
    """Return rows as a snapshot delivers them: partition and offset are nothing to learn from."""
    return rows.drop_columns([PARTITION, OFFSET])
