"""What arrives: rows of files in order, and batches of what can be used of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek import progress as display
from deepseek.data.batch import Batch, labelled_pieces
from deepseek.data.landing import LandedTable, land
from deepseek.data.preparation import Aside, Preparation
from deepseek.data.sources import open_source
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import ColumnError, DataError, UnknownNameError
from deepseek.pipeline.preparing.sources import source_of
from deepseek.recipe import Recipe
from deepseek.registry import family

READ_ROWS = 8_192


def rows_in_order(
    recipe: Recipe, sources: Sequence[Any], *, texts: Sequence[str], time: str | None, work: Path
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of sources through the recipe's checks, by a column of times where one is named, else as they come.

    Args:
        recipe: The recipe; rows that its checks set aside are counted in a warning.
        sources: The oldest first.
        texts: Columns to be read as text.
        time: The column, or nothing.
        work: A folder for the tables meanwhile.
    """
    tables = []
    for place, spec in enumerate(sources):
        opened = (source_of(recipe, spec) if spec is recipe.data.source else open_source(spec)).as_text(texts)
        checks = [family("check").build(check) for check in recipe.data.checks]
        for check in checks:
            check.folder = recipe.folder
        table = land(opened, checks, work / str(place), max_rejected=recipe.data.max_rejected)
        if lost := table.counts.read - table.counts.kept:
            display.warn(f"{lost} of {table.counts.read} rows of the stream were set aside by checks")
        tables.append(table)
    if time is None:
        return (batch for table in tables for batch in table.batches(batch_rows=READ_ROWS))
    return _by_time(tables, time)


def _by_time(tables: Sequence[LandedTable], name: str) -> Iterator[pa.RecordBatch]:
    for table in tables:
        if name not in table.schema.names:
            raise UnknownNameError("column of times", name, table.schema.names)
    whole = pa.concat_tables([pa.Table.from_batches(table.batches(), table.schema) for table in tables], promote_options="permissive")
    column = whole.column(name)
    if column.null_count:
        raise DataError(f"{column.null_count:,} rows have no {name!r}", hint="set them aside with a check: {type: required, column: …}")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        moments = column.to_numpy()
    else:
        read = pa.chunked_array([read_timestamps(part) for part in column.chunks], pa.timestamp("us"))
        if read.null_count:
            raise DataError(f"{read.null_count:,} values of {name!r} are no points in time", hint="write times as 2025-04-03 14:30:00")
        moments = read.to_numpy()
    order = np.argsort(moments, kind="stable")
    for start in range(0, len(order), READ_ROWS):
        yield from whole.take(pa.array(order[start : start + READ_ROWS])).combine_chunks().to_batches()


def batches_of(
    preparation: Preparation, rows: Iterable[pa.RecordBatch], size: int, *, counts: Counter[str]
) -> Iterator[tuple[pa.RecordBatch, Batch]]:
    """Yield rows and what the network is given of them, so many at a time; those that cannot be used are left out and counted.

    Args:
        preparation: The fitted preparation.
        rows: The stream.
        size: The most rows of a batch.
        counts: Is told how many were left out, by reason.

    Raises:
        ColumnError: The rows lack the column of weights.
        DataError: A weight is missing, infinite or negative.
    """
    target = preparation.target
    assert target is not None, "the stream has a target"
    aside = Aside()
    for given, _ in preparation.other_rows(iter(rows), aside=aside):
        if preparation.weight is not None and preparation.weight not in given.schema.names:
            raise ColumnError(
                f"the rows lack the column of weights {preparation.weight!r}, which the model is trained with",
                hint="add it: a column of ones weighs all rows alike",
            )
        unseen = target.unseen(given)
        counts["target class unseen at the beginning"] += int(unseen.sum())
        known = given.filter(pa.array(~unseen)) if unseen.any() else given
        bad = preparation.unreadable(known)
        counts["input cannot be read"] += int(bad.sum())
        known = known.filter(pa.array(~bad)) if bad.any() else known
        for start in range(0, known.num_rows, size):
            part = known.slice(start, size)
            targets, weights = target.apply(part), preparation.weights(part)
            weight = None if weights is None else torch.from_numpy(weights)
            for chosen, inputs, truth in labelled_pieces(preparation.arrays(part), targets):
                if chosen is None:
                    yield part, Batch(inputs, truth, weight)
                else:
                    yield part.take(pa.array(chosen)), Batch(inputs, truth, None if weight is None else weight[chosen])
    counts.update(aside.counts)
