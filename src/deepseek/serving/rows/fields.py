"""One column of a request: what JSON values it takes, and how they become Arrow; the same types that training had."""

from __future__ import annotations

import binascii
import io
import math
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from deepseek.data.columns import is_number, is_text, plain
from deepseek.data.transforms.series_files import holds_series
from deepseek.data.transforms.sound_files import SoundError, decode
from deepseek.data.volumes import read_head_bytes
from deepseek.errors import BundleError, DataError
from deepseek.fields import Field, Kind

LARGEST = float(np.finfo(np.float32).max)
"""Numbers beyond count as infinite: the network computes in float32."""
LARGEST_PIXELS = 50_000_000
LARGEST_VOXELS = 100_000_000
FILE_KINDS = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.VOLUME})
"""What is asked for as files: in base64 within JSON, as they are within forms."""
_WHOLE = 2**63
_MICROSECONDS = pa.timestamp("us")
_STEPS = pa.list_(pa.list_(pa.float64()))
"""A series as it is answered: its steps, each with its values."""

Read = Callable[[Any], Any]


@dataclass(frozen=True)
class FieldReader:
    """Reads one column.

    Attributes:
        name: The column.
        kind: What it holds.
        type: The Arrow type that its values become.
        plain: The Python types that Arrow reads as they are, where `fits` says yes.
        fits: Whether a value of those types is allowed.
        convert: Returns any other value as Arrow reads it.
        allowed: What is allowed, in words.
        schema: The same as JSON Schema.
        example: A value that is right.
        needed: Whether the example stands in for it where a row is made up, as it must not be missing.
    """

    name: str
    kind: Kind
    type: pa.DataType
    plain: frozenset[type]
    fits: Callable[[Any], bool] | None
    convert: Read
    allowed: str
    schema: Mapping[str, Any]
    example: Any = None
    needed: bool = False

    @property
    def direct(self) -> bool:
        """Whether Arrow reads usual values as they are, without a step between."""
        return self.plain != {type(None)} and bool(self.plain)

    def takes(self, values: Sequence[Any]) -> bool:
        """Whether Arrow reads these values as they are, and all of them are allowed."""
        return set(map(type, values)) <= self.plain and (self.fits is None or all(map(self.fits, values)))

    def read(self, values: Sequence[Any]) -> tuple[pa.Array, list[int]]:
        """Return a column, and the rows whose value is not allowed (null there).

        Args:
            values: What JSON gave, row by row.
        """
        if self.takes(values):
            try:
                return pa.array(values, self.type), []
            except (pa.ArrowInvalid, OverflowError):  # a whole number that no float64 holds exactly
                pass
        read: list[Any] = []
        bad: list[int] = []
        for row, value in enumerate(values):
            try:
                read.append(self.convert(value))
            except (ValueError, OverflowError):
                read.append(None)
                bad.append(row)
        return pa.array(read, self.type), bad

    def take(self, column: pa.Array) -> tuple[pa.Array, list[int]]:
        """Return an Arrow column in this column's type, and the rows whose value is not allowed.

        Raises:
            ValueError: The whole column is of a type that is not allowed.
        """
        values = plain(column)
        if self.type == _STEPS:
            if not (pa.types.is_null(values.type) or holds_series(values.type)):
                raise ValueError(str(column.type))
            return self.read(values.to_pylist())
        if values.type == self.type and self.kind is not Kind.NUMBER:
            return values, []
        if not _related(values.type, self):
            raise ValueError(str(column.type))
        try:
            values = values.cast(self.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ValueError(str(column.type)) from None
        if self.kind is not Kind.NUMBER:
            return values, []
        return values, np.flatnonzero(np.abs(values.to_numpy(zero_copy_only=False)) > LARGEST).tolist()


def field_reader(
    field: Field, kind: pa.DataType | None, *, examples: Sequence[Any] = (), optional: bool = True, width: int = 1
) -> FieldReader:
    """Return the reader of a column.

    Args:
        field: The column.
        kind: The Arrow type that it had in training, where that is known.
        examples: Values that training knew, for the description; the first is the example.
        optional: Whether an image, a sound or a series may be missing; every other value may.
        width: Of a series, how many values a step has.

    Raises:
        BundleError: Columns of this kind cannot be asked for over HTTP.
    """
    example = examples[0] if examples else None
    if field.kind is Kind.NUMBER:
        return _number(field, example)
    if field.kind in (Kind.CATEGORY, Kind.BINARY):
        return _category(field, kind, examples)
    if field.kind is Kind.TEXT:
        return _text(field, "text", "a text" if example is None else example)
    if field.kind is Kind.TIMESTAMP:
        return _timestamp(field, kind)
    if field.kind in FILE_KINDS:
        return _file_field(field, optional=optional)
    if field.kind is Kind.TAGS:
        return _words(field)
    if field.kind is Kind.SERIES:
        if field.shape and kind is not None and pa.types.is_list(kind):
            return _window(field, kind.value_type)
        return _series(field, width, optional=optional)
    raise BundleError(f"the column {field.name!r} is of the kind {field.kind.value!r}, which is not served over HTTP")


def _file_field(field: Field, *, optional: bool) -> FieldReader:
    if field.kind is Kind.AUDIO:
        return _file(field, _as_sound, "a sound file", "a sound file (WAV …) in base64", optional=optional)
    if field.kind is Kind.VOLUME:
        what = f"a NIfTI file of at most {LARGEST_VOXELS:,} voxels"
        return _file(field, _as_volume, what, "a NIfTI file (.nii, .nii.gz) in base64", optional=False)
    what = f"an image file of at most {LARGEST_PIXELS:,} pixels"
    return _file(field, _as_image, what, "an image file (PNG, JPEG, WebP …) in base64", optional=optional)


def _number(field: Field, example: Any) -> FieldReader:
    schema = {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}
    return FieldReader(
        field.name, field.kind, pa.float64(), frozenset({int, float, type(None)}), _fits_float32, _as_float,
        "a finite number within the range of float32, or null", schema, 0.0 if example is None else example,
    )  # fmt: skip


def _category(field: Field, kind: pa.DataType | None, examples: Sequence[Any]) -> FieldReader:
    first = examples[0] if examples else None
    if kind is not None and pa.types.is_boolean(kind):
        return _simple(field, pa.bool_(), bool, "boolean", "true, false or null", [first] if first is not None else [True])
    if kind is not None and pa.types.is_integer(kind):
        reader = _simple(field, pa.int64(), int, "integer", "a whole number or null", examples or [0])
        limits = {"minimum": -_WHOLE, "maximum": _WHOLE - 1}
        return replace(reader, fits=_fits_int64, convert=_as_int, schema={**reader.schema, **limits})
    if kind is not None and is_number(kind):
        return _number(field, first)
    return _text(field, "text", first or "", examples)


def _simple(field: Field, kind: pa.DataType, python: type, name: str, allowed: str, examples: Sequence[Any]) -> FieldReader:
    schema = {"type": [name, "null"], "examples": list(examples)}
    types: frozenset[type] = frozenset((python,)) | {type(None)}
    return FieldReader(field.name, field.kind, kind, types, None, _only(types), allowed, schema, examples[0])


def _text(field: Field, what: str, example: Any, examples: Sequence[Any] = ()) -> FieldReader:
    types: frozenset[type] = frozenset([str, type(None)])
    schema: dict[str, Any] = {"type": ["string", "null"], **({"examples": list(examples)} if examples else {})}
    return FieldReader(field.name, field.kind, pa.string(), types, None, _only(types), f"{what} or null", schema, example)


def _timestamp(field: Field, kind: pa.DataType | None) -> FieldReader:
    if kind is not None and (is_text(kind) or is_number(kind)):
        if is_text(kind):
            return _text(field, "a date or time, written as in training or in ISO 8601,", None)
        return _number(field, None) if pa.types.is_floating(kind) else _category(field, pa.int64(), ())
    schema = {"type": ["string", "null"], "description": "a date, or a date and time, in ISO 8601; without a zone it is UTC"}
    example = "2024-01-31T12:00:00"
    return FieldReader(
        field.name, field.kind, _MICROSECONDS, frozenset({type(None)}), None, _as_time,
        "a date or time in ISO 8601, or null", {**schema, "examples": [example]}, example,
    )  # fmt: skip


def _file(field: Field, read: Callable[[Any], bytes], what: str, description: str, *, optional: bool) -> FieldReader:
    kinds = {"type": ["string", "null"] if optional else "string"}
    schema = {**kinds, "contentEncoding": "base64", "description": description}

    def convert(value: Any) -> bytes | None:
        return None if value is None and optional else read(value)

    return FieldReader(
        field.name, field.kind, pa.binary(), frozenset(), None, convert,
        f"{what}, in base64 within JSON{', or null' if optional else ''}", schema,
    )  # fmt: skip


def _words(field: Field) -> FieldReader:
    schema = {"type": ["array", "null"], "items": {"type": "string"}}

    def fits(value: Any) -> bool:
        return value is None or all(type(word) is str for word in value)

    def convert(value: Any) -> Any:
        if value is not None and (type(value) is not list or not fits(value)):
            raise ValueError
        return value

    types: frozenset[type] = frozenset([list, type(None)])
    allowed = "a list of texts, or null"
    return FieldReader(field.name, field.kind, pa.list_(pa.string()), types, fits, convert, allowed, schema, ["a", "list", "of", "words"])


def _series(field: Field, width: int, *, optional: bool) -> FieldReader:
    """Return the reader of a series: a list of steps, each a number where a step has one value, else a list of `width` numbers."""
    number = {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}
    several = {"type": "array", "items": number, "minItems": width, "maxItems": width}
    kinds: dict[str, Any] = {"type": ["array", "null"] if optional else "array", "items": number if width == 1 else several, "minItems": 1}
    what = "finite numbers" if width == 1 else f"lists of {width} finite numbers"

    def convert(value: Any) -> list[list[float | None]] | None:
        if value is None and optional:
            return None
        if type(value) is not list or not value:
            raise ValueError
        steps = [step if type(step) is list else [step] for step in value]
        if any(len(step) != width for step in steps):
            raise ValueError
        return [[_as_float(one) for one in step] for step in steps]

    return FieldReader(
        field.name, field.kind, _STEPS, frozenset(), None, convert,
        f"a list of {what}, oldest first{', or null' if optional else ''}", kinds,
        [0.0] * 2 if width == 1 else [[0.0] * width] * 2, not optional,
    )  # fmt: skip


def _window(field: Field, kind: pa.DataType) -> FieldReader:
    """Return the reader of a window's column: a list of as many values as the window has steps, oldest first."""
    length = field.shape[0]
    inner = (
        Kind.TIMESTAMP
        if pa.types.is_timestamp(kind)
        else Kind.NUMBER
        if is_number(kind) and not pa.types.is_integer(kind)
        else Kind.CATEGORY
    )
    each = field_reader(replace(field, kind=inner, shape=()), kind)

    def convert(values: Any) -> list[Any] | None:
        if values is None:
            return None
        if not isinstance(values, list) or len(values) != length:
            raise ValueError
        return [each.convert(value) for value in values]

    schema = {"type": ["array", "null"], "items": each.schema, "minItems": length, "maxItems": length}
    return FieldReader(
        field.name, field.kind, pa.list_(each.type), frozenset(), None, convert,
        f"a list of {length} values, oldest first, each {each.allowed}", schema, [each.example] * length,
    )  # fmt: skip


def _only(types: frozenset[type]) -> Read:
    def convert(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError
        return value

    return convert


def _fits_float32(value: Any) -> bool:
    return value is None or -LARGEST <= value <= LARGEST


def _fits_int64(value: Any) -> bool:
    return value is None or -_WHOLE <= value < _WHOLE


def _as_float(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _fits_float32(value):
        raise ValueError
    return float(value)


def _as_int(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # 1.0 is a whole number in JSON
        value = int(value)
    if type(value) is not int or not _fits_int64(value):
        raise ValueError
    return value


def _as_time(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - the caller takes one kind of error
    moment = datetime.fromisoformat(value)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _as_image(value: Any) -> bytes:
    """Return the file's bytes; whether it is an image, and how large, is read from its head before anything is decoded."""
    data = _as_bytes(value)
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError from error
    if width * height > LARGEST_PIXELS:
        raise ValueError
    return data


def _as_sound(value: Any) -> bytes:
    """Return the file's bytes, once they have been decoded: what a request cannot be answered for is said before it waits for others."""
    data = _as_bytes(value)
    try:
        decode(data)
    except SoundError as error:
        raise ValueError from error
    return data


def _as_volume(value: Any) -> bytes:
    """Return the file's bytes, once its head says that it is a volume, and how large."""
    data = _as_bytes(value)
    try:
        size = read_head_bytes(data).size
    except DataError as error:
        raise ValueError from error
    if math.prod(size) > LARGEST_VOXELS:
        raise ValueError
    return data


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            value = b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError from error
    if not isinstance(value, bytes):
        raise ValueError  # noqa: TRY004 - the caller takes one kind of error
    return value


def _related(kind: pa.DataType, reader: FieldReader) -> bool:
    """Whether Arrow values of a type can be meant for a column: a path for a file, or a number for a text, is not."""
    if pa.types.is_null(kind):
        return reader.kind not in FILE_KINDS
    if pa.types.is_list(reader.type):
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
    if reader.type == pa.float64():
        return is_number(kind) or bool(pa.types.is_boolean(kind))
    if reader.type == pa.int64():
        return is_number(kind)
    if reader.type == pa.bool_():
        return bool(pa.types.is_boolean(kind))
    if reader.type == pa.string():
        return is_text(kind)
    if reader.type == pa.binary():
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
