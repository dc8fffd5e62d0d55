from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.data.transforms.timestamp import TimestampTransform, parse_times
from deepseek.errors import DataError
from deepseek.fields import Field, Kind

MOMENT = dt.datetime(2025, 4, 3, 14, 30)


def fitted(*batches, **arguments):
    transform = TimestampTransform([Field("at", Kind.TIMESTAMP)], **arguments)
    for texts in batches:
        transform.observe(pa.record_batch({"at": texts}))
    transform.finish()
    return transform


def month_of(transform, text):
    return transform.apply(pa.record_batch({"at": [text]}))["timestamps"][0, 4]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2025-04-03T14:30:00", "ISO 8601"),
        ("2025-04-03 14:30", "ISO 8601"),
        ("2025-04-03T16:30:00+02:00", "ISO 8601"),
        ("2025-04-03T14:30:00Z", "ISO 8601"),
        (" 2025/04/03 14:30:00 ", "%Y/%m/%d %H:%M:%S%.f"),
        ("03.04.2025 14:30", "%d.%m.%Y %H:%M"),
        ("03-Apr-2025 02:30 PM", "%d-%b-%Y %I:%M %p"),
        ("April 3, 2025 14:30", "%B %d, %Y %H:%M"),
        ("20250403T143000", "%Y%m%dT%H%M%S"),
    ],
)
def test_usual_spellings_are_found_out_and_kept(text, form):
    transform = fitted([text, None, ""])
    assert transform.to_json()["forms"] == [form]
    assert parse_times(pa.array([text, None, ""]), form).to_pylist() == [MOMENT, None, None]


def test_all_training_rows_decide_between_day_and_month():
    assert month_of(fitted(["03/04/2025"], ["13/04/2025"]), "03/04/2025") == 4
    assert month_of(fitted(["03/04/2025"], ["04/13/2025"]), "03/04/2025") == 3
    assert fitted(["03/04/2025"], ["04/13/2025"]).warnings == ()


def test_where_day_and_month_cannot_be_told_apart_a_warning_says_what_was_taken():
    transform = fitted(["03/04/2025", "05/06/2025"])
    assert month_of(transform, "03/04/2025") == 4
    assert "%d/%m/%Y and as %m/%d/%Y; it is read as %d/%m/%Y" in transform.warnings[0]
    assert month_of(fitted(["03/04/2025"], format="%m/%d/%Y"), "03/04/2025") == 3


def test_what_no_form_fits_all_rows_is_refused():
    with pytest.raises(DataError, match=r"'at' is a time written as %d/%m/%Y, but row 0 of the batch holds '04/13/2025'"):
        fitted(["13/04/2025"], ["04/13/2025"])


def test_production_may_send_iso_instead_and_nothing_else():
    transform = fitted(["03.04.2025", "13.04.2025"])
    assert month_of(transform, "2025-05-01") == 5
    again = TimestampTransform([Field("at", Kind.TIMESTAMP)]).load_json(transform.to_json())
    assert month_of(again, "01.05.2025") == 5
    with pytest.raises(DataError, match=r"written as %d\.%m\.%Y, but row 0"):
        month_of(again, "05/01/2025")


def test_whole_numbers_may_be_dates():
    transform = fitted([20250403, 20251224])
    assert transform.to_json()["forms"] == ["%Y%m%d"]
    assert month_of(transform, 20240131) == 1
    assert fitted([20250403], [1_743_690_600]).to_json()["forms"] == ["seconds since 1970"]


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_numbers_since_1970_tell_their_unit(unit):
    assert parse_times(pa.array([1_743_690_600 * unit, None])).to_pylist() == [MOMENT, None]


def test_iso_may_stand_among_other_spellings():
    assert fitted(["2025-04-03", "03.04.2025"]).to_json()["forms"] == ["%d.%m.%Y"]


def test_a_text_that_is_no_time_is_named():
    with pytest.raises(DataError, match="'at' is a time written as ISO 8601, but row 1 of the batch holds 'soon'"):
        fitted(["2025-04-03", "soon"])


def test_parts_mean_what_they_say():
    transform = fitted(["2025-01-01", "2025-01-03", "2025-01-05"])
    parts = transform.apply(pa.record_batch({"at": ["2025-01-06T12:00:00", None]}))["timestamps"]
    np.testing.assert_allclose(parts[0], [3.5, 0.5, 0.5 / 7, 5.5 / 365.25, 1], rtol=1e-6)  # a Monday at noon
    assert np.isnan(parts[1]).all()
    out = transform.module()(torch.from_numpy(parts))
    assert out.shape == (2, 8)
    assert out[1].tolist() == [0] * 8
    np.testing.assert_allclose(out[0, 0], 3.5 / np.std([1, 3, 5]), rtol=1e-6)


BIRTHS = [dt.datetime(year, 6, 1) for year in (1950, 1968, 1971, 1972, 1980, 1999, 2001)]


@pytest.mark.parametrize(
    ("unit", "form"), [(1, "seconds since 1970"), (10**3, "milliseconds since 1970"), (10**6, "microseconds since 1970")]
)
def test_all_numbers_of_a_column_have_one_unit(unit, form):
    """In milliseconds, the years about 1970 are as small as later ones are in seconds."""
    seconds = [round(born.replace(tzinfo=dt.UTC).timestamp()) for born in BIRTHS]
    numbers = pa.array([0, *(unit * one for one in seconds), None])
    transform = fitted(numbers)
    assert transform.to_json()["forms"] == [form]
    assert transform.warnings == ()
    assert parse_times(numbers, form).to_pylist() == [dt.datetime(1970, 1, 1), *BIRTHS, None]
    days = fitted([dt.datetime(1970, 1, 1), *BIRTHS, None])
    again = TimestampTransform([Field("at", Kind.TIMESTAMP)]).load_json(transform.to_json())
    for one in (BIRTHS[2], BIRTHS[-1]):
        asked = again.apply(pa.record_batch({"at": pa.array([round(one.replace(tzinfo=dt.UTC).timestamp()) * unit])}))
        np.testing.assert_array_equal(asked["timestamps"], days.apply(pa.record_batch({"at": [one]}))["timestamps"])
    np.testing.assert_allclose(transform.to_json()["scale"], days.to_json()["scale"], rtol=1e-12)


def test_numbers_beyond_every_calendar_are_its_end():
    transform = fitted([1_743_690_600, 1_743_690_601, 10**18])
    assert transform.to_json()["forms"] == ["seconds since 1970"]
    assert parse_times(pa.array([1e30, -1e30]), "seconds since 1970").to_pylist() == [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1)]
