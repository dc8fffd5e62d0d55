"""Labels that a file says are wrong, mended among training rows: rows are left out, get another label, or weigh less.

Only training rows are ever changed. What is measured is measured on labels as they came: a model must not choose its own examination.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import is_text, spell
from deepseek.data.landing import LandedTable
from deepseek.data.splits import LEFT_OUT, TRAIN
from deepseek.errors import ColumnError, InputError, UnknownNameError

Action = Literal["drop", "relabel", "weigh"]
KEEP = "keep"
"""An action of a single line: the label is right, somebody has looked at it."""
ACTIONS = ("drop", "relabel", "weigh", KEEP)


@dataclass(frozen=True)
class SuspectRules:
    """What becomes of suspects.

    Attributes:
        file: A CSV or Parquet file with the columns `row` (or `key`), `given` and `suggested`, as `deepseek suspects` writes it; a column
            `action` says of single lines what becomes of them.
        action: What becomes of the others.
        weight: What a row weighs of what it did, for the action `weigh`, in [0, 1).
        key: A column of the table whose values stand in the file under the same name; rows are found by it instead of by number.
    """

    file: Path
    action: Action = "drop"
    weight: float = 0.2
    key: str | None = None


@dataclass(frozen=True)
class LabelEdits:
    """What is changed among the training rows of a table.

    Attributes:
        dropped: Rows that are left out, ascending, int64.
        relabelled: Rows that get another label, ascending, int64.
        labels: Their labels as text, in the same order.
        weighed: Rows whose weight is taken down, ascending, int64.
        weight: By what.
        kept: How many lines say that a label is right.
        elsewhere: How many lines are of rows that are no training rows, and so stay as they are.
    """

    dropped: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    relabelled: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    labels: tuple[str, ...] = ()
    weighed: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    weight: float = 1.0
    kept: int = 0
    elsewhere: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts."""
        return {
            "dropped": len(self.dropped),
            "relabelled": len(self.relabelled),
            "weighed": len(self.weighed),
            "kept": self.kept,
            "not_training": self.elsewhere,
        }

    def said(self, name: str) -> str:
        """Return what was done, in words.

        Args:
            name: The file's name.
        """
        done = [(len(self.dropped), "left out"), (len(self.relabelled), "relabelled"), (len(self.weighed), f"weighed by {self.weight:g}")]
        parts = [f"{count:,} {what}" for count, what in done if count] or ["none changed"]
        rest = [(self.kept, "said to be right"), (self.elsewhere, "of rows that are no training rows, which stay as they are")]
        noted = [f"{count:,} lines {what}" for count, what in rest if count]
        return f"suspect labels of {name}: training rows {', '.join(parts)}{''.join(f'; {one}' for one in noted)}"

    def left(self, split: np.ndarray) -> np.ndarray:
        """Return the split without the rows that are left out."""
        if not len(self.dropped):
            return split
        changed = split.copy()
        changed[self.dropped] = LEFT_OUT
        return changed

    def factors(self, rows: np.ndarray) -> np.ndarray | None:
        """Return what each of some rows weighs of what it did, float32 `[rows]`, or nothing where all stay as they were.

        Args:
            rows: Numbers of rows of the table.
        """
        return np.where(np.isin(rows, self.weighed), np.float32(self.weight), np.float32(1.0)) if len(self.weighed) else None

    def applied(self, batches: Iterator[pa.RecordBatch], rows: np.ndarray, target: str) -> Iterator[pa.RecordBatch]:
        """Yield rows with the labels that they are to have.

        Args:
            batches: The rows, in order.
            rows: Their numbers in the table, ascending, int64.
            target: The column of labels.
        """
        if not len(self.relabelled):
            yield from batches
            return
        start = 0
        for batch in batches:
            yield self._relabel(batch, rows[start : start + batch.num_rows], target)
            start += batch.num_rows

    def _relabel(self, batch: pa.RecordBatch, numbers: np.ndarray, target: str) -> pa.RecordBatch:
        changed = np.isin(numbers, self.relabelled)
        if not changed.any():
            return batch
        names = [self.labels[place] for place in np.searchsorted(self.relabelled, numbers[changed])]
        place = batch.schema.get_field_index(target)
        column = batch.column(place)
        fresh = pc.replace_with_mask(column, pa.array(changed), pa.array(names, pa.string()).cast(column.type))
        return batch.set_column(place, batch.schema.field(place), fresh)


