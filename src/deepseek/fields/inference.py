"""What the columns of a table are, told from their values, each with the reason in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.errors import DataError, UnknownNameError
from deepseek.fields.field import Field, Kind, Schema, parse_kind
from deepseek.fields.timestamps import COMPACT, forms_of, is_compact

TargetKind = Literal["binary", "classes", "labels", "values", "mask", "boxes", "tokens", "tags", "features"]
"""The kinds of target that tasks are for; each has a class of its own under `data.targets`."""

MAX_CATEGORIES = 1_000
MAX_CLASSES = 20
MANY = "many for a category"
"""How the reason ends where a column of names is taken for a category although few of them come again."""
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no space between words, for a set in a regular expression."""
_LOOK = 2_000
_ID_NAME = re.compile(r"(?:^|_)(?:id|uuid|guid|key|index|rowid)$|[a-z](?:Id|ID|Uuid)$|^unnamed: ?0$", re.IGNORECASE)
_PLAIN_KINDS = (
    (pa.types.is_boolean, Kind.BINARY, "booleans"),
    (pa.types.is_duration, Kind.NUMBER, "of type {}, in seconds"),
    (pa.types.is_time, Kind.NUMBER, "of type {}, in seconds"),
    (pa.types.is_temporal, Kind.TIMESTAMP, "of type {}"),
    (pa.types.is_binary, Kind.IMAGE, "encoded bytes"),
    (pa.types.is_large_binary, Kind.IMAGE, "encoded bytes"),
    (pa.types.is_null, Kind.CATEGORY, "empty"),
)
_UUID = r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"
NAMES_NO_FILE = b"deepseek.names_no_file"
"""The key of a column's Arrow metadata that says: what stands there may end as a file's name does, but no such file is there."""
_IMAGE = r"(?i)\.(jpe?g|png|bmp|gif|tiff?|webp)$"
_AUDIO = r"(?i)\.(wav|flac|ogg|mp3)$"
_VOLUME = r"(?i)\.(nii|nii\.gz|dcm)$"
_SERIES = r"(?i)\.(npy|csv)$"
_FILES = ((_IMAGE, Kind.IMAGE, "image"), (_AUDIO, Kind.AUDIO, "audio"), (_VOLUME, Kind.VOLUME, "volume"), (_SERIES, Kind.SERIES, "series"))
_BOX_NAMES = [
    {"left", "top"},
    {"x1", "y1", "x2", "y2"},
    {"xmin", "ymin", "xmax", "ymax"},
    {"x", "y", "width", "height"},
    {"x", "y", "w", "h"},
]
_PICTURES = frozenset({Kind.IMAGE, Kind.VOLUME, Kind.MASK})


@dataclass(frozen=True)
class Profile:
    """What a look at one column found.

    Attributes:
        kind: What the column holds.
        reason: Why, in words.
        rows: How many values were looked at.
        nulls: How many of them are missing.
        unique: How many different values there are, the missing one not counted.
        constant: Whether nothing can be learned from it: all values are the same, or all are missing.
        shape: The shape of one value; empty for a scalar and where it varies.
    """

    kind: Kind
    reason: str
    rows: int
    nulls: int
    unique: int
    constant: bool
    shape: tuple[int, ...] = ()


