from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from deepseek.data.checks.freshness import FreshnessCheck, parse_duration
from deepseek.data.checks.in_set import InSetCheck
from deepseek.data.checks.range import RangeCheck
from deepseek.data.checks.regex import RegexCheck
from deepseek.data.checks.required import RequiredCheck
from deepseek.data.checks.type import TypeCheck
from deepseek.data.checks.unique import UniqueCheck
from deepseek.errors import ColumnError, InputError


def bad(check, **columns):
    return "".join(str(int(value)) for value in check.bad(pa.record_batch(columns)))


def test_blank_text_is_missing_only_where_asked():
    assert bad(RequiredCheck(column="s"), s=["", " \t", "x"]) == "000"
    assert bad(RequiredCheck(column="s", blank=True), s=["", " \t", "x"]) == "110"


def test_required_takes_one_or_several_columns():
    for given in ({}, {"column": "a", "columns": ["b"]}, {"columns": []}, {"columns": ["a", "a"]}):
        with pytest.raises(InputError):
            RequiredCheck(**given)


@pytest.mark.parametrize(
    ("expected", "texts", "wanted"),
    [
        ("number", ["1e3", " 2 ", "nan", "inf", "1,5", "", None], "0011110"),
        ("integer", ["3", "3.0", "3.5", "-1", None], "00100"),
        ("boolean", ["TRUE", "no", "1", "maybe", None], "00010"),
        ("timestamp", ["2024-01-31", "31.01.2024", None], "010"),
        ("text", ["a", None], "00"),
    ],
)
def test_text_that_can_be_read_as_a_type(expected, texts, wanted):
    assert bad(TypeCheck(column="s", expected=expected), s=texts) == wanted


def test_types_of_columns_that_are_no_text():
    assert bad(TypeCheck(column="a", expected="integer"), a=[1.0, 1.5, None]) == "010"
    assert bad(TypeCheck(column="a", expected="number"), a=[True, False]) == "11"
    assert bad(TypeCheck(column="a", expected="boolean"), a=[0, 1, 2]) == "001"
    assert bad(TypeCheck(column="a", expected="text"), a=[0]) == "1"
    assert bad(TypeCheck(column="a", expected="timestamp"), a=[0]) == "1"
    assert bad(TypeCheck(column="a", expected="timestamp", format="%d.%m.%Y"), a=["31.01.2024", "2024-01-31"]) == "01"
    with pytest.raises(InputError):
        TypeCheck(column="a", expected="number", format="%d")


def test_ranges_are_exact_for_large_integers_and_cover_time():
    big = 2**53
    assert bad(RangeCheck(column="a", max=big), a=[big, big + 1]) == "01"
    days = pa.array([datetime(2024, 1, 1), datetime(2025, 1, 1), None])
    assert bad(RangeCheck(column="a", max="2024-06-01"), a=days) == "010"
    assert bad(RangeCheck(column="a", min=0), a=[float("nan"), -0.5]) == "01"
    assert bad(RangeCheck(column="a", min=0), a=pa.nulls(2)) == "00"
    assert bad(RangeCheck(column="a", min=2, max=2**62), a=pa.array([2**64 - 1, 2**62 + 1, 2**62, None, 1], pa.uint64())) == "11001"


@pytest.mark.parametrize("bounds", [{}, {"min": 2, "max": 1}, {"min": "x"}, {"min": 1, "max": "2024-01-01"}, {"min": float("nan")}])
def test_ranges_that_make_no_sense(bounds):
    with pytest.raises(InputError):
        RangeCheck(column="a", **bounds)


def test_a_range_of_text_is_an_error():
    with pytest.raises(ColumnError, match=r"'a'.*string"):
        bad(RangeCheck(column="a", min=0), a=["1"])


@pytest.mark.parametrize("pattern", ["(a", "a)(b", r"(a)\1", "(?=a)"])
def test_patterns_that_are_none(pattern):
    with pytest.raises(InputError, match="pattern"):
        RegexCheck(column="a", pattern=pattern)


def test_a_pattern_cannot_run_away():
    assert bad(RegexCheck(column="a", pattern="(a+)+b"), a=["a" * 100_000]) == "1"


def test_a_pattern_must_match_the_last_line_end_too():
    assert bad(RegexCheck(column="a", pattern="[0-9]+"), a=["1", "1\n", "x\n1"]) == "011"


def test_values_of_another_type_than_the_column():
    assert bad(InSetCheck(column="a", values=[1, 2]), a=[1.0, 3.0]) == "01"
    assert bad(InSetCheck(column="a", values=["x"]), a=pa.array(["x", "y", None]).dictionary_encode()) == "010"
    for values, column in ((["1"], [1]), ([1], ["1"]), ([1], [True]), ([True], [1]), ([True, 1], [True])):
        with pytest.raises(ColumnError, match="in_set"):
            bad(InSetCheck(column="a", values=values), a=column)
    with pytest.raises(InputError):
        InSetCheck(column="a", values=[])


def test_unique_remembers_across_batches_and_passes():
    check = UniqueCheck(column="a")
    batches = [pa.record_batch({"a": part}) for part in ([1, 2, 1], [3, 2, None], [4], [1, None])]
    for batch in batches:
        check.observe(batch)
    check.finish()
    for _ in range(2):
        assert [check.bad(batch).astype(int).tolist() for batch in batches] == [[0, 0, 1], [0, 1, 0], [0], [1, 0]]


def test_freshness_counts_from_now():
    hour = datetime.now().astimezone()
    assert bad(FreshnessCheck(column="a", max_age="1h"), a=[hour - timedelta(minutes=59), hour - timedelta(minutes=61)]) == "01"


def test_lengths_of_time():
    assert parse_duration("1d12h") == timedelta(days=1.5)
    assert parse_duration("2w") == timedelta(weeks=2)
    for text in ("", "7", "d7", "7 days", "0s", "7d!", "9" * 30 + "d"):
        with pytest.raises(InputError):
            parse_duration(text)


def test_a_missing_column_is_named_with_a_guess():
    with pytest.raises(ColumnError, match=r"range.*'aeg'.*\n.*did you mean 'age'"):
        bad(RangeCheck(column="aeg", min=0), age=[1])
