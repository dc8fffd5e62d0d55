"""The split: which rows are learned from, which choose between models, and which are only ever measured on.

It is made before anything is learned from any row, and it is a pure function of (content, rules, seed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import as_float64, is_number, is_text, missing, plain, require_columns
from deepseek.data.landing import LandedTable
from deepseek.data.stratify import deal, deal_groups, deal_labels, quantile_bins
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import ColumnError, DataError, InputError

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, -1
NAMES = ("train", "validation", "test")

_SPELLINGS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
}
_FEW_VALUES = 20
_BINS = 10


@dataclass(frozen=True)
class SplitRules:
    """How a table is split.

    Attributes:
        train: The share of the training rows. The three shares add up to 1 or to 100, or are small whole numbers such as 7, 1, 2.
        validation: The share of the validation rows; 0 for none.
        test: The share of the test rows; 0 for none.
        stratify: Whether each part holds each class, label or tenth of the target's range in equal shares. Where not given: yes for
            classes and labels, in a random split or in folds.
        group: A column whose equal values never come into different parts: a patient, a user, a document.
        time: A column to order the rows by: the parts follow each other in time, and rows of one moment stay together.
        column: A column that already says each row's part: `train`, `validation` (`val`, `valid`, `dev`) or `test`.
        folds: For k-fold cross-validation: how many folds, 2 or more. Fold `fold` is the test part, the one after it the validation part
            (none where `validation` is 0), the others train.
        fold: Which fold, from 0.

    Raises:
        InputError: The shares do not add up, or two ways of splitting contradict each other.
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    stratify: bool | None = None
    group: str | None = None
    time: str | None = None
    column: str | None = None
    folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        shares(self.train, self.validation, self.test)
        ways = {"group": self.group, "time": self.time, "column": self.column}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"a split by {' and by '.join(given)} at once was asked for", hint="give one of them")
        if self.stratify and given:
            raise InputError(f"a stratified split by {given[0]} was asked for", hint="leave out stratify, or the other")
        if self.folds is None:
            if self.fold:
                raise InputError(f"fold {self.fold} was asked for without folds", hint="say how many folds there are")
            return
        if given and given[0] != "group":
            raise InputError(f"folds by {given[0]} were asked for", hint="folds go with stratify or group only")
        least = 3 if self.validation else 2
        if self.folds < least or not 0 <= self.fold < self.folds:
            hint = f"folds must be {least} or more (one for validation unless validation: 0), and fold from 0 to folds - 1"
            raise InputError(f"fold {self.fold} of {self.folds} folds was asked for", hint=hint)


def shares(train: float, validation: float, test: float) -> tuple[float, float, float]:
    """Return three shares that add up to 1.

    Args:
        train: Greater than 0.
        validation: 0 or more.
        test: 0 or more; the three add up to 1 or 100, or are whole numbers with a sum of at most 100, as in 7 : 1 : 2.

    Raises:
        InputError: They are negative, or add up to something else.

    Example:
        >>> shares(7, 1, 2)
        (0.7, 0.1, 0.2)
    """
    given = (train, validation, test)
    total = sum(given)
    whole = all(float(share).is_integer() for share in given) and 1 <= total <= 100
    if not (all(share >= 0 for share in given) and train > 0 and (whole or any(abs(total - sum_) <= 1e-6 * sum_ for sum_ in (1, 100)))):
        raise InputError(
            f"the split is given as train={train:g}, validation={validation:g}, test={test:g}, which add up to {total:g}",
            hint="they must add up to 1 or 100, or be whole numbers such as 7, 1 and 2; train must be greater than 0",
        )
    return train / total, validation / total, test / total


