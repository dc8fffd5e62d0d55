"""Hugging Face `datasets` as Arrow tables: labels by their names, images as bytes or paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.sources.base import SPLITS
from deepseek.data.sources.files import is_file_struct
from deepseek.errors import DataError


def is_dataset(value: object) -> bool:
    """Whether a value is a `Dataset`."""
    return hasattr(value, "with_format") and hasattr(value, "features") and hasattr(value, "num_rows")


def is_dataset_dict(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a `DatasetDict`."""
    return isinstance(value, Mapping) and bool(value) and all(is_dataset(item) for item in value.values())


def refuse_streams(value: object) -> None:
    """Say of an `IterableDataset` what to do with it.

    Raises:
        DataError: It is one, or a mapping of some.
    """
    parts: Iterable[object] = value.values() if isinstance(value, Mapping) else [value]
    if any(hasattr(part, "with_format") and hasattr(part, "take") and not hasattr(part, "num_rows") for part in parts):
        raise DataError(
            f"a streamed {type(value).__name__} cannot be split: it has no length and may change between two passes",
            hint="load it without streaming=True, or take rows: Dataset.from_list(list(stream.take(100_000)))",
        )


def dataset_table(dataset: Any) -> pa.Table:
    """Return a dataset's rows: a `ClassLabel` is its name (missing where it is -1), an `Image` its bytes, or its path where that is all."""
    # The format applies the indices of a shuffled or filtered dataset, which its bare table does not know.
    table: pa.Table = dataset.with_format("arrow")[:]
    return named_rows(table, dataset.features, paths=_only_paths(table))


def only_paths(dataset: Any) -> frozenset[str]:
    """Return the columns of files of which a dataset, memory-mapped, holds the paths and no bytes at all."""
    return _only_paths(dataset.data.table)


def _only_paths(table: pa.Table) -> frozenset[str]:
    files = [field.name for field in table.schema if is_file_struct(field.type)]
    return frozenset(name for name in files if pc.struct_field(table.column(name), "bytes").null_count == table.num_rows)


def named_rows(table: pa.Table, features: Any, *, paths: frozenset[str]) -> pa.Table:
    """Return rows of a dataset with labels by their names.

    Args:
        table: The rows, as the dataset's Arrow format gives them.
        features: What the dataset says of its columns.
        paths: The columns of files that are given by their paths.
    """
    known = features if isinstance(features, Mapping) else {}
    for place, name in enumerate(table.column_names):
        column = table.column(name)
        feature: Any = known.get(name)
        if hasattr(feature, "int2str"):
            table = table.set_column(place, name, _names(column, feature.names))
        elif hasattr(inner := getattr(feature, "feature", feature), "int2str") and pa.types.is_list(column.type):
            lists = [_named_lists(chunk, inner.names) for chunk in column.chunks]
            table = table.set_column(place, name, pa.chunked_array(lists, pa.list_(pa.string())))
        elif name in paths:
            table = table.set_column(place, name, pc.struct_field(column, "path"))
    return table


def _named_lists(lists: Any, names: list[str]) -> Any:
    # `flatten` and offsets of its own, since `values` and `offsets` of a slice are those of the whole
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _names(lists.flatten(), names), mask=lists.is_null())


def splits_table(splits: Mapping[str, Any]) -> pa.Table:
    """Return the rows of all splits, with the column `split`.

    Raises:
        DataError: A split's name is none that is known, or splits have other columns than the first.
    """
    tables = []
    for name, dataset in splits.items():
        if name not in SPLITS:
            raise DataError(f"a split is called {name!r}", hint=f"allowed: {', '.join(SPLITS)}; hand in one of the datasets instead")
        table = dataset_table(dataset)
        tables.append(table.append_column("split", pa.array([SPLITS[name]] * table.num_rows, pa.string())))
    return pa.concat_tables(tables)


def _names(labels: Any, names: list[str]) -> Any:
    return pa.array(names, pa.string()).take(pc.if_else(pc.greater_equal(labels, 0), labels, None))
