"""Columns of several types as one: whatever the types, no value becomes another."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.sources.merging import as_text, conform, merged

SIGNED = {kind: st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1) for kind in (pa.int8(), pa.int32(), pa.int64())}
UNSIGNED = {kind: st.integers(0, 2**kind.bit_width - 1) for kind in (pa.uint8(), pa.uint32(), pa.uint64())}
DECIMALS = {
    pa.decimal128(digits, scale): st.decimals(-limit, limit, places=scale, allow_nan=False)
    for digits, scale, limit in ((20, 2, 10**18 - 1), (9, 4, 99_999), (38, 0, 10**38 - 1), (12, 12, Decimal("0.999999999999")))
}
VALUES = {
    **SIGNED,
    **UNSIGNED,
    **DECIMALS,
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=5),
    pa.date32(): st.dates(date(1970, 1, 1), date(2200, 1, 1)),
    pa.timestamp("us"): st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),
    pa.timestamp("us", "UTC"): st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    pa.null(): st.none(),
    pa.list_(pa.int64()): st.lists(SIGNED[pa.int64()], max_size=3),
    pa.list_(pa.float64()): st.lists(st.floats(allow_nan=False), max_size=3),
}


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_value_becomes_another(data):
    kinds = data.draw(st.lists(st.sampled_from(list(VALUES)), min_size=2, max_size=3))
    tables = [pa.table({"x": pa.array(data.draw(st.lists(VALUES[kind] | st.none(), max_size=3)), kind)}) for kind in kinds]
    schema = merged([table.schema for table in tables], lambda number, place: [tables[number].column(place)])
    for table in tables:
        made = conform(table, schema)["x"]
        if pa.types.is_string(made.type):
            assert made.to_pylist() == as_text(table["x"]).to_pylist()
        else:
            pairs = zip(made.to_pylist(), table["x"].to_pylist(), strict=True)
            assert [_plain(value, beside=given) for value, given in pairs] == [_plain(value) for value in table["x"].to_pylist()]


def _plain(value, *, beside=None):
    """A value as it can be compared: a moment without its zone, a day as its midnight, a float that was a decimal with its places."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, float) and isinstance(beside, Decimal):
        return Decimal(value).quantize(beside)
    return value


@pytest.mark.parametrize(
    ("first", "second", "wider"),
    [
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.uint64(), pa.int8(), pa.decimal128(20, 0)),
        (pa.uint64(), pa.uint8(), pa.uint64()),
        (pa.uint32(), pa.int32(), pa.int64()),
        (pa.decimal128(10, 2), pa.int64(), pa.decimal128(21, 2)),
        (pa.decimal128(10, 2), pa.decimal128(6, 4), pa.decimal128(12, 4)),
        (pa.decimal128(38, 2), pa.int64(), pa.decimal128(38, 2)),
        (pa.decimal128(38, 30), pa.int64(), pa.string()),
        (pa.decimal128(15, 2), pa.float64(), pa.float64()),
        (pa.decimal128(16, 2), pa.float64(), pa.string()),
        (pa.decimal128(16, 2), pa.bool_(), pa.string()),
        (pa.decimal128(16, 2), pa.null(), pa.decimal128(16, 2)),
    ],
    ids=str,
)
def test_the_type_is_the_narrowest_that_holds_both(first, second, wider):
    for pair in ((first, second), (second, first)):
        assert merged([pa.schema([("x", kind)]) for kind in pair]).field("x").type == wider


def test_only_what_is_large_makes_text_of_numbers():
    def made(large):
        tables = [pa.table({"x": [1, large]}), pa.table({"x": [0.5]})]
        schema = merged([table.schema for table in tables], lambda number, place: [tables[number].column(place)])
        return schema.field("x").type

    assert made(2**53) == pa.float64()
    assert made(2**53 + 1) == made(-(2**53) - 1) == pa.string()


def test_moments_of_two_zones_are_the_same_moments():
    moment = datetime(2024, 6, 1, 12, tzinfo=UTC)
    tables = [pa.table({"x": pa.array([moment], pa.timestamp("us", zone))}) for zone in ("UTC", "Europe/Berlin")]
    schema = merged([table.schema for table in tables])
    assert [conform(table, schema)["x"].to_pylist() for table in tables] == [[moment.replace(tzinfo=None)]] * 2
    assert moment.utcoffset() == timedelta(0)
