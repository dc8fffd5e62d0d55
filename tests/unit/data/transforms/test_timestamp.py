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


@pytest.mark.parametrize(
    "text",
    [
        "2025-04-03T14:30:00",
        "2025-04-03 14:30",
        " 2025/04/03 14:30:00 ",
        "03.04.2025 14:30",
        "2025-04-03T16:30:00+02:00",
        "2025-04-03T14:30:00Z",
    ],
)
def test_usual_spellings_are_read(text):
    assert parse_times(pa.array([text, None, ""]), "at").to_pylist() == [MOMENT, None, None]


def test_slashes_follow_the_word_of_the_user():
    assert parse_times(pa.array(["03/04/2025"]), "at").to_pylist()[0].month == 3
    assert parse_times(pa.array(["03/04/2025"]), "at", day_first=True).to_pylist()[0].month == 4


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_numbers_since_1970_tell_their_unit(unit):
    assert parse_times(pa.array([1_743_690_600 * unit, None]), "at").to_pylist() == [MOMENT, None]


def test_mixed_spellings_in_one_column():
    assert parse_times(pa.array(["2025-04-03", "03.04.2025"]), "at").to_pylist() == [dt.datetime(2025, 4, 3)] * 2


def test_a_text_that_is_no_time_is_named():
    with pytest.raises(DataError, match="'at' is a time, but row 1 of the batch holds 'soon'"):
        parse_times(pa.array(["2025-04-03", "soon"]), "at")


def test_parts_mean_what_they_say():
    transform = TimestampTransform([Field("at", Kind.TIMESTAMP)])
    transform.observe(pa.record_batch({"at": ["2025-01-01", "2025-01-03", "2025-01-05"]}))
    transform.finish()
    parts = transform.apply(pa.record_batch({"at": ["2025-01-06T12:00:00", None]}))["timestamps"]
    np.testing.assert_allclose(parts[0], [3.5, 0.5, 0.5 / 7, 5.5 / 365.25, 1], rtol=1e-6)  # a Monday at noon
    assert np.isnan(parts[1]).all()
    out = transform.module()(torch.from_numpy(parts))
    assert out.shape == (2, 8)
    assert out[1].tolist() == [0] * 8
    np.testing.assert_allclose(out[0, 0], 3.5 / np.std([1, 3, 5]), rtol=1e-6)
