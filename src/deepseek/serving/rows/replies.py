"""What is answered to a request for predictions: entries in the order of its rows, errors in the places of bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from deepseek.serving.http.problems import RefusedError
from deepseek.serving.rows.reader import Rows

DETAILED_ROWS = 100
"""So many bad rows of a request are explained field by field, the others in one sentence: to explain takes more bytes than to be wrong."""
TOLD_ERRORS = 3


def merged(rows: Rows, written: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries of all rows in their order: answers, and errors where a row is bad.

    Args:
        rows: The rows.
        written: The answers of the good ones.
    """
    if not rows.bad:
        return {"answers": list(written)}
    good, detailed = iter(written), sorted(rows.bad)[:DETAILED_ROWS]
    last = detailed[-1]
    entries = [{"error": _row_error(rows, row, detailed=row <= last)} if row in rows.bad else next(good) for row in range(rows.count)]
    return {"answers": entries, "failed": len(rows.bad)}


def _row_error(rows: Rows, row: int, *, detailed: bool = True) -> dict[str, Any]:
    errors = rows.bad[row]
    told = "; ".join(error["message"] for error in errors[:TOLD_ERRORS])
    more = f"; and {len(errors) - TOLD_ERRORS} more" if len(errors) > TOLD_ERRORS else ""
    status = 500 if row in rows.lost else 422
    value = {"status": status, "detail": f"{told}{more}"}
    return {**value, "errors": errors} if detailed else {"status": status, "detail": errors[0]["message"]}


def all_bad(rows: Rows) -> RefusedError:
    """Return the refusal of a request of whose rows none can be answered."""
    status = 500 if rows.lost else 422
    if rows.single:
        error = _row_error(rows, 0)
        return RefusedError(status, error["detail"], errors=error["errors"])
    errors = [{"row": row, **error} for row in sorted(rows.bad)[:DETAILED_ROWS] for error in rows.bad[row]]
    more = f"; {len(rows.bad):,} rows are bad" if len(rows.bad) > 1 else ""
    detail = f"no row can be answered: row {errors[0]['row']}: {errors[0]['message']}{more}"
    return RefusedError(status, detail, errors=errors[:DETAILED_ROWS])


def as_stream(table: pa.Table) -> bytes:
    """Return answers as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
