"""Every value is what the plain definition gives, and nothing that comes after a cut-off can move it."""

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.data.synthesis.reference import Reference
from tests.unit.data.synthesis.shop import INDEXES, LATER, START, TIMES, as_tables, drawn, moments, spec_of

from deepseek.data.sources import open_source
from deepseek.progress import collected_warnings

PATIENT = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
MOVING = ["time_since_first", "time_since_last", "count", "mean", "last"]


def table_of(source):
    with collected_warnings():
        return pa.Table.from_batches(list(source.read()), source.schema())


def questions(draw, found):
    keys = [row["id"] for row in found["customers"]]
    asked = draw(st.lists(st.tuples(st.sampled_from(keys), moments), min_size=1, max_size=6)) if keys else []
    return pa.table(
        {"id": pa.array([key for key, _ in asked], pa.string()), "time": pa.array([when for _, when in asked], pa.timestamp("us"))}
    )


@PATIENT
@given(data=st.data(), window=st.sampled_from([None, 5, 12]), inclusive=st.booleans(), depth=st.integers(1, 3), moving=st.booleans())
def test_every_value_is_that_of_the_plain_definition(data, window, inclusive, depth, moving):
    found = drawn(data.draw)
    asked = questions(data.draw, found)
    more = {"aggregations": MOVING, "derive": ["time_since", "weekday"], "where": ["mean"]} if moving else {}
    spec = spec_of(as_tables(found), {"source": asked, "time": "time"}, depth=depth, inclusive=inclusive, **more)
    source = open_source({**spec, **({"window": f"{window}d"} if window else {})})
    reference = Reference(
        found,
        INDEXES,
        TIMES,
        window=window and window * 86_400,
        inclusive=inclusive,
        later={"buys": {**LATER["buys"], "back_at": "back_at"}},
    )
    made = table_of(source)
    features = data.draw(st.lists(st.sampled_from(source._maker.features), min_size=1, max_size=60, unique_by=lambda one: one.name))
    for feature in features:
        for place, question in enumerate(asked.to_pylist()):
            row = next(one for one in found["customers"] if one["id"] == question["id"])
            there = reference.there("customers", row, question["time"])
            expected = reference.value(feature, row if there else None, question["time"])
            got = made[feature.name][place].as_py()
            same = (
                got == pytest.approx(expected, rel=1e-9, abs=1e-7) if isinstance(expected, float) and got is not None else got == expected
            )
            assert same, f"{feature.name} of {question}: {got} is not {expected}"


@PATIENT
@given(data=st.data(), window=st.sampled_from([None, "5d"]), inclusive=st.booleans())
def test_rows_after_the_cutoff_move_nothing_not_even_a_bit(data, window, inclusive):
    found = drawn(data.draw)
    asked = questions(data.draw, found)
    if not len(asked):
        return
    last = max(asked["time"].to_pylist())
    after = (last - START).days + (1 if inclusive else 0)
    future = drawn(data.draw, from_day=after)
    later = {name: [*data.draw(st.permutations([*rows, *future[name]]))] for name, rows in found.items() if name != "goods"}
    for row in later["buys"]:
        if row["bid"] >= 1_000 * max(after, 1):  # a new row may also belong to what was there before
            row["sid"] = data.draw(st.sampled_from([None, *[one["sid"] for one in later["sessions"]]]))
        if row["back_at"] is not None and row["back_at"] > last:  # what became of a buy later may be anything
            row = row | {"back": not row["back"]}  # noqa: PLW2901
    for row in later["sessions"]:
        if row["sid"] >= 1_000 * max(after, 1):
            row["customer"] = data.draw(st.sampled_from([None, *[one["id"] for one in later["customers"]]]))
    later["goods"] = [*found["goods"], *future["goods"]]
    if any(len({row[INDEXES[name]] for row in rows}) < len(rows) for name, rows in later.items()):
        return  # day 0 draws the same keys again
    more = {"inclusive": inclusive, "depth": 2, **({"window": window} if window else {})}
    before, now = (table_of(open_source(spec_of(as_tables(rows), {"source": asked, "time": "time"}, **more))) for rows in (found, later))
    assert now.equals(before)


def test_the_property_would_notice(tmp_path):
    """A row at the cut-off does move the answer, and one a day later would if it were a day earlier."""
    buys = [{"bid": 1, "sid": 1, "gid": None, "at": START, "amount": 1.0, "back": None, "back_at": None}]
    found = {
        "regions": [],
        "customers": [{"id": "c", "region": None, "joined": START, "vip": None}],
        "sessions": [{"sid": 1, "customer": "c", "start": START, "device": None}],
        "goods": [],
        "buys": buys,
    }
    asked = pa.table({"id": ["c"], "time": pa.array([START + timedelta(days=1)], pa.timestamp("us"))})
    sums = []
    for day in (0, 1, 2):
        rows = {**found, "buys": [*buys, {**buys[0], "bid": 2, "at": START + timedelta(days=day)}]}
        sums.append(table_of(open_source(spec_of(as_tables(rows), {"source": asked, "time": "time"})))["SUM(buys.amount)"][0].as_py())
    assert sums == [2.0, 2.0, 1.0]
