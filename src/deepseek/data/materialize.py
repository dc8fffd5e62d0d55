"""A split's rows through a fitted preparation, written as arrays; what cannot be prepared is set aside, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from deepseek.data.preparation import Aside, Preparation
from deepseek.data.threads import in_order, threads_here
from deepseek.data.transforms import Array, Ragged
from deepseek.errors import DataError, InputError, rows_counted

if TYPE_CHECKING:
    from deepseek.data.prepared import PreparedDataset, PreparedWriter

SLICE_BYTES = 64 << 20


def prepare(  # noqa: PLR0913 (which rows, in which role, and what becomes of those that cannot be prepared)
    preparation: Preparation,
    batches: Iterator[pa.RecordBatch],
    folder: Path | str,
    *,
    rows: np.ndarray | int,
    training: bool,
    unseen: Literal["fail", "set_aside"] = "fail",
    set_aside: Callable[[str, np.ndarray], None] | None = None,
    factors: np.ndarray | None = None,
) -> tuple[PreparedDataset, dict[str, int]]:
    """Write one split's rows as arrays.

    Args:
        preparation: The fitted preparation.
        batches: The split's rows, in order; for training rows the same that `fit` saw.
        folder: Where the dataset goes.
        rows: For each row its index in the table, or how many rows there are.
        training: Whether these are the training rows: then cleaners may drop rows, and target encoding is out of fold.
        unseen: What happens to rows of a class that training did not know.
        set_aside: Is given, once all rows are written, each reason with the indices of the rows that were set aside for it.
        factors: What each row weighs of what it would, float32 `[rows]`; all of it where not given.

    Returns:
        The dataset, and how many rows were set aside, by reason; empty where every row is in the dataset.

    Raises:
        DataError: A value cannot be prepared, or no row is left.
        RunError: The folder cannot be written.
    """
    sources = np.arange(rows) if isinstance(rows, int) else np.asarray(rows, dtype=np.int64)
    writer = _SplitWriter(preparation, sources, Path(folder), training=training, unseen=unseen)
    writer.factors = factors
    dataset = writer.write(batches)
    if set_aside is not None:
        for reason, numbers in writer.aside.rows.items():
            set_aside(reason, sources[numbers])
    return dataset, writer.aside.counts


class _Slice(NamedTuple):
    """What a slice of rows has become: arrays of the rows that are kept, and what is to be told of the others."""

    arrays: dict[str, Array]
    targets: dict[str, Array]
    weight: np.ndarray | None
    rows: np.ndarray
    aside: Aside
    unknown: dict[str, tuple[int, int]]
    unseen_class: Any


class _SplitWriter:
    """Writes the rows of one split: one call of `prepare`."""

    def __init__(self, preparation: Preparation, sources: np.ndarray, folder: Path, *, training: bool, unseen: str) -> None:
        self._preparation, self._sources, self._folder = preparation, sources, folder
        self._training, self._unseen = training, unseen
        self.aside = Aside()
        self.factors: np.ndarray | None = None
        self._written = 0
        self._unseen_classes: list[str] = []
        self._writer: PreparedWriter | None = None
        row_bytes = sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in preparation.placed.values())
        self._slice_rows = max(1, SLICE_BYTES // max(1, row_bytes))

    def write(self, batches: Iterator[pa.RecordBatch]) -> PreparedDataset:
        from deepseek.data.prepared import PreparedDataset

        try:
            for made in in_order(self._convert, self._slices(batches), threads=threads_here()):
                self._append(made)
            if self._writer is None or not self._written:
                hint = "; ".join(self._unseen_classes) or "look at the split and at what was set aside"
                raise DataError(f"no row is left to prepare ({self.aside})", hint=hint)
            self._writer.finish()
        finally:
            if self._writer is not None:
                self._writer.close()
        return PreparedDataset.open(self._folder)

    def _slices(self, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, np.ndarray, int]]:
        """Yield cleaned rows in pieces of bounded size, which rows they are, and how many came before them."""
        passed = 0
        with rows_counted(self._sources):
            for batch, rows in self._cleaned(self._announced(batches)):
                for start in range(0, batch.num_rows, self._slice_rows):
                    piece = batch.slice(start, self._slice_rows)
                    yield piece, rows[start : start + self._slice_rows], passed
                    passed += piece.num_rows

    def _cleaned(self, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        if self._training:
            return self._preparation.training_rows(batches, aside=self.aside)
        return self._preparation.other_rows(batches, aside=self.aside)

    def _announced(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches, and see that they hold as many rows as were announced: otherwise rows would get others' numbers."""
        came = 0
        for batch in batches:
            came += batch.num_rows
            if came > len(self._sources):
                break
            yield batch
        if came != len(self._sources):
            more = "or more " if came > len(self._sources) else ""
            raise InputError(f"{came} {more}rows came, {len(self._sources)} were announced", hint="give the split's own rows")

    def _convert(self, piece: tuple[pa.RecordBatch, np.ndarray, int]) -> _Slice:
        """Return the arrays of a slice; called from several threads, it changes nothing."""
        batch, rows, passed = piece
        aside = Aside()
        with rows_counted(self._sources[rows]):
            arrays, keep = self._arrays(batch, rows, passed, aside)
        unknown = self._preparation.unknown(batch)
        target, unseen_class = self._preparation.target, None
        if target is not None and self._unseen == "set_aside":
            unseen = target.unseen(batch) & keep
            aside.add("target class unseen in training", rows[unseen])
            if unseen.any():
                unseen_class = batch.column(target.columns[0])[int(np.flatnonzero(unseen)[0])].as_py()
            keep &= ~unseen
        if not keep.all():
            batch, rows, arrays = _filtered(batch, rows, arrays, keep)
        with rows_counted(self._sources[rows]):
            targets, keep = self._targets(batch)
        if not keep.all():
            aside.add("target cannot be read", rows[~keep])
            batch, rows, arrays = _filtered(batch, rows, arrays, keep)
        with rows_counted(self._sources[rows]):
            weight = self._preparation.weights(batch)
        if self.factors is not None:
            weight = self.factors[rows] if weight is None else weight * self.factors[rows]
        return _Slice(arrays, targets, weight, rows, aside, unknown, unseen_class)

    def _targets(self, batch: pa.RecordBatch) -> tuple[dict[str, Array], np.ndarray]:
        """Return the targets of the rows whose target can be read, and which these are."""
        keep = np.ones(batch.num_rows, dtype=bool)
        target = self._preparation.target
        if target is None:
            return {}, keep
        try:
            return target.apply(batch), keep
        except DataError:
            keep = ~target.bad(batch)
            if keep.all():
                raise
            return target.apply(batch.filter(pa.array(keep))), keep

    def _append(self, made: _Slice) -> None:
        for reason, rows in made.aside.rows.items():
            self.aside.add(reason, rows)
        self._preparation.count_unknown(made.unknown)
        if made.unseen_class is not None and not self._unseen_classes and (target := self._preparation.target) is not None:
            known = ", ".join(map(repr, target.spec.classes[:10]))
            what = f"where one is another spelling, say so: data.spellings={{{target.columns[0]}: {{'{made.unseen_class}': CLASS}}}}"
            self._unseen_classes = [f"a row has the class {made.unseen_class!r}", f"training knew {known}", what]
        if self._writer is None:
            self._writer = self._open(made.arrays, made.targets, weighted=made.weight is not None)
        self._written += len(made.rows)
        everything: dict[str, Array] = {**made.arrays, **made.targets}
        self._writer.append(everything if made.weight is None else {**everything, "weight": made.weight}, self._sources[made.rows])

    def _open(self, arrays: Mapping[str, Array], targets: Mapping[str, Array], *, weighted: bool) -> PreparedWriter:
        from deepseek.data.prepared import PreparedWriter, layout_of

        layout = layout_of(arrays, targets, weighted=weighted)
        ragged = [array for array in (*arrays.values(), *targets.values()) if isinstance(array, Ragged)]
        ragged_bytes = sum((array.values.nbytes + array.offsets.nbytes) / max(len(array.offsets) - 1, 1) for array in ragged)
        rows, inputs = len(self._sources), self._preparation.inputs
        return PreparedWriter(self._folder, layout, inputs=inputs, rows=rows, ragged_bytes=ragged_bytes)

    def _arrays(self, batch: pa.RecordBatch, rows: np.ndarray, passed: int, aside: Aside) -> tuple[dict[str, Array], np.ndarray]:
        """Return the arrays of a slice, and which of its rows could be read."""
        keep = np.ones(batch.num_rows, dtype=bool)
        arrays: dict[str, Array] = {}
        for transform in self._preparation.transforms:
            try:
                arrays |= transform.apply_training(batch, passed) if self._training else transform.apply(batch)
            except DataError:
                bad = transform.bad(batch)
                if not bad.any():
                    raise
                aside.add(f"{transform.name} cannot be read", rows[bad & keep])
                keep &= ~bad
                arrays |= {name: _scatter(array, ~bad) for name, array in transform.apply(batch.filter(pa.array(~bad))).items()}
        return arrays, keep


def _filtered(
    batch: pa.RecordBatch, rows: np.ndarray, arrays: Mapping[str, Array], keep: np.ndarray
) -> tuple[pa.RecordBatch, np.ndarray, dict[str, Array]]:
    return batch.filter(pa.array(keep)), rows[keep], {name: _keep(array, keep) for name, array in arrays.items()}


def _keep(array: Array, keep: np.ndarray) -> Array:
    if isinstance(array, np.ndarray):
        kept: np.ndarray = array[keep]
        return kept
    lengths = np.diff(array.offsets)
    return Ragged(array.values[np.repeat(keep, lengths)], np.concatenate([[0], np.cumsum(lengths[keep])]))


def _scatter(array: Array, places: np.ndarray) -> Array:
    """Return an array with a row for each place: those given where it is true, nothing elsewhere."""
    if isinstance(array, np.ndarray):
        out = np.zeros((len(places), *array.shape[1:]), dtype=array.dtype)
        out[places] = array
        return out
    lengths = np.zeros(len(places), dtype=np.int64)
    lengths[places] = np.diff(array.offsets)
    return Ragged(array.values, np.concatenate([[0], np.cumsum(lengths)]))
