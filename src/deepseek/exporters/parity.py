"""The gate that an exported network has to pass: real rows go through the whole of both, from the table to the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.padding import rows_together
from deepseek.errors import DataError, ExportError, InputError
from deepseek.exporters.hard_rows import hard_rows
from deepseek.inference.predictor import Predictor
from deepseek.tasks.answers import masks_in

TOLERANCE = 1e-4
"""How far probabilities, or values in standard deviations, may lie from the original's in float32."""
ALONE_ROWS = 8
MASK_ROWS = 64
"""So many pictures are compared place by place, each of which has thousands."""


@dataclass
class Parity:
    """How far an exported network's answers lie from the original's.

    Attributes:
        rows: How many real rows were answered by both.
        largest: The largest difference by output, over the real rows and the hard ones.
        flipped: How many real rows have another prediction (class or labels).
        cases: What was compared besides, each with its rows.
        worst: Where the largest difference is: the case, the row in it, the output, its columns' values, both answers.
    """

    rows: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    flipped: int = 0
    cases: dict[str, int] = field(default_factory=dict)
    worst: dict[str, Any] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """The largest of all differences."""
        return max(self.largest.values(), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the worst row's values, which are raw data, as plain JSON values."""
        return asdict(self) | {"worst": {key: value for key, value in self.worst.items() if key != "values"}}


def compare(reference: Predictor, candidate: Predictor, batches: Iterable[pa.RecordBatch]) -> Parity:
    """Put the same raw rows to two predictors: real rows in batches and alone, no rows, and hard rows made of them.

    Args:
        reference: The original.
        candidate: What was exported of it.
        batches: The real rows.

    Raises:
        ExportError: One answers rows that the other refuses, or answers of another shape.
        InputError: There is no row.
    """
    parity = Parity()
    first: pa.RecordBatch | None = None
    for batch in _few(batches) if reference.answers_masks else batches:
        if not batch.num_rows:
            continue
        first = batch.slice(0, ALONE_ROWS) if first is None else first
        wanted, got = reference.decoded(batch), candidate.decoded(batch)
        _take_up(parity, "rows in batches", batch, wanted, answered=got)
        parity.flipped += _flips(reference.table(wanted), candidate.table(got))
        parity.rows += batch.num_rows
    if first is None:
        raise InputError("there is no row to compare the exported network on", hint="give rows with --rows FILE")
    for case, batch, together in _cases(reference, first):
        expected = _asked(reference.decoded, batch)
        answered = _asked(candidate.decoded if together else partial(_alone, candidate), batch)
        if isinstance(expected, DataError) or isinstance(answered, DataError):
            if type(expected) is not type(answered):
                raise ExportError(f"{case}: the original says {_said(expected)}, what was exported says {_said(answered)}")
            continue
        _take_up(parity, case, batch, expected, answered=answered)
        parity.cases[case] = batch.num_rows
    return parity


def require_parity(parity: Parity, tolerance: float = TOLERANCE) -> None:
    """Refuse a network whose answers lie further from the original's than is allowed.

    Args:
        parity: What was compared.
        tolerance: The largest difference allowed.

    Raises:
        ExportError: They do; the message says for which row.
    """
    if parity.difference <= tolerance:
        return
    worst = parity.worst
    values = ", ".join(f"{name}={_short(value)}" for name, value in worst["values"].items())
    raise ExportError(
        f"what was exported answers otherwise: {worst['output']} differs by {parity.difference:.3g}, allowed is {tolerance:g}; "
        f"{parity.flipped} of {parity.rows} predictions are others. The worst row is {worst['row']} of {worst['case']!r} ({values}): "
        f"{worst['expected']} became {worst['answered']}",
        hint="nothing was kept; choose another format, or another precision where that is what differs",
    )


def _few(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield at most `MASK_ROWS` rows, a handful at a time: the probabilities of a volume's places fill memory."""
    left = MASK_ROWS
    for batch in batches:
        for start in range(0, min(batch.num_rows, left), ALONE_ROWS):
            yield batch.slice(start, min(ALONE_ROWS, left - start))
        left -= min(batch.num_rows, left)
        if not left:
            return


def _cases(reference: Predictor, first: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch, bool]]:
    yield "rows alone", first, False
    yield "no rows", first.slice(0, 0), True
    for case, batch in hard_rows(first, reference.schema, reference.columns):
        yield case, batch, True


def _asked(ask: Callable[[pa.RecordBatch], dict[str, np.ndarray]], batch: pa.RecordBatch) -> dict[str, np.ndarray] | DataError:
    try:
        return ask(batch)
    except DataError as error:
        return error


def _alone(predictor: Predictor, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    parts = [predictor.decoded(batch.slice(row, 1)) for row in range(batch.num_rows)]
    return {name: rows_together([part[name] for part in parts]) for name in parts[0]}


def _take_up(
    parity: Parity, case: str, batch: pa.RecordBatch, expected: Mapping[str, np.ndarray], *, answered: Mapping[str, np.ndarray]
) -> None:
    """Note how far the answers to a batch lie apart."""
    if list(expected) != list(answered):
        raise ExportError(f"{case}: the answers are {list(answered)}, not {list(expected)}")
    for name, wanted in expected.items():
        got = answered[name]
        if got.shape != wanted.shape:
            raise ExportError(f"{case}: {name} has the shape {list(got.shape)}, not {list(wanted.shape)}")
        apart = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        apart = np.where(np.isnan(got) & np.isnan(wanted) | (got == wanted), 0.0, apart)
        by_row = np.where(np.isnan(apart), np.inf, apart).max(axis=tuple(range(1, apart.ndim)), initial=0.0)
        largest = float(by_row.max(initial=0.0))
        if largest > parity.difference or (not parity.worst and len(by_row)):
            row = int(by_row.argmax())
            parity.worst = {
                "case": case,
                "row": row + (parity.rows if case == "rows in batches" else 0),
                "output": name,
                "expected": _shown(wanted[row], apart[row]),
                "answered": _shown(got[row], apart[row]),
                "values": batch.slice(row, 1).to_pylist()[0],
            }
        parity.largest[name] = max(parity.largest.get(name, 0.0), largest)


def _shown(values: np.ndarray, apart: np.ndarray) -> Any:
    """Return a row's numbers; where they are those of thousands of places, those of the one at which the answers lie furthest apart."""
    if values.ndim == 2:
        values = values[int(apart.max(axis=1).argmax())]
    elif values.ndim > 2:
        place = int(apart.reshape(len(apart), -1).max(axis=0).argmax())
        values = values.reshape(len(values), -1)[:, place]
    return np.round(values, 6).tolist()


def _flips(expected: pa.Table, answered: pa.Table) -> int:
    """Return how many rows have another class, other labels or other objects; numbers have no such thing."""
    if "prediction" not in expected.column_names or pa.types.is_floating(expected.schema.field("prediction").type):
        return 0
    if pa.types.is_struct(expected.schema.field("prediction").type):
        return sum(not np.array_equal(one, other) for one, other in zip(masks_in(expected), masks_in(answered), strict=True))
    pairs = zip(_named(expected["prediction"].to_pylist()), _named(answered["prediction"].to_pylist()), strict=True)
    return sum(one != other for one, other in pairs)


def _named(predictions: list[Any]) -> list[Any]:
    """Return predictions, and of objects with their places in a picture only what they are."""
    return [
        sorted(str(one["label"]) for one in row) if isinstance(row, list) and row and isinstance(row[0], dict) else row
        for row in predictions
    ]


def _said(answer: object) -> str:
    return repr(answer.message) if isinstance(answer, DataError) else "nothing against them"


def _short(value: Any) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
