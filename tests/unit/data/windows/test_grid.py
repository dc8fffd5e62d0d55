from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.windows.grid import Grid, infer_grid, parse_frequency, read_moments
from deepseek.errors import DataError, InputError


def moments(texts):
    return read_moments(pa.record_batch({"t": texts}), "t")[0]


@pytest.mark.parametrize(
    ("texts", "name", "season"),
    [
        (["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00"], "1h", 24),
        (["2024-01-01 00:00", "2024-01-01 00:15", "2024-01-01 01:00", "2024-01-01 01:15"], "15min", 96),
        (["2024-02-28", "2024-02-29", "2024-03-01"], "1d", 7),
        (["2024-01-01", "2024-01-08", "2024-01-15"], "1w", 52),
        (["2024-01-01", "2024-02-01", "2024-03-01", "2024-05-01"], "1mo", 12),
        (["2024-01-31", "2024-02-29", "2024-03-31"], "1mo", 12),
        (["2023-10-01", "2024-01-01", "2024-04-01"], "1q", 4),
    ],
)
def test_the_frequency_is_the_commonest_distance(texts, name, season):
    given = moments(texts)
    grid = infer_grid(given, numbers=False, what="t")
    assert (grid.name, grid.season) == (name, season)
    numbers = grid.numbers(given, what="t")
    assert numbers[0] == 0
    assert np.array_equal(grid.moments(numbers), given)
    assert Grid.from_json(grid.to_json()) == grid


def test_months_go_on_beyond_the_table():
    ends = infer_grid(moments(["2023-11-30", "2023-12-31", "2024-01-31"]), numbers=False, what="t")
    assert ends.as_arrow(ends.moments(np.array([3, 4]))).cast(pa.string()).to_pylist() == [
        "2024-02-29 00:00:00.000000",
        "2024-03-31 00:00:00.000000",
    ]


def test_plain_numbers_are_moments_too():
    grid = infer_grid(np.array([10, 12, 14]), numbers=True, what="t")
    assert (grid.name, grid.numbers(np.array([18]), what="t").tolist()) == ("2", [4])


def test_a_moment_between_two_steps_is_refused_and_counted():
    grid = parse_frequency("1h").anchored(moments(["2024-01-01 00:00"]))
    with pytest.raises(DataError, match=r"1 of 2 values of 't' lie between the steps of 1h, the first of them 2024-01-01 01:30"):
        grid.numbers(moments(["2024-01-01 01:00", "2024-01-01 01:30"]), what="t")


@pytest.mark.parametrize("text", ["hourly", "0h", "1 fortnight", "h"])
def test_a_frequency_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="allowed: a number with s, min, h"):
        parse_frequency(text)


def test_a_missing_time_is_refused_with_what_to_do():
    with pytest.raises(DataError, match="1 rows have no time in 't'") as caught:
        moments(["2024-01-01", None])
    assert "type: required" in str(caught.value.hint)
