"""The narrowest type that holds every value of a column of text, found in one pass and never taken back.

Types only widen: nothing known yet → boolean, integer → float, or timestamp → text. So the type that a whole pass ends with holds
for every row, which a guess from the first block does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TRUE, _FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
_NAIVE, _ZONED = pa.timestamp("us"), pa.timestamp("us", "UTC")
_LADDER: dict[pa.DataType, tuple[pa.DataType, ...]] = {
    pa.null(): (pa.bool_(), pa.int64(), pa.float64(), _NAIVE, _ZONED),
    pa.bool_(): (pa.bool_(),),
    pa.int64(): (pa.int64(), pa.float64()),
    pa.float64(): (pa.float64(),),
    _NAIVE: (_NAIVE,),
    _ZONED: (_ZONED,),
    pa.string(): (),
}
TRUE_VALUES, FALSE_VALUES = tuple(_TRUE), tuple(_FALSE)
_Edges = tuple[np.ndarray, np.ndarray, np.ndarray]
_AFTER_ZERO = np.isin(np.arange(256), np.frombuffer(b".,eE", np.uint8))


class ColumnType:
    """What one column's type must be, given every value seen so far.

    Codes stay text: digits with a leading zero (`01234`), telephone numbers, and integers beyond 64 bits.

    Args:
        nulls: The spellings of a missing value; they are already null where nothing stands around them.
        decimal_point: `.` or `,`.
        strip: Whether spaces around a value are left out.
    """

    def __init__(self, nulls: Sequence[str], *, decimal_point: str = ".", strip: bool = True) -> None:
        self.type: pa.DataType = pa.null()
        self.padded = False
        self._nulls, self._decimal, self._strip = nulls, decimal_point, strip

    def observe(self, values: pa.Array) -> None:
        """Look at a batch of text values."""
        if self.padded and self.type == pa.string():
            return
        edges = _edges(values)
        if self._strip and not self.padded and _padded(values, edges):
            self.padded = True
        if self.type == pa.string():
            return
        if self.padded:
            values = trimmed(values, self._nulls)
            edges = _edges(values)
        if values.null_count == len(values):
            return
        ladder = _LADDER[self.type]
        self.type = next((kind for kind in ladder if _fits(values, kind, self._decimal, edges)), pa.string())


def trimmed(values: pa.Array, nulls: Sequence[str]) -> pa.Array:
    """Return the values without the spaces around them, null where then nothing but a missing value is left."""
    bare = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(bare, pa.array(nulls, pa.string())), pa.scalar(None, pa.string()), bare)


def converted(values: pa.Array, kind: pa.DataType, decimal_point: str = ".") -> pa.Array:
    """Return text values as another type.

    Raises:
        pa.ArrowInvalid: One of them cannot be.
    """
    if pa.types.is_boolean(kind):
        true = pc.is_in(values, pa.array(_TRUE))
        known = pc.or_(true, pc.is_in(values, pa.array(_FALSE)))
        if not pc.all(pc.or_(known, pc.is_null(values))).as_py():
            raise pa.ArrowInvalid("a value is neither true nor false")
        return pc.if_else(pc.is_null(values), pa.scalar(None, pa.bool_()), true)
    if pa.types.is_null(kind):
        return pa.nulls(len(values))
    if decimal_point == "," and pa.types.is_floating(kind):
        values = pc.replace_substring(values, ",", ".")
    return pc.cast(values, kind)


def _fits(values: pa.Array, kind: pa.DataType, decimal_point: str, edges: _Edges) -> bool:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if _coded(values, edges):
            return False
        if pa.types.is_floating(kind) and (
            _beyond_int64(values, edges) or (decimal_point == "," and pc.any(pc.match_substring(values, ".")).as_py())
        ):
            return False
    try:
        converted(values, kind, decimal_point)
    except pa.ArrowInvalid:
        return False
    return True


def _edges(values: pa.Array) -> _Edges:
    """Return the bytes of all values, and of those that are not empty where each starts and how long it is."""
    if not len(values):
        return np.zeros(1, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int32)
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    buffer = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    lengths = np.diff(starts)
    if (lengths > 0).all():
        return buffer, starts[:-1], lengths
    full = lengths > 0
    return buffer, starts[:-1][full], lengths[full]


def _padded(values: pa.Array, edges: _Edges) -> bool:
    """Whether any value begins or ends with white space; bytes above 127 are left to the slow look."""
    buffer, starts, lengths = edges
    if not len(starts):
        return False
    first, last = buffer[starts], buffer[starts + lengths - 1]
    if first.min() <= 32 or last.min() <= 32:
        return True
    if first.max() < 0xC2 and last.max() < 0x80:
        return False
    return bool(pc.any(pc.not_equal(pc.utf8_trim_whitespace(values), values)).as_py())


def _coded(values: pa.Array, edges: _Edges) -> bool:
    """Whether any value is digits that are no number: `007`, `-01`, `+4930123456`, `0x1F`."""
    buffer, starts, lengths = edges
    first = buffer[starts]
    zero = np.flatnonzero(first == ord("0"))
    if _then_digits(buffer, starts[zero] + 1, lengths[zero] - 1):
        return True
    if bool((first == ord("+")).any()) and pc.any(pc.match_substring_regex(values, r"^\+[0-9]{6,}$")).as_py():
        return True
    minus = np.flatnonzero(first == ord("-"))
    minus = minus[lengths[minus] > 2]
    minus = minus[buffer[starts[minus] + 1] == ord("0")]
    return _then_digits(buffer, starts[minus] + 2, lengths[minus] - 2)


def _then_digits(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> bool:
    """Whether any of these rests, each behind a zero, goes on with what does not follow the only zero before a number's point."""
    return not _AFTER_ZERO[buffer[starts[lengths > 0]]].all()


def _beyond_int64(values: pa.Array, edges: _Edges) -> bool:
    """Whether any value is an integer too long for 64 bits, which a float would change."""
    _, _, lengths = edges
    if not bool((lengths >= 19).any()):
        return False
    long = pc.filter(values, pc.fill_null(pc.match_substring_regex(values, r"^-?[0-9]{19,}$"), False)).to_pylist()
    return any(not -(2**63) <= int(text) < 2**63 for text in long)
