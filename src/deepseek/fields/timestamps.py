"""How text spells points in time: one list of forms, for saying what a column is and for reading it, so that the two never disagree."""

from __future__ import annotations

from itertools import product

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

ISO = "ISO 8601"
"""The form of `2024-01-31`, also with a time after a blank or `T`, and with `Z` or an offset after the time."""

_DATES = (
    *("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
COMPACT = "%Y%m%d"
"""The form of 20240131, which is a whole number as well."""

FORMS = (ISO, *(date + time for date, time in product(_DATES, _TIMES)), COMPACT, f"{COMPACT}T%H%M%S")
"""Every form that is recognised, in the notation of `strftime`; where several fit, the first counts."""

_NAIVE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_AWARE = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_PLAUSIBLE = r"^\s*[0-9A-Za-z][0-9A-Za-z./:,+ -]{6,33}[0-9A-Za-z]\s*$"
_WORDS = (
    r"(?i)^(?:[^a-z]|[tz]|[ap]m|jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)*$"
)
"""What a text may hold of letters in any form; each form that is tried costs some tenths of a millisecond, and there are many."""
_FIRST = 100


def forms_of(texts: pa.Array) -> tuple[str, ...]:
    """Return the forms in which every text can be read as a point in time, the first of `FORMS` first; none where there is no text.

    Two forms fit where day and month cannot be told apart: no day is beyond the twelfth.

    Args:
        texts: Text; null and blank values are passed over.

    Example:
        >>> forms_of(pa.array(["03/04/2025", "12/04/2025"])), forms_of(pa.array(["03/04/2025", "13/04/2025"]))
        (('%d/%m/%Y', '%m/%d/%Y'), ('%d/%m/%Y',))
    """
    known = _known(texts).drop_null()
    if not len(known) or not all(pc.all(pc.match_substring_regex(known, one)).as_py() for one in (_PLAUSIBLE, _WORDS)):
        return ()
    likely = tuple(form for form in FORMS if read_text(known.slice(0, _FIRST), form).null_count == 0)
    return tuple(form for form in likely if read_text(known, form).null_count == 0) if len(known) > _FIRST else likely


def is_compact(numbers: pa.Array) -> bool:
    """Return whether whole numbers are dates written as 20240131; false where there is none."""
    known = numbers.drop_null()
    if not len(known):
        return False
    span = pc.min_max(known).as_py()
    if span["min"] < 1900_01_01 or span["max"] > 2100_12_31:
        return False
    return bool(read_text(known.cast(pa.string()), COMPACT).null_count == 0)


def read_text(texts: pa.Array, form: str = ISO) -> pa.Array:
    """Return texts as `timestamp[us]` in UTC without a time zone; null where a text cannot be read in this form.

    A text without a zone is taken as UTC. The years 1000 to 2999 can be read, so that `31.01.24` is no date of the first century.

    Args:
        texts: Text.
        form: `ISO 8601`, or a form in the notation of `strftime`: `%d.%m.%Y`.
    """
    text = pl.col("text").str.strip_chars()
    if form == ISO:
        text = text.str.replace("T", " ", literal=True).str.replace(r"[zZ]$", "+00:00")
        readings = [_read(text, one) for one in _NAIVE] + [_read(text, one, aware=True) for one in _AWARE]
    else:
        readings = [_read(text, form, aware=form.endswith("z"))]
    read = pl.coalesce(readings)
    plausible = pl.when(read.dt.year().is_between(1000, 2999)).then(read)
    frame = pl.DataFrame(pa.table({"text": texts.cast(pa.large_string())}))
    return frame.select(plausible.alias("time")).to_series().to_arrow().cast(pa.timestamp("us"))


def _known(texts: pa.Array) -> pa.Array:
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
    return pc.if_else(blank, pa.scalar(None, texts.type), texts)


def _read(text: pl.Expr, form: str, *, aware: bool = False) -> pl.Expr:
    if not aware:
        return text.str.to_datetime(form, time_unit="us", strict=False)
    return text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False).dt.replace_time_zone(None)
