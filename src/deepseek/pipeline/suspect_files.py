"""Out-of-fold judgements as what is kept of them: a table of suspects, counts by class, examples.

Legend of shapes: `n` rows judged · `k` classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from deepseek.artifacts.files import plain_disk_errors
from deepseek.data.landing import LandedTable
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetKind
from deepseek.fields import Kind
from deepseek.reporting.facts import Example
from deepseek.reporting.pictures import thumbnail
from deepseek.reporting.suspects import SuspectLine
from deepseek.statistics.confident import Method, Suspects, find_label_suspects, find_suspects, label_noise

FILE, PARQUET = "suspects.csv", "suspects.parquet"
_TRUTH = ("false", "true")


@dataclass(frozen=True)
class Judged:
    """Rows with their labels and out-of-fold probabilities.

    Attributes:
        kind: `binary`, `classes` or `labels`.
        classes: The names of classes or labels.
        rows: The rows' numbers in the landed table, int64 `[n]`.
        given: Class codes, int64 `[n]`, or which labels are true, `[n, k]`.
        probability: Float32 `[n, k]`; a class that a fold's network did not know has 0.
    """

    kind: TargetKind
    classes: tuple[str, ...]
    rows: np.ndarray
    given: np.ndarray
    probability: np.ndarray

    @property
    def rows_judged(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @classmethod
    def joined(cls, parts: Sequence[Judged], classes: tuple[str, ...]) -> Judged:
        """Return the folds' judgements as one, by row, in the codes of all classes.

        Args:
            parts: One a fold; a fold's network may not know every class.
            classes: All classes.
        """
        places = [np.array([classes.index(name) for name in part.classes]) for part in parts]
        probability = np.zeros((sum(map(len, (part.rows for part in parts))), len(classes)), dtype=np.float32)
        given, start = [], 0
        for part, place in zip(parts, places, strict=True):
            stop = start + len(part.rows)
            probability[start:stop, place] = part.probability
            start = stop
            if part.kind == "labels":
                many = np.zeros((len(part.rows), len(classes)), dtype=bool)
                many[:, place] = part.given >= 0.5
                given.append(many)
            else:
                given.append(place[part.given])
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows, kind="stable")
        kind: TargetKind = "labels" if parts[0].kind == "labels" else "classes"
        return cls(kind, classes, rows[order], np.concatenate(given)[order], probability[order])


def found_labels(judged: Judged, method: Method) -> dict[str, Any]:
    """Return counts and shares: rows judged, suspects, labels thought wrong, by class, and the joint of labels and classes."""
    if judged.kind == "labels":
        return _found_of_labels(judged, method)
    noise, found = label_noise(judged.given, judged.probability), find_suspects(judged.given, judged.probability, method=method)
    borne = np.bincount(judged.given, minlength=len(judged.classes))
    suspect = np.bincount(judged.given[found.rows], minlength=len(judged.classes))
    classes = [
        {"name": name, "rows": int(rows), "suspects": int(count), "share": None if np.isnan(share) else float(share)}
        for name, rows, count, share in zip(judged.classes, borne, suspect, noise.by_class, strict=True)
    ]
    return {
        "judged": judged.rows_judged,
        "suspects": len(found),
        "share": noise.share,
        "accuracy": float((judged.probability.argmax(axis=1) == judged.given).mean()),
        "classes": classes,
        "joint": noise.joint.tolist(),
    }


def _found_of_labels(judged: Judged, method: Method) -> dict[str, Any]:
    found = find_label_suspects(judged.given, judged.probability, method=method)
    chances = judged.probability.astype(np.float64)
    noises = [
        label_noise(truth.astype(np.int64), np.column_stack([1 - chance, chance]))
        for truth, chance in zip(judged.given.T, chances.T, strict=True)
    ]
    classes = [
        {"name": name, "rows": int(truth.sum()), "suspects": len(one), "share": noise.share}
        for name, truth, one, noise in zip(judged.classes, judged.given.T, found, noises, strict=True)
    ]
    return {
        "judged": judged.rows_judged,
        "suspects": sum(map(len, found)),
        "share": float(np.mean([noise.share for noise in noises])),
        "accuracy": float(((judged.probability >= 0.5) == judged.given).mean()),
        "classes": classes,
        "joint": [],
    }


def suspect_table(judged: Judged, method: Method) -> pa.Table:
    """Return the suspects, the surest first: rank, row, (label,) given, suggested, the probabilities of both, and their margin."""
    if judged.kind != "labels":
        found = find_suspects(judged.given, judged.probability, method=method)
        names = np.array(judged.classes, dtype=object)
        other = judged.probability[found.rows, found.suggested]
        return _table(judged, found, names[judged.given[found.rows]], names[found.suggested], other)
    parts = []
    for place, found in enumerate(find_label_suspects(judged.given, judged.probability, method=method)):
        names = np.array(_TRUTH, dtype=object)
        chance = judged.probability[found.rows, place]
        other = np.where(found.suggested == 1, chance, 1 - chance)
        table = _table(judged, found, names[judged.given[found.rows, place].astype(int)], names[found.suggested], other)
        parts.append(table.add_column(2, "label", pa.array([judged.classes[place]] * len(found), pa.string())))
    whole = pa.concat_tables(parts).sort_by([("margin", "ascending"), ("row", "ascending"), ("label", "ascending")])
    return whole.set_column(0, "rank", pa.array(np.arange(1, len(whole) + 1)))


def _table(judged: Judged, found: Suspects, given: np.ndarray, suggested: np.ndarray, other: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "rank": pa.array(np.arange(1, len(found) + 1)),
            "row": pa.array(judged.rows[found.rows]),
            "given": pa.array(given.tolist(), pa.string()),
            "suggested": pa.array(suggested.tolist(), pa.string()),
            "probability_given": pa.array(found.self_confidence),
            "probability_suggested": pa.array(other.astype(np.float64)),
            "margin": pa.array(found.margin),
        }
    )


def write_files(folder: Path, table: pa.Table, *, keys: pa.ChunkedArray | None, key: str | None) -> Path:
    """Write the suspects as CSV and Parquet, and return the CSV file.

    Args:
        folder: Where they go.
        table: The suspects.
        keys: A column of the table that they come from, whose values stand beside the rows' numbers.
        key: Its name.
    """
    if keys is not None and key is not None:
        table = table.add_column(2, key, keys.take(table["row"]))
    with plain_disk_errors(folder):
        pyarrow.csv.write_csv(table, folder / FILE)
        pyarrow.parquet.write_table(table, folder / PARQUET)
    return folder / FILE


def keep_judgements(folder: Path, judged: Judged) -> None:
    """Write every judged row's number, label and out-of-fold probabilities to `judged.npz`, with the names of the classes."""
    classes = np.array(judged.classes, dtype=np.str_)
    with plain_disk_errors(folder):
        np.savez(folder / "judged.npz", rows=judged.rows, given=judged.given, probability=judged.probability, classes=classes)


