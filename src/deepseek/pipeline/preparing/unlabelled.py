"""Rows without a label for self-training: read, freed of everything that would give validation or test rows away, and prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import StageCache, read_json, write_json
from deepseek.data.columns import as_float64, hash_rows, is_number, require_columns, spell
from deepseek.data.landing import LandedTable
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.splits import LEFT_OUT, TRAIN, split_names
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import DataError
from deepseek.pipeline.preparing.cache_keys import code_version, file_version, plugin_versions
from deepseek.pipeline.preparing.dataset import Dataset, land_unlabelled
from deepseek.recipe import Recipe

_HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Unlabelled:
    """Rows without a label.

    Attributes:
        folder: The prepared rows, their counts beside them.
        landed: The table that they come from.
        rows: How many there are.
        excluded: How many rows of the table were left out, by reason.
        warnings: What the user should know, in words.
        manifest: Where they come from, as in a run's `data.json`; nothing where they stand in the recipe's own source.
    """

    folder: Path
    landed: LandedTable
    rows: int
    excluded: Mapping[str, int]
    warnings: tuple[str, ...]
    manifest: Mapping[str, Any] | None

    def open(self) -> PreparedDataset:
        """Return the prepared rows."""
        return PreparedDataset.open(self.folder / "rows")


def read_unlabelled(recipe: Recipe, dataset: Dataset, cache: StageCache) -> Unlabelled:
    """Read the rows without a label that a recipe's `self_training` names, and prepare them as the labelled training rows were.

    Left out are rows whose inputs are exactly those of a validation or test row, and rows that stand on the wrong side of the recipe's
    split: of a group or from a time that is kept for validation or testing, or marked so by the split's column.

    Args:
        recipe: The checked recipe, with the section.
        dataset: The labelled rows.
        cache: Where stages are kept.

    Raises:
        DataError: There are no such rows, or the source cannot be used.
    """
    section, preparation = recipe.self_training, dataset.preparation()
    assert section is not None
    warnings: tuple[str, ...] = ()
    if section.unlabelled is None:
        table, key, manifest = LandedTable.open(dataset.landed["source"]), dataset.landed["source"].name, None
    else:
        landed, warnings = land_unlabelled(recipe, section.unlabelled, cache, texts=preparation.text_columns)
        table, key, manifest = landed.table, landed.key, landed.manifest
        require_columns(preparation.columns, table.schema.names, what="the source of rows without a label")
    about = {
        "code": {"deepseek": code_version(), **plugin_versions(recipe)},
        "landed": key,
        "files": file_version(table, preparation.schema),
        "prepared": dataset.folder.name,
        "split": recipe.to_value()["data"]["split"],
        "own": section.unlabelled is None,
    }
    chooser = _Chooser(recipe, dataset, preparation, table, own=section.unlabelled is None)
    folder, _ = cache.folder("unlabelled", about, partial(_build, chooser, preparation))
    counts = read_json(folder / "counts.json")
    told = (*warnings, *counts["warnings"])
    return Unlabelled(folder, table, counts["rows"], counts["excluded"], told, manifest)


def _build(chooser: _Chooser, preparation: Preparation, folder: Path) -> None:
    rows, excluded, warnings = chooser.rows()
    if not len(rows):
        why = ", ".join(f"{count:,}: {reason}" for reason, count in excluded.items())
        raise DataError(
            f"there is no row without a label to learn from{f' ({why})' if why else ''}", hint="name them under self_training.unlabelled"
        )
    batches = chooser.table.batches(rows=rows, columns=preparation.columns)
    with progress.task("preparing rows without a label", len(rows)) as advance:
        made, aside = prepare(preparation.without_target(), progress.counted(batches, advance), folder / "rows", rows=rows, training=False)
    for reason, count in aside.items():
        excluded[reason] = excluded.get(reason, 0) + count
    write_json(folder / "counts.json", {"rows": len(made), "excluded": excluded, "warnings": warnings}, durable=False)


class _Chooser:
    """Says which rows of a table may be learned from without a label."""

    def __init__(self, recipe: Recipe, dataset: Dataset, preparation: Preparation, table: LandedTable, *, own: bool) -> None:
        self.table = table
        self._split, self._dataset, self._preparation, self._own = recipe.data.split, dataset, preparation, own
        self._targets = [name for name in recipe.data.targets if name in table.schema.names]
        self._given_split = recipe.data.split.column or (table.given_split if own else None)
        self._warnings: list[str] = []

    def rows(self) -> tuple[np.ndarray, dict[str, int], list[str]]:
        """Return the rows' numbers, ascending, how many were left out by reason, and warnings."""
        keep = np.ones(self.table.rows, dtype=bool)
        excluded: dict[str, int] = {}
        if self._own:
            keep &= self._without_target()
        elif self._targets:
            self._warnings.append("the source of rows without a label has the target's column, which is not looked at")
        for reason, bad in self._reasons():
            if count := int((keep & bad).sum()):
                excluded[reason] = count
            keep &= ~bad
        return np.flatnonzero(keep), excluded, self._warnings

    def _reasons(self) -> Iterator[tuple[str, np.ndarray]]:
        split = self._split
        if self._given_split is not None and self._has(self._given_split, "which part of the split they are in"):
            parts = split_names(self.table.column(self._given_split), self._given_split)
            yield "marked as validation or test row", (parts != TRAIN) & (parts != LEFT_OUT)
        if split.group is not None and self._has(split.group, "which group they are of"):
            held_out = {text for column in self._held_out(split.group) for text in spell(column, split.group)[0]}
            yield (
                "of a group that is kept for validation or test",
                _concat(self.table.column(split.group), partial(_in, held_out, split.group)),
            )
        if split.time is not None and self._has(split.time, "when they are from"):
            first = min((float(np.nanmin(_moments(column))) for column in self._held_out(split.time) if len(column)), default=np.inf)
            moments = _concat(self.table.column(split.time), _moments)
            yield "from the time of validation or test rows", ~(moments < first)
        known = np.unique(np.concatenate([_hashes(part, self._preparation) for part in self._parts()] or [np.empty(0, np.uint64)]))
        yield (
            "inputs exactly those of a validation or test row",
            np.isin(_hashes(self.table.batches(columns=self._preparation.columns), self._preparation), known),
        )

    def _has(self, column: str, what: str) -> bool:
        if column in self.table.schema.names:
            return True
        self._warnings.append(
            f"the rows without a label lack the column {column!r} of the split: nobody can say {what}, and so whether they give "
            "validation or test rows away"
        )
        return False

    def _without_target(self) -> np.ndarray:
        target = self._preparation.target
        assert target is not None
        batches = self.table.batches(columns=self._targets)
        return np.concatenate([target.missing(batch) for batch in batches])

    def _held_out(self, column: str) -> Iterator[pa.Array]:
        for table, rows in self._held_out_rows():
            if column in table.schema.names:
                yield from (batch.column(0) for batch in table.batches(rows=rows, columns=[column]))

    def _parts(self) -> Iterator[Iterator[pa.RecordBatch]]:
        for table, rows in self._held_out_rows():
            yield table.batches(rows=rows, columns=self._preparation.columns)

    def _held_out_rows(self) -> Iterator[tuple[LandedTable, np.ndarray]]:
        for name in _HELD_OUT:
            data = self._dataset.open(name)
            if data is None or data.source_rows is None:
                continue
            place = "test" if name == "test" and "test" in self._dataset.landed else "source"
            yield LandedTable.open(self._dataset.landed[place]), np.asarray(data.source_rows, dtype=np.int64)


def _in(held_out: set[str | None], name: str, column: pa.Array) -> np.ndarray:
    texts, indices = spell(column, name)
    return np.asarray(np.array([*(text in held_out for text in texts), False])[indices])


def _moments(column: pa.Array) -> np.ndarray:
    """Return points in time as float64 that grows with time, NaN where there is none."""
    if is_number(column.type):
        return as_float64(column)
    moments = read_timestamps(column)
    known = moments.is_valid().to_numpy(zero_copy_only=False)
    values = moments.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(known, values, np.nan)


def _concat(column: pa.ChunkedArray, measure: Callable[[pa.Array], np.ndarray]) -> np.ndarray:
    return np.concatenate([measure(chunk) for chunk in column.chunks])


def _hashes(batches: Iterator[pa.RecordBatch], preparation: Preparation) -> np.ndarray:
    parts = [hash_rows(preparation.typed(batch), preparation.columns) for batch in batches]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
