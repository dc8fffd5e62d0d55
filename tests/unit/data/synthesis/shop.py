"""Small tables that belong together, drawn at random: regions and customers, their sessions, and what was bought in these."""

from datetime import datetime, timedelta

import pyarrow as pa
from hypothesis import strategies as st

START = datetime(2024, 1, 1)
ALL = ["count", "sum", "mean", "min", "max", "std", "skew", "median", "first", "last", "n_unique", "mode", "n_true", "percent_true"]
RELATIONSHIPS = [
    "regions.region -> customers.region",
    "customers.id -> sessions.customer",
    "sessions.sid -> buys.sid",
    "goods.gid -> buys.gid",
]
TYPES = {
    "regions": pa.schema([("region", pa.string()), ("opened", pa.timestamp("us")), ("size", pa.int64())]),
    "customers": pa.schema([("id", pa.string()), ("region", pa.string()), ("joined", pa.timestamp("us")), ("vip", pa.bool_())]),
    "sessions": pa.schema([("sid", pa.int64()), ("customer", pa.string()), ("start", pa.timestamp("us")), ("device", pa.string())]),
    "buys": pa.schema(
        [
            *(("bid", pa.int64()), ("sid", pa.int64()), ("gid", pa.int64()), ("at", pa.timestamp("us")), ("amount", pa.float64())),
            *(("back", pa.bool_()), ("back_at", pa.timestamp("us"))),
        ]
    ),
    "goods": pa.schema([("gid", pa.int64()), ("price", pa.float64()), ("kind", pa.string())]),
}
INDEXES = {"regions": "region", "customers": "id", "sessions": "sid", "buys": "bid", "goods": "gid"}
TIMES = {"regions": "opened", "customers": "joined", "sessions": "start", "buys": "at", "goods": None}
LATER = {"buys": {"back": "back_at"}}

moments = st.integers(0, 30).map(lambda days: START + timedelta(days=days))
amounts = st.one_of(st.none(), st.integers(-4, 9).map(float), st.floats(-1e3, 1e3, allow_nan=False, width=32))


def drawn(draw, *, from_day=0):
    """Rows of all tables, none of them before a day."""
    when = st.integers(from_day, 40).map(lambda days: START + timedelta(days=days))
    prefix = 1_000 * from_day

    def rows(count, *columns):
        return [dict(column(number) for column in columns) for number in range(prefix, prefix + draw(st.integers(0, count)))]

    def one_of(table, column, found):
        keys = [row[column] for row in found[table]]
        return draw(st.sampled_from([*keys, None])) if keys else None

    found = {}
    found["regions"] = rows(3, lambda n: ("region", f"r{n}"), lambda n: ("opened", draw(when)), lambda n: ("size", draw(st.integers(0, 5))))
    found["customers"] = rows(
        4,
        *(lambda n: ("id", f"c{n}"), lambda n: ("region", one_of("regions", "region", found)), lambda n: ("joined", draw(when))),
        lambda n: ("vip", draw(st.sampled_from([True, False, None]))),
    )
    found["sessions"] = rows(
        8,
        *(lambda n: ("sid", n), lambda n: ("customer", one_of("customers", "id", found)), lambda n: ("start", draw(when))),
        lambda n: ("device", draw(st.sampled_from(["phone", "tablet", None]))),
    )
    found["goods"] = rows(3, lambda n: ("gid", n), lambda n: ("price", draw(amounts)), lambda n: ("kind", draw(st.sampled_from("xyz"))))
    found["buys"] = rows(
        16,
        *(lambda n: ("bid", n), lambda n: ("sid", one_of("sessions", "sid", found)), lambda n: ("gid", one_of("goods", "gid", found))),
        *(
            lambda n: ("at", draw(when)),
            lambda n: ("amount", draw(amounts)),
            lambda n: ("back", draw(st.sampled_from([True, False, None]))),
        ),
        lambda n: ("back_at", draw(st.one_of(st.none(), when))),
    )
    return found


def as_tables(found):
    return {name: pa.Table.from_pylist(rows, TYPES[name]) for name, rows in found.items()}


def spec_of(tables, cutoffs, **more):
    sections = {
        name: {"source": table, "index": INDEXES[name], **({"time": TIMES[name]} if TIMES[name] else {"static": True})}
        for name, table in tables.items()
    }
    # what a text is taken for hangs on the rows that are there; here it is said, as the rows are drawn
    sections["sessions"] |= {"fields": {"device": "category"}, "where": {"device": ["phone"]}}
    sections["goods"] |= {"fields": {"kind": "category"}}
    sections["buys"]["later"] = LATER["buys"]
    given = {"relationships": RELATIONSHIPS, "target_table": "customers", "aggregations": ALL, "where": ["count", "mean", "last"], **more}
    return {"type": "related_tables", "tables": sections, "cutoffs": cutoffs, "max_features": 100_000, **given}