def read_edits(rules: SuspectRules, table: LandedTable, split: np.ndarray, *, target: Sequence[str]) -> LabelEdits:
    """Return what a file of suspects changes among the training rows of a table.

    Args:
        rules: The file, and what becomes of its lines.
        table: The landed table.
        split: int8 `[rows]`, from `assign_split`.
        target: The target columns.

    Raises:
        InputError: The file is not there or no such table, was made for other rows, or says what cannot be done.
        ColumnError: It lacks a column.
        UnknownNameError: A label is suggested that no training row bears.
    """
    lines = _read(rules)
    rows = _rows(lines, rules, table)
    actions = _actions(lines, rules)
    if "relabel" in actions and (len(target) != 1 or "label" in lines.column_names):
        raise InputError(
            f"{rules.file.name} is to relabel rows of a target of several labels", hint="drop or weigh such rows, or mend the source itself"
        )
    _refuse_other_rows(lines, rows, rules, table, target)
    training = split[rows] == TRAIN
    chosen = {action: np.unique(rows[training & (actions == action)]) for action in ACTIONS}
    doubled = [action for action in ("relabel", "weigh") if np.isin(chosen[action], chosen["drop"]).any()]
    if doubled or np.isin(chosen["relabel"], chosen["weigh"]).any():
        raise InputError(f"{rules.file.name} says two things of one row", hint="leave one line a row, or the same action in each")
    return LabelEdits(
        chosen["drop"],
        chosen["relabel"],
        _labels(lines, rows, chosen["relabel"], rules=rules, table=table, split=split, target=target),
        chosen["weigh"],
        rules.weight,
        int((training & (actions == KEEP)).sum()),
        int((~training).sum()),
    )


def _read(rules: SuspectRules) -> pa.Table:
    wanted = ["row" if rules.key is None else rules.key, "given", "suggested"]
    try:
        if rules.file.suffix.lower() in (".parquet", ".pq"):
            import pyarrow.parquet

            lines = pyarrow.parquet.read_table(rules.file)
        else:
            import pyarrow.csv

            types = {name: pa.string() for name in ("given", "suggested", "action", "label", rules.key) if name}
            types |= {} if rules.key == "row" else {"row": pa.int64()}
            lines = pyarrow.csv.read_csv(rules.file, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"the file of suspects {str(rules.file)!r} cannot be read: {error}", hint="give what `deepseek suspects` wrote"
        ) from None
    lacking = [name for name in wanted if name not in lines.column_names]
    if lacking:
        raise ColumnError(
            f"{rules.file.name} lacks {', '.join(map(repr, lacking))}; it has {', '.join(map(repr, lines.column_names))}",
            hint="give what `deepseek suspects` wrote; with data.suspects.key, what it wrote with --key",
        )
    return lines


def _rows(lines: pa.Table, rules: SuspectRules, table: LandedTable) -> np.ndarray:
    """Return each line's row in the table, int64."""
    if rules.key is None:
        if not pa.types.is_integer(lines["row"].type) or lines["row"].null_count:
            raise InputError(f"the column 'row' of {rules.file.name} holds {lines['row'].type}", hint="it counts rows from 0")
        rows = np.asarray(lines["row"].to_numpy(), dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= table.rows):
            raise InputError(
                f"{rules.file.name} names row {rows.max()} of {table.rows:,}", hint="it was made for another table, or other checks"
            )
        return rows
    column, wanted = (_as_text(one) for one in (table.column(rules.key), lines[rules.key]))
    if len(pc.unique(column)) < len(column):
        raise InputError(f"the column {rules.key!r} does not tell rows apart: values repeat", hint="find suspects by row, without a key")
    places = pc.index_in(wanted, value_set=column)
    if places.null_count:
        value = wanted.filter(pc.is_null(places))[0].as_py()
        raise InputError(f"{rules.file.name} names {rules.key} {value!r}, which is not in the table", hint="it was made for another table")
    return np.asarray(places.to_numpy(), dtype=np.int64)


