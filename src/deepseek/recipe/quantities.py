"""Values with units as a recipe writes them, and the scalar types of its keys."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, WithJsonSchema

from deepseek.errors import InputError
from deepseek.validation import checked, exact, shown

_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_UNITS_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)?\s*")
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?\s*")


def parse_duration_s(value: object) -> float:
    """Return a duration in seconds.

    Args:
        value: Seconds, or text, with one of the units ms, s, m, h, d or none: `"90s"`, `"5m"`, `"1.5h"`, `"90"`.

    Raises:
        InputError: It is neither, or not positive and finite.

    Example:
        >>> parse_duration_s("5m")
        300.0
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match:
        seconds = float(match.group(1)) * _UNITS_S[match.group(2) or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise InputError(f"must be seconds, or a number with a unit (90s, 5m, 2h); given: {shown(value)}")
    if not 0 < seconds < math.inf:
        raise InputError(f"a duration is greater than 0 and finite; given: {shown(value)}")
    return seconds


def parse_size_bytes(value: object) -> int:
    """Return a size in bytes.

    Args:
        value: Bytes, or text, with one of the units B, kB, MB, GB, KiB, MiB, GiB or none: `"10MB"`, `"64KiB"`.

    Raises:
        InputError: It is neither, or less than one byte.

    Example:
        >>> parse_size_bytes("1.2 MB")
        1200000
    """
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match:
        size = round(float(match.group(1)) * _UNITS_BYTES[match.group(2) or "B"])
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise InputError(f"must be bytes, or a number with a unit (64KiB, 10MB); given: {shown(value)}")
    if size < 1:
        raise InputError(f"a size is at least one byte; given: {shown(value)}")
    return size


if TYPE_CHECKING:
    Flag = bool
    Integer = int
    Number = float
else:
    Flag = exact(bool)
    """true or false; yes, no, on and off are understood."""
    Integer = exact(int)
    """A whole number, and nothing that looks like one."""
    Number = exact(float)
    """A finite number."""

Duration = Annotated[
    float,
    BeforeValidator(checked(parse_duration_s)),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ *(ms|s|m|h|d)?$"}]}),
]
"""Seconds, or a number with a unit."""

Size = Annotated[
    int,
    BeforeValidator(checked(parse_size_bytes)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^[0-9.]+ *(B|kB|MB|GB|KiB|MiB|GiB)?$"}]}),
]
"""Bytes, or a number with a unit."""
