"""Rows that stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.columns import hash_rows
from deepseek.data.known_hashes import KnownHashes
from deepseek.data.landing import LandedTable
from deepseek.data.splits import TEST, TRAIN, VALIDATION
from deepseek.data.threads import in_order, threads_here


@dataclass(frozen=True)
class Leaks:
    """How many rows of one part have exactly the inputs of a row of another.

    Attributes:
        validation_in_train: Validation rows whose inputs stand among the training rows.
        test_in_train: Test rows whose inputs stand among the training rows.
        test_in_validation: Test rows whose inputs stand among the validation rows.
        validation: All validation rows.
        test: All test rows.
    """

    validation_in_train: int
    test_in_train: int
    test_in_validation: int
    validation: int
    test: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell the user, one sentence for all pairs of parts that share rows; empty where none do."""
        found = [
            (self.validation_in_train, self.validation, "validation", "training"),
            (self.test_in_train, self.test, "test", "training"),
            (self.test_in_validation, self.test, "test", "validation"),
        ]
        told = [
            f"{count:,} of {total:,} {part} rows ({count / total:.1%}) those of a {other} row"
            for count, total, part, other in found
            if count
        ]
        if not told:
            return ()
        told[0] = told[0].replace(" those of ", " have exactly the inputs of ", 1)
        advice = "set repeats aside with the check unique, or keep them together with split.group"
        return (f"{', '.join(told)}: what is measured on them is memory, not skill; {advice}",)

    def to_json(self) -> dict[str, Any]:
        """Return the counts and warnings as plain JSON values."""
        return {
            "validation_in_train": self.validation_in_train,
            "test_in_train": self.test_in_train,
            "test_in_validation": self.test_in_validation,
            "warnings": list(self.warnings),
        }


def check_leaks(
    table: LandedTable,
    split: np.ndarray,
    *,
    columns: Sequence[str],
    test: LandedTable | None = None,
    typed: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
) -> Leaks:
    """Count the rows whose inputs stand in more than one part of a split.

    Exact duplicates across a split are the commonest leak of all (Kapoor and Narayanan, "Leakage and the reproducibility crisis in
    machine-learning-based science", Patterns 2023). Rows are compared by 64-bit hashes; memory is 8 bytes a row, twice that for a moment.

    Args:
        table: The landed table.
        split: int8 `[rows]`, from `assign_split`.
        columns: The input columns: neither the target nor ids nor the weight.
        test: The test rows, where they are a table of their own; the split's test rows are then none.
        typed: Gives rows the types of training (`Preparation.typed`), so that those of two tables can be compared.
    """
    if not columns:
        return Leaks(0, 0, 0, int((split == VALIDATION).sum()), int((split == TEST).sum()) if test is None else test.rows)
    hashes = _hashes(table, columns, typed)
    parts = [hashes[split == TRAIN], hashes[split == VALIDATION], hashes[split == TEST] if test is None else _hashes(test, columns, typed)]
    del hashes
    for part in parts:
        part.sort()  # what is looked up is sorted as well: neighbours are then found in the same cache lines
    learned, chosen, measured = parts
    return Leaks(_among(chosen, learned), _among(measured, learned), _among(measured, chosen), len(chosen), len(measured))


def repeated_training_rows(
    table: LandedTable,
    split: np.ndarray,
    *,
    columns: Sequence[str],
    test: LandedTable | None = None,
    typed: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
) -> np.ndarray:
    """Return the training rows that have exactly the inputs of a validation or test row, ascending, int64; arguments as `check_leaks`."""
    if not columns:
        return np.empty(0, dtype=np.int64)
    hashes = _hashes(table, columns, typed)
    measured = hashes[(split == VALIDATION) | (split == TEST)]
    if test is not None:
        measured = np.concatenate([hashes[split == VALIDATION], _hashes(test, columns, typed)])
    rows = np.flatnonzero(split == TRAIN)
    repeated: np.ndarray = rows[KnownHashes(measured).places(hashes[rows])]
    return repeated


def _hashes(table: LandedTable, columns: Sequence[str], typed: Callable[[pa.RecordBatch], pa.RecordBatch]) -> np.ndarray:
    hashes = np.empty(table.rows, dtype=np.uint64)
    start = 0
    for found in in_order(lambda batch: hash_rows(typed(batch), columns), table.batches(columns=columns), threads=threads_here()):
        hashes[start : start + len(found)] = found
        start += len(found)
    return hashes


def _among(hashes: np.ndarray, ranked: np.ndarray) -> int:
    if not len(ranked):
        return 0
    places = np.minimum(np.searchsorted(ranked, hashes), len(ranked) - 1)
    return int((ranked[places] == hashes).sum())