def infer_schema(sample: pa.Table, target: Sequence[str] = (), *, kinds: Mapping[str, str] | None = None) -> tuple[Schema, dict[str, str]]:
    """Return what each column of a table is, and why.

    Args:
        sample: Training rows.
        target: The columns to be predicted; a target is never an id.
        kinds: What the user says of some columns; that goes before.

    Raises:
        UnknownNameError: A column or a kind does not exist.
        DataError: A column is of a type that no kind can hold.

    Example:
        >>> schema, why = infer_schema(pa.table({"age": [31, 44, 31, 27]}))
        >>> schema["age"].kind.value, why["age"]
        ('number', 'integers')
    """
    said = dict(kinds or {})
    for name in (*said, *target):
        if name not in sample.column_names:
            raise UnknownNameError("column", name, sample.column_names)
    fields, reasons = [], {}
    for name, column in zip(sample.column_names, sample.columns, strict=True):
        if name in said:
            kind, reason, shape = parse_kind(said[name]), "given", _shape_of(column.type)
        elif name in target and _is_lists_of_numbers(column.type):
            kind, reason, shape = Kind.BOXES, "a target of lists of numbers", ()
        else:
            metadata = sample.schema.field(name).metadata or {}
            found = profile(column, name, names_files=NAMES_NO_FILE not in metadata)
            kind, reason, shape = found.kind, found.reason, found.shape
            if kind is Kind.ID and name in target:
                kind, reason = _value_kind(column.type), f"a target, though it looks like an id ({reason})"
            elif kind in _PICTURES and name in target:
                kind, reason = Kind.MASK, f"a target ({reason}): a class for each place in it"
        fields.append(Field(name, kind, column.null_count > 0, shape))
        reasons[name] = reason
    return Schema(tuple(fields), tuple(target)), reasons


def infer_kind(column: pa.ChunkedArray, name: str) -> tuple[Kind, str]:
    """Return what a column is, and why."""
    found = profile(column, name)
    return found.kind, found.reason


def profile(column: pa.ChunkedArray, name: str, *, names_files: bool = True) -> Profile:
    """Look at one column.

    Args:
        column: The column.
        name: Its name.
        names_files: Whether texts that end as files of images or audio do are paths of such.

    Raises:
        DataError: No kind can hold its type.
    """
    column = plain_column(column)
    kind = column.type
    nested = _nested_kind(kind, name)
    rows, nulls = len(column), column.null_count
    unique = 0 if nulls == rows else rows if nested or pa.types.is_binary(kind) else pc.count_distinct(column, mode="only_valid").as_py()
    if nested is not None:
        found, reason = nested
        constant = nulls == rows
    else:
        found, reason = _scalar_kind(column.drop_null(), name, unique, names_files=names_files)
        constant = unique <= 1 and (unique == 0 or nulls == 0)
    if nulls == rows:
        reason = f"empty: no value in {rows:,} rows"
    elif constant:
        reason = f"constant: every value is {column[0].as_py()!r}"
    return Profile(found, reason, rows, nulls, unique, constant, _shape_of(kind))


def target_kind(column: pa.ChunkedArray, field: Field) -> tuple[TargetKind, str]:
    """Return what there is to predict, and why: one of two classes, of several, any number of labels, or a value.

    Args:
        column: The target's training values.
        field: What the column is; a kind that the user gave decides.

    Raises:
        DataError: The target has no value, only one, or is of a type that cannot be predicted.
    """
    if field.kind is Kind.MASK:
        return "mask", "a class for each place in a picture"
    if field.kind is Kind.BOXES:
        return "boxes", "each row has a list of boxes"
    values = plain_column(column).drop_null()
    if is_span_list(values.type):
        return "tags", "each row has a list of spans"
    if pa.types.is_list(values.type):
        return "labels", "each row has a list"
    if not len(values):
        raise DataError(f"the target {field.name!r} has no value", hint="choose another column")
    if isinstance(values.type, pa.FixedShapeTensorType):
        flat = np.concatenate([chunk.to_numpy_ndarray().reshape(len(chunk), -1) for chunk in values.chunks])
        if flat.shape[1] > 1:
            return ("labels", "a vector of zeros and ones") if np.isin(flat, (0, 1)).all() else ("values", "a vector of numbers")
        values = pa.chunked_array([pa.array(flat[:, 0])])
    unique = pc.unique(values)
    if len(unique) < 2:
        raise DataError(f"every row has the same target {field.name!r}: {unique[0].as_py()!r}", hint="there is nothing to learn")
    return _class_or_value(unique, field, len(values))