def _actions(lines: pa.Table, rules: SuspectRules) -> np.ndarray:
    """Return each line's action; where a line says nothing, the recipe's."""
    if "action" not in lines.column_names:
        return np.full(lines.num_rows, rules.action, dtype=object)
    said = [rules.action if not (value or "").strip() else value.strip().lower() for value in lines["action"].to_pylist()]
    for value in said:
        if value not in ACTIONS:
            raise UnknownNameError("action of a suspect", value, ACTIONS)
    return np.array(said, dtype=object)


def _refuse_other_rows(lines: pa.Table, rows: np.ndarray, rules: SuspectRules, table: LandedTable, target: Sequence[str]) -> None:
    """See that the rows bear the labels that the file says: one made for other rows must change nothing."""
    if len(target) != 1 or "label" in lines.column_names or not len(rows):
        return
    borne = _spelled(table, rows, target[0])
    said = [str(value) for value in lines["given"].to_pylist()]
    wrong = next((place for place, pair in enumerate(zip(borne, said, strict=True)) if pair[0] != pair[1]), None)
    if wrong is not None:
        raise InputError(
            f"row {rows[wrong]} is labelled {borne[wrong]!r}, and {rules.file.name} says {said[wrong]!r}",
            hint="the file was made for other rows: find suspects again, or go by a column that names rows with data.suspects.key",
        )


def _labels(
    lines: pa.Table,
    rows: np.ndarray,
    wanted: np.ndarray,
    *,
    rules: SuspectRules,
    table: LandedTable,
    split: np.ndarray,
    target: Sequence[str],
) -> tuple[str, ...]:
    """Return the labels that rows are to have, as text; each is borne by some training row already."""
    if not len(wanted):
        return ()
    suggested = [value if value is None else str(value) for value in lines["suggested"].to_pylist()]
    named: dict[int, str | None] = {}
    for row, name in zip(rows.tolist(), suggested, strict=True):
        if named.setdefault(row, name) != name:
            raise InputError(f"{rules.file.name} suggests {named[row]!r} and {name!r} for row {row}", hint="leave one line a row")
    texts, codes = spell(table.column(target[0]).combine_chunks(), target[0])
    known = {texts[code] for code in np.unique(codes[split == TRAIN]).tolist() if code >= 0}
    labels = [named[row] for row in wanted.tolist()]
    for name in labels:
        if name is None or name not in known:
            raise UnknownNameError("label", str(name), sorted(one for one in known if one is not None))
    return tuple(str(name) for name in labels)


def _spelled(table: LandedTable, rows: np.ndarray, target: str) -> list[str | None]:
    """Return the labels of rows, in the order of the rows, as text."""
    texts, codes = spell(table.column(target).take(pa.array(rows)).combine_chunks(), target)
    return [texts[code] if code >= 0 else None for code in codes.tolist()]


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole if is_text(whole.type) and whole.type == pa.string() else whole.cast(pa.string())


def edits_json(rules: SuspectRules, digest: str, edits: LabelEdits) -> dict[str, Any]:
    """Return what a run notes of its suspects: the file, its hash, and what was done.

    Args:
        rules: The file, and what becomes of its lines.
        digest: The file's SHA-256.
        edits: What that came to.
    """
    return {"file": str(rules.file), "sha256": digest, "action": rules.action, **edits.to_json()}