def assign_split(table: LandedTable, rules: SplitRules, *, target: Sequence[str], seed: int) -> np.ndarray:
    """Say for each row which part it is in.

    Where the source itself knows the split and the rules name neither a group, a time, a column nor folds, the source's word counts. A
    given split that lacks a part whose share is not 0 has it taken from its training rows, in proportion.

    Args:
        table: The landed table.
        rules: How to split.
        target: The target columns; they decide the strata, and no class may be absent from the training rows.
        seed: Changes which rows go where.

    Returns:
        int8 `[rows]`: 0 train, 1 validation, 2 test, -1 left out (the given column says nothing about the row).

    Raises:
        ColumnError: A column is missing or cannot be split by.
        DataError: A part would be empty, a class would be absent from the training rows, or a group or time is missing.
    """
    require_columns(target, table.schema.names, what="the target")
    wanted = shares(rules.train, rules.validation, rules.test)
    column = rules.column
    if column is None and rules.group is None and rules.time is None and rules.folds is None:
        column = table.given_split
    if column is not None:
        wanted, split = _by_column(table, column, wanted, rules.stratify, target, seed)
    elif rules.time is not None:
        split = _by_time(table, rules.time, wanted)
    elif rules.folds is not None:
        split = _by_fold(table, rules, target, seed)
        wanted = (wanted[0], wanted[1], 1.0)
    else:
        split = _parts(table, rules, wanted, target, seed)
    _refuse_empty(split, wanted)
    _refuse_unseen_classes(table, split, target)
    return split


def inner_folds(
    table: LandedTable, split: np.ndarray, rules: SplitRules, *, target: Sequence[str], folds: int, fold: int, seed: int
) -> np.ndarray:
    """Cut a split's training rows into folds of their own: one is measured on, the others train; test rows are left out.

    So every training row can be judged by a model that has not seen it, while no test row has a say in that. A group stays in one fold,
    classes are dealt evenly; the training rows of a split by time are dealt at random, for they all lie before what is tested.

    Args:
        table: The landed table.
        split: int8 `[rows]`, from `assign_split`.
        rules: How it was split.
        target: The target columns; they decide the strata.
        folds: How many folds, 2 or more.
        fold: Which one, from 0.
        seed: Changes which rows go where.

    Returns:
        int8 `[rows]`: training rows are 0, or 2 where they are in the fold; validation rows stay 1; test rows are -1.

    Raises:
        DataError: There are fewer training rows, or groups of them, than folds.
    """
    rows = np.flatnonzero(split == TRAIN)
    wanted = [1 / folds] * folds
    if rules.group is not None:
        groups = np.unique(_group_codes(table, rules.group)[rows], return_inverse=True)[1]
        fold_of = deal_groups(groups.astype(np.int32), wanted, seed)
    else:
        fold_of = _deal(_strata(table, target, rules.stratify)[rows], wanted, seed, cover=False)
    inner = np.where(split == VALIDATION, np.int8(VALIDATION), np.int8(LEFT_OUT))
    inner[rows] = np.where(fold_of == fold, TEST, TRAIN)
    if not (inner == TEST).any() or not (inner == TRAIN).any():
        raise DataError(
            f"{len(rows):,} training rows cannot be cut into {folds} folds", hint="take fewer folds, or a split by smaller groups"
        )
    return inner


def split_counts(split: np.ndarray) -> dict[str, int]:
    """Return how many rows each part has, `left_out` among them where there are any."""
    counts = {name: int((split == part).sum()) for part, name in enumerate(NAMES)}
    left_out = int((split == LEFT_OUT).sum())
    return {**counts, "left_out": left_out} if left_out else counts