def page_lines(table: pa.Table) -> list[SuspectLine]:
    """Return the suspects as the page lists them."""
    label = table["label"].to_pylist() if "label" in table.column_names else [""] * len(table)
    columns = [table[name].to_pylist() for name in ("row", "given", "suggested", "probability_given", "probability_suggested")]
    return [
        SuspectLine(row, f"{name}: {given}" if name else given, suggested, own, other)
        for name, (row, given, suggested, own, other) in zip(label, zip(*columns, strict=True), strict=True)
    ]


def examples_of(
    table: pa.Table,
    source: LandedTable,
    prepared: Callable[[int], tuple[PreparedDataset, int] | None],
    *,
    most: int,
) -> list[Example]:
    """Return the surest suspects with their raw values and pictures.

    Args:
        table: The suspects.
        source: The landed table.
        prepared: Gives a row's prepared rows and its place among them, which hold its pictures.
        most: How many.
    """
    lines = page_lines(table.slice(0, most))
    rows = np.unique(np.array([line.row for line in lines], dtype=np.int64))
    names = [item.name for item in source.schema if not pa.types.is_nested(item.type) and not pa.types.is_binary(item.type)]
    raw = {
        int(number): values
        for number, values in zip(
            rows, (one for batch in source.batches(rows=rows, columns=names) for one in batch.to_pylist()), strict=True
        )
    }
    made = []
    for line in lines:
        pictures = []
        if (place := prepared(line.row)) is not None:
            data, number = place
            inputs = data.take(np.array([number]), ragged=False).inputs
            images = [name for name, spec in data.inputs.items() if spec.kind is Kind.IMAGE and name in inputs]
            pictures = [(name, thumbnail(inputs[name][0].numpy())) for name in images if inputs[name].ndim == 4]
        values = [(name, "missing" if value is None else str(value)) for name, value in raw[line.row].items()]
        how = f"{line.own:.1%} for the label, {line.other:.1%} for what is suggested"
        made.append(Example(line.row, line.given, line.suggested, how, values, pictures))
    return made
