"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import SupportsFloat

ABSENT = "–"
"""What stands for a number that is not there, or is not a number."""


def number(value: SupportsFloat | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, thousands apart, very large and small ones with a power of ten.

    Args:
        value: Any number; `None` and NaN are `ABSENT`.
        digits: Significant digits of what is no whole number, 1 or more.

    Example:
        >>> [number(1234567), number(0.123456), number(1e-9), number(float("nan")), number(float("-inf"))]
        ['1,234,567', '0.1235', '1e-9', '–', '−∞']
    """
    if value is None or isinstance(value, int):
        return ABSENT if value is None else f"{value:,}".replace("-", "−")
    given = float(value)
    if not math.isfinite(given):
        return ABSENT if math.isnan(given) else "∞" if given > 0 else "−∞"
    size = abs(given)
    if given != 0 and (size < 1e-4 or size >= 1e9):
        mantissa, _, power = f"{given:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(power)}".replace("-", "−", 1) if given < 0 else f"{mantissa}e{int(power)}"
    places = 0 if size >= 10 ** (digits - 1) else digits - 1 - (math.floor(math.log10(size)) if size > 0 else 0)
    text = f"{given:,.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", "0"} else text.replace("-", "−")


def percent(value: SupportsFloat | None, places: int = 1) -> str:
    """Return a share as per cent: 0.1234 as `12.3 %`."""
    if value is None or not math.isfinite(float(value)):
        return ABSENT
    return f"{100 * float(value):,.{places}f} %".replace("-", "−")


def seconds(value: SupportsFloat | None) -> str:
    """Return a duration in its fitting unit: `850 ms`, `12.5 s`, `3 min 20 s`, `2 h 5 min`."""
    if value is None or not math.isfinite(float(value)):
        return ABSENT
    given = float(value)
    if given < 1:
        return f"{number(1000 * given, 3)} ms"
    if given < 99.95:
        return f"{number(given, 3)} s"
    minutes, rest = divmod(round(given), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def size(size_bytes: SupportsFloat | None) -> str:
    """Return a number of bytes in its fitting unit, by steps of 1,000: `1.25 MB`."""
    if size_bytes is None or not math.isfinite(float(size_bytes)):
        return ABSENT
    given = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(given) < 1000:
            return f"{number(given, 3)} {unit}"
        given /= 1000
    return f"{number(given, 3)} TB"


def binary_size(size_bytes: float) -> str:
    """Return an amount of memory as devices are sold with it, by steps of 1,024: `12.0 KiB`, `1.5 MiB`, `16.0 GiB`."""
    if size_bytes >= 1 << 30:
        return f"{size_bytes / 2**30:,.1f} GiB"
    if size_bytes == 0 or size_bytes >= 0.1 * 2**20:
        return f"{size_bytes / 2**20:,.1f} MiB"
    return f"{size_bytes / 2**10:,.1f} KiB" if size_bytes >= 0.1 * 2**10 else f"{size_bytes:,.0f} B"