def split_names(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return which part a column that says it itself puts each row in, int8 `[rows]` as `assign_split` has it.

    Args:
        column: The words, `train`, `validation` or `test` in any of their spellings; null for a row that is left out.
        name: The column's name, for the message.

    Raises:
        DataError: A word is none of these.
    """
    encoded = column.dictionary_encode().unify_dictionaries()
    split = np.full(len(column), LEFT_OUT, dtype=np.int8)
    start = 0
    for chunk in encoded.chunks:
        codes = np.asarray(chunk.indices.fill_null(-1))
        parts = np.array([*(_spelled(value, name) for value in chunk.dictionary.to_pylist()), LEFT_OUT], dtype=np.int8)
        split[start : start + len(codes)] = parts[codes]
        start += len(codes)
    return split


def _parts(table: LandedTable, rules: SplitRules, wanted: Sequence[float], target: Sequence[str], seed: int) -> np.ndarray:
    if rules.group is not None:
        return deal_groups(_group_codes(table, rules.group), wanted, seed)
    strata = _strata(table, target, rules.stratify)
    return _deal(strata, wanted, seed, cover=rules.folds is None)


def _by_fold(table: LandedTable, rules: SplitRules, target: Sequence[str], seed: int) -> np.ndarray:
    folds = rules.folds or 0
    fold_of = _parts(table, rules, [1 / folds] * folds, target, seed)
    split = np.full(table.rows, TRAIN, dtype=np.int8)
    split[fold_of == rules.fold] = TEST
    if rules.validation:
        split[fold_of == (rules.fold + 1) % folds] = VALIDATION
    return split


def _deal(strata: np.ndarray, wanted: Sequence[float], seed: int, *, cover: bool = True) -> np.ndarray:
    return deal_labels(strata, wanted, seed) if strata.ndim == 2 else deal(strata, wanted, seed, cover=cover)


def _strata(table: LandedTable, target: Sequence[str], stratify: bool | None) -> np.ndarray:
    """Return class codes `[rows]` or labels `[rows, labels]`; zeros where strata are not wanted or the target has none to offer."""
    strata = None if stratify is False else _target_strata(table, target, required=bool(stratify))
    return np.zeros(table.rows, dtype=np.int32) if strata is None else strata


def _target_strata(table: LandedTable, target: Sequence[str], *, required: bool) -> np.ndarray | None:
    if len(target) == 1:
        column = table.column(target[0])
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return _label_sets(column)
        codes = _class_codes(column, any_count=required)
        if codes is None and required and is_number(column.type):
            return quantile_bins(_floats(column), _BINS)
        if codes is not None or not required:
            return codes
    elif target and all(_is_flag(table.column(name)) for name in target):
        return np.column_stack([_floats(table.column(name)) == 1.0 for name in target])
    if required:
        kinds = ", ".join(f"{name}: {table.schema.field(name).type}" for name in target) or "there is no target"
        raise ColumnError(
            f"a stratified split was asked for, and the target cannot be stratified by ({kinds})",
            hint="allowed: one column of classes, numbers or lists of labels, or several columns of 0 and 1",
        )
    return None


def _class_codes(column: pa.ChunkedArray, *, any_count: bool = False) -> np.ndarray | None:
    """Return each row's class from 0, in the order of first appearance, or nothing where the column holds no classes."""
    if is_number(column.type):
        if pa.types.is_floating(column.type) and pc.any(pc.not_equal(pc.floor(column), column)).as_py():
            return None
        limit = min(_FEW_VALUES, len(column) // 2)  # a class has rows in more than one part
    elif is_text(column.type) or pa.types.is_boolean(column.type):
        limit = len(column) if any_count else max(_FEW_VALUES, len(column) // 10)
    else:
        return None
    if pc.count_distinct(column).as_py() > limit:
        return None
    return _codes(column)


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return each row's value as a code from 0, in the order of first appearance, a missing one being a value like any other."""
    encoded = column.dictionary_encode().unify_dictionaries()  # Arrow unifies none that holds a missing value
    codes = np.concatenate([np.empty(0, dtype=np.int32), *(chunk.indices.fill_null(-1).to_numpy() for chunk in encoded.chunks)])
    absent = np.flatnonzero(codes < 0)
    if len(absent):
        before = int(codes[: absent[0]].max(initial=-1)) + 1
        codes[codes >= before] += 1
        codes[absent] = before
    return codes.astype(np.int32, copy=False)


def _label_sets(column: pa.ChunkedArray) -> np.ndarray:
    names = pc.unique(pc.list_flatten(column))
    sets = np.zeros((len(column), len(names)), dtype=bool)
    start = 0
    for chunk in column.chunks:
        rows = np.asarray(pc.list_parent_indices(chunk)) + start
        known = pc.index_in(pc.list_flatten(chunk), names)
        sets[rows, np.asarray(known)] = True
        start += len(chunk)
    return sets


def _is_flag(column: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(column.type):
        return True
    return is_number(column.type) and set(pc.unique(column.drop_null()).to_pylist()) <= {0, 1}


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([as_float64(plain(chunk)) for chunk in column.chunks]) if column.num_chunks else np.empty(0)


def _group_codes(table: LandedTable, name: str) -> np.ndarray:
    column = _complete(table, name, "group")
    return _codes(column)


def _complete(table: LandedTable, name: str, what: str) -> pa.ChunkedArray:
    require_columns([name], table.schema.names, what=f"the split by {what}")
    column = table.column(name)
    absent = sum(int(missing(chunk).sum()) for chunk in column.chunks)
    if absent:
        raise DataError(
            f"the split by {what} cannot place {absent:,} rows without a value in {name!r}",
            hint=f"set them aside with a check: {{type: required, column: {name}}}",
        )
    return column


def _by_time(table: LandedTable, name: str, wanted: Sequence[float]) -> np.ndarray:
    column = _complete(table, name, "time")
    if is_number(column.type):
        moments = _floats(column) if pa.types.is_floating(column.type) else np.asarray(column.cast(pa.int64()))
    else:
        read = pa.chunked_array([read_timestamps(chunk) for chunk in column.chunks], type=pa.timestamp("us"))
        if read.null_count:
            raise DataError(
                f"the split by time cannot read {read.null_count:,} values of {name!r} as points in time",
                hint="write times as 2025-04-03 or 2025-04-03 14:30:00, or as numbers that grow with time",
            )
        moments = np.asarray(read.cast(pa.int64()))
    rows = len(moments)
    ends = [round(wanted[0] * rows), round((wanted[0] + wanted[1]) * rows)]
    ranked = np.partition(moments, [min(end, rows - 1) for end in ends])
    split = np.zeros(rows, dtype=np.int8)
    for end in ends:
        if end < rows:
            split += moments >= ranked[end]
    return split


def _by_column(
    table: LandedTable, name: str, wanted: tuple[float, float, float], stratify: bool | None, target: Sequence[str], seed: int
) -> tuple[tuple[float, float, float], np.ndarray]:
    require_columns([name], table.schema.names, what="the split by column")
    split = split_names(table.column(name), name)
    absent = [share if not (split == part).any() else 0.0 for part, share in enumerate(wanted)]
    if absent[TRAIN] or not any(absent):
        return wanted, split
    rows = np.flatnonzero(split == TRAIN)
    total = wanted[TRAIN] + sum(absent)
    strata = _strata(table, target, stratify)[rows]
    split[rows] = _deal(strata, [wanted[TRAIN] / total, absent[VALIDATION] / total, absent[TEST] / total], seed)
    return wanted, split


def _spelled(value: object, column: str) -> int:
    text = str(value).strip().casefold()
    if text not in _SPELLINGS:
        raise DataError(
            f"the column {column!r} gives {value!r} as a row's part of the split", hint=f"allowed: {', '.join(_SPELLINGS)}, or nothing"
        )
    return _SPELLINGS[text]


def _refuse_empty(split: np.ndarray, wanted: Sequence[float]) -> None:
    for part, name in enumerate(NAMES):
        if wanted[part] and not (split == part).any():
            counts = ", ".join(f"{key} {count:,}" for key, count in split_counts(split).items())
            raise DataError(
                f"the {name} part of the split is empty ({counts})",
                hint=f"give more rows, or other shares ({name}: 0 for none), or split by something with more different values",
            )


def _refuse_unseen_classes(table: LandedTable, split: np.ndarray, target: Sequence[str]) -> None:
    for name in target:
        column = table.column(name)
        codes = _class_codes(column)
        if codes is None or not len(codes):
            continue
        known = np.zeros(codes.max() + 1, dtype=bool)
        known[codes[split == TRAIN]] = True
        unseen = np.flatnonzero(~known[codes] & (split > TRAIN))
        rows = unseen[np.unique(codes[unseen], return_index=True)[1]]
        values = [value for value in (column[int(row)].as_py() for row in rows) if value is not None]
        if values:
            raise DataError(
                f"no training row has {name!r} = {', '.join(map(repr, values[:10]))}, which other parts of the split hold",
                hint="stratify the split, take more training rows, or set those rows aside with a check",
            )