def _class_or_value(unique: pa.Array, field: Field, rows: int) -> tuple[TargetKind, str]:
    kind, many = unique.type, len(unique)
    if many == 2:
        return "binary", "two different values"
    if field.kind is Kind.CATEGORY or pa.types.is_string(kind):
        return "classes", f"{many} different names"
    if pa.types.is_floating(kind) and pc.any(pc.not_equal(pc.floor(unique), unique)).as_py():
        return "values", "numbers with fractions"
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"the target {field.name!r} is of type {kind}", hint="a target is numbers, names or lists of names")
    span = pc.min_max(unique).as_py()
    if many <= min(MAX_CLASSES, rows // 2) and span["max"] - span["min"] < 2 * many:
        return "classes", f"{many} different whole numbers, close together"
    return "values", f"{many} different whole numbers"


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column's values without a dictionary, texts as `string`."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain_column(column.cast(kind.value_type))
    return column.cast(pa.string()) if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else column


def _shape_of(kind: pa.DataType) -> tuple[int, ...]:
    if isinstance(kind, pa.FixedShapeTensorType):
        return tuple(kind.shape)
    return (kind.list_size,) if pa.types.is_fixed_size_list(kind) else ()


def is_numeric(kind: pa.DataType) -> bool:
    """Whether values are numbers: whole, with fractions or decimal."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _value_kind(kind: pa.DataType) -> Kind:
    return Kind.NUMBER if is_numeric(kind) else Kind.CATEGORY


def is_span_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists of stretches of a text, each with `start`, `end` and `label`."""
    inner = getattr(kind, "value_type", None)
    return inner is not None and pa.types.is_struct(inner) and {field.name for field in inner} == {"start", "end", "label"}


def _nested_kind(kind: pa.DataType, name: str) -> tuple[Kind, str] | None:
    """Return what a column of arrays or lists is; nothing for scalars."""
    if isinstance(kind, pa.FixedShapeTensorType):
        shape = tuple(kind.shape)
        if pa.types.is_uint8(kind.value_type) and len(shape) in {2, 3} and min(shape) > 0:
            return Kind.IMAGE, f"arrays of bytes of shape {shape}"
        if len(shape) == 3 or (len(shape) == 4 and 1 in shape):
            return (Kind.IMAGE if min(shape[0], shape[-1]) <= 4 else Kind.VOLUME), f"arrays of shape {shape}"
        return Kind.SERIES, f"arrays of shape {shape}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if is_numeric(inner) or _is_lists_of_numbers(kind):
            return Kind.SERIES, "lists of numbers" if is_numeric(inner) else "lists of lists of numbers"
        if pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_null(inner):
            return Kind.TAGS, "lists of names"
        if pa.types.is_struct(inner) and any({field.name for field in inner} >= names for names in _BOX_NAMES):
            return Kind.BOXES, "lists of boxes"
        if is_span_list(kind):
            return Kind.TAGS, "lists of spans"
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        raise DataError(
            f"the column {name!r} is of type {kind}, which no kind of column can hold", hint="flatten it into columns of plain values"
        )
    return None


def _is_lists_of_numbers(kind: pa.DataType) -> bool:
    """Whether a row is a list of lists of numbers: as a target, boxes by their four edges."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    return inner is not None and (pa.types.is_list(inner) or pa.types.is_fixed_size_list(inner)) and is_numeric(inner.value_type)


def _scalar_kind(values: pa.ChunkedArray, name: str, unique: int, *, names_files: bool) -> tuple[Kind, str]:
    kind = values.type
    for holds, found, reason in _PLAIN_KINDS:
        if holds(kind):
            return found, reason.format(kind)
    if pa.types.is_string(kind):
        return _text_kind(values, unique, names_files=names_files)
    if is_numeric(kind):
        if unique == 2:
            return Kind.BINARY, "two different numbers"
        if pa.types.is_integer(kind):
            return _integer_kind(values, name, unique)
        return Kind.NUMBER, "numbers"
    raise DataError(f"the column {name!r} is of type {kind}, which no kind of column can hold", hint="cast it, or leave it out")


def _integer_kind(values: pa.ChunkedArray, name: str, unique: int) -> tuple[Kind, str]:
    if unique == len(values) >= 10:
        if _ID_NAME.search(name):
            return Kind.ID, "different in every row, and named like an id"
        steps = np.diff(values.to_numpy().astype(np.float64))
        if len(steps) >= 99 and ((steps == 1).all() or (steps == -1).all()):
            return Kind.ID, "it counts the rows"
    if is_compact(values.slice(0, _LOOK).combine_chunks()):
        return Kind.TIMESTAMP, f"whole numbers that read as dates, {COMPACT}"
    return Kind.NUMBER, "integers"


def _text_kind(values: pa.ChunkedArray, unique: int, *, names_files: bool) -> tuple[Kind, str]:
    rows = len(values)
    look = values.slice(0, _LOOK).combine_chunks()
    for pattern, kind, what in _FILES:
        if rows and names_files and pc.all(pc.match_substring_regex(look, pattern)).as_py():
            return kind, f"paths of {what} files"
    if unique == 2:
        return Kind.BINARY, "two different names"
    read = _parsed_kind(look, unique) if rows else None
    return read or _word_kind(look, rows, unique)


def _parsed_kind(look: pa.Array, unique: int) -> tuple[Kind, str] | None:
    """Return what text is that spells something else: points in time or numbers."""
    forms = forms_of(look)
    if forms:
        return Kind.TIMESTAMP, f"text that reads as {' or '.join(forms)}"
    if unique > MAX_CLASSES and _all_numbers(look) and not _has_codes(look):
        return Kind.NUMBER, "text that reads as numbers throughout; give the source the column's type to be sure"
    return None


def _word_kind(look: pa.Array, rows: int, unique: int) -> tuple[Kind, str]:
    """Tell ids, free text and categories apart by how many words a value has, how they are written, and how often values come again."""
    words = _words(look)
    share = unique / rows if rows else 0.0
    different = f"{words:.1f} words a value on average, {share:.0%} of them different"
    if share > 0.9 and rows >= 10 and pc.all(pc.match_substring_regex(look, _UUID)).as_py():
        return Kind.ID, "universally unique identifiers"
    if unique == rows >= 10 and words < 1.1:
        return Kind.ID, "one word, different in every row"
    if (words >= 5 and share > 0.2) or (words >= 10 and unique > 100):
        return Kind.TEXT, different
    if unique <= MAX_CATEGORIES and (share <= 0.5 or unique <= MAX_CLASSES):
        return Kind.CATEGORY, f"{unique:,} different names in {rows:,} rows"
    if words >= 2.5 and share > 0.5 and not _are_names(look):
        return Kind.TEXT, different
    if share > 0.9 and rows >= 10 and words >= 1.5:
        return Kind.ID, f"names of {words:.1f} words on average, {share:.0%} of them different"
    return Kind.CATEGORY, f"{unique:,} different names in {rows:,} rows, {MANY}"


def _words(look: pa.Array) -> float:
    """Return how many words a value has on average; where words are not set apart, two characters count as one."""
    if not len(look):
        return 0.0
    unspaced = pc.count_substring_regex(look, f"[{UNSPACED}]").to_numpy()
    return float(np.mean(np.maximum(pc.count_substring(look, " ").to_numpy() + 1, unspaced / 2)))


def _are_names(look: pa.Array) -> bool:
    """Whether at most a third of the words begin with a small letter, or with one of a script that knows no capitals."""
    small = pc.sum(pc.count_substring_regex(look, r"(^|\s)[\p{Ll}\p{Lo}]")).as_py()
    return bool(3 * small <= pc.sum(pc.count_substring_regex(look, r"(^|\s)\S")).as_py())


def _all_numbers(look: pa.Array) -> bool:
    """Whether every text can be read as a number: by the reader of number columns itself, so that the two never disagree."""
    if not pc.any(pc.match_substring_regex(look, "[0-9]")).as_py():
        return False  # words that floats have: nan, inf
    try:
        pc.utf8_trim_whitespace(look).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _has_codes(look: pa.Array) -> bool:
    """Whether digits are a code rather than a number: a leading zero, a telephone number, or more than 64 bits."""
    return bool(pc.any(pc.match_substring_regex(look, r"^(0[0-9]|\+[0-9]{6}|[0-9]{18})")).as_py())
