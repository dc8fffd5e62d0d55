"""The check for rows that are nearly the same on both sides of a split, as a stage of the road."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepseek import progress
from deepseek.artifacts import StageCache, read_json, sha256_json, write_json
from deepseek.data.landing import LandedTable
from deepseek.data.leaks import repeated_training_rows
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.splits import NAMES, TEST, TRAIN
from deepseek.data.twins import Sides, Twins, picture_twins, table_twins, text_twins, twin_kinds

SAMPLE_ROWS = 20_000
_ROWS = "training_rows.npy"


@dataclass(frozen=True)
class TwinFacts:
    """What the check found.

    Attributes:
        found: By column and part, counts and examples.
        training: Training rows with a twin on the other side, ascending, int64.
    """

    found: tuple[Mapping[str, Any], ...]
    training: np.ndarray

    def warnings(self, exact: Mapping[str, Any]) -> list[str]:
        """Return what to tell the user, a sentence for each column and part that tells more than exact repeats do.

        Args:
            exact: The counts of rows that are equal to the last bit.
        """
        told = []
        for one in self.found:
            if one["twins"] > exact.get(f"{one['part']}_in_train", 0):
                of = f"{one['looked_at']:,}" if one["looked_at"] == one["of"] else f"{one['looked_at']:,} looked at of {one['of']:,}"
                told.append(
                    f"by {one['what']}, {one['twins']:,} of {of} {one['part']} rows ({one['twins'] / one['looked_at']:.1%}) are "
                    "nearly a training row: what is measured on them is partly memory; split.on_leak: drop leaves such training rows out"
                )
        return told


def twin_facts(
    cache: StageCache,
    folder: Path,
    *,
    preparation: Preparation,
    tables: Mapping[str, LandedTable],
    split: np.ndarray,
    seed: int,
    exact: Mapping[str, Any],
) -> TwinFacts:
    """Look for training rows that are nearly a validation or test row; what was found is kept.

    Args:
        cache: Where stages are kept.
        folder: The prepared stage, whose name says all that the result depends on but for the seed.
        preparation: What prepared it.
        tables: The landed table, `source`, and `test` where there are test rows of their own.
        split: int8 `[rows]`.
        seed: Says which rows are drawn, where there are many.
        exact: How many rows of a part have exactly the inputs of a training row, as `Leaks.to_json` says.
    """

    def build(place: Path) -> None:
        with progress.task("comparing the parts"):
            found = _find(folder, preparation, tables, split, seed)
            same = np.empty(0, dtype=np.int64)
            if exact["validation_in_train"] or exact["test_in_train"]:
                same = repeated_training_rows(
                    tables["source"], split, columns=preparation.columns, test=tables.get("test"), typed=preparation.typed
                )
        training = np.unique(np.concatenate([same, *(one.training for one in found)]))
        write_json(place / "twins.json", {"found": [near.to_json() for one in found for near in one.found]}, durable=False)
        np.save(place / _ROWS, training, allow_pickle=False)

    kept, _ = cache.folder("twins", {"prepared": folder.name, "seed": seed}, build)
    return TwinFacts(tuple(read_json(kept / "twins.json")["found"]), np.load(kept / _ROWS, allow_pickle=False))


def _find(folder: Path, preparation: Preparation, tables: Mapping[str, LandedTable], split: np.ndarray, seed: int) -> list[Twins]:
    texts, pictures, rest = twin_kinds({item.name: item.kind for item in preparation.schema.inputs if item.name in preparation.columns})
    sides = _sides(tables, split)
    if not sides.measured:
        return []
    found = [text_twins(sides, name, seed=seed) for name in texts]
    if rest:
        sample = tables["source"].sample(split == TRAIN, SAMPLE_ROWS, seed)
        found.append(table_twins(sides, rest, sample=sample, typed=preparation.typed, seed=seed))
    opened = {name: PreparedDataset.open(folder / name) for name in NAMES if (folder / name).is_dir()}
    train = opened.pop("train")
    inputs = [name for name, spec in preparation.inputs.items() if set(spec.columns) & set(pictures) and len(spec.shape) == 3]
    found += [picture_twins(train, opened, name, seed=seed) for name in inputs if opened]
    return found


def _sides(tables: Mapping[str, LandedTable], split: np.ndarray) -> Sides:
    source = tables["source"]
    measured = {}
    for number, name in enumerate(NAMES):
        if number == TRAIN:
            continue
        table, rows = (source, np.flatnonzero(split == number))
        if number == TEST and "test" in tables:
            table, rows = tables["test"], np.arange(tables["test"].rows)
        if len(rows):
            measured[name] = (table, rows)
    return Sides((source, np.flatnonzero(split == TRAIN)), measured)


def rows_key(rows: np.ndarray) -> str:
    """Return a hash of row numbers, for a stage's key."""
    return sha256_json({"rows": rows.tolist()})
