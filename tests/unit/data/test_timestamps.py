from datetime import date, datetime

import pyarrow as pa
import pytest

from deepseek.data.timestamps import read_timestamps
from deepseek.errors import ColumnError


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-31", datetime(2024, 1, 31)),
        (" 2024-01-31 10:00 ", datetime(2024, 1, 31, 10)),
        ("2024-01-31T10:00:05.25", datetime(2024, 1, 31, 10, 0, 5, 250_000)),
        ("2024-01-31T10:00:00Z", datetime(2024, 1, 31, 10)),
        ("2024-01-31T10:00+02:00", datetime(2024, 1, 31, 8)),
        ("2024-13-01", None),
        ("31.01.2024", None),
        ("soon", None),
        (None, None),
    ],
)
def test_iso_8601_and_nothing_else(text, moment):
    assert read_timestamps(pa.array([text], pa.string())).to_pylist() == [moment]


def test_other_forms_types_and_zones():
    assert read_timestamps(pa.array(["31.01.2024"]), pattern="%d.%m.%Y").to_pylist() == [datetime(2024, 1, 31)]
    assert read_timestamps(pa.array([date(2024, 1, 31)])).to_pylist() == [datetime(2024, 1, 31)]
    assert read_timestamps(pa.array([3600], pa.timestamp("s", "Europe/Paris"))).to_pylist() == [datetime(1970, 1, 1, 1)]
    assert read_timestamps(pa.nulls(1)).to_pylist() == [None]
    with pytest.raises(ColumnError, match="int64"):
        read_timestamps(pa.array([1]))
