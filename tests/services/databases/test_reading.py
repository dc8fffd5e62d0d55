"""Tables of real PostgreSQL and MariaDB servers: the contract of sources, exact types, filters and names."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.services.databases.asking import TABLE, ask, fetched, read, rejects

from deepseek.data.expressions import RowExpression
from deepseek.data.sources import open_source
from deepseek.data.sources.contract import SourceContract
from deepseek.errors import DataError, UnknownNameError


@pytest.mark.parametrize("engine", ["auto", "sqlalchemy"])
@pytest.mark.parametrize("named", ["key", "no_key", "query"])
class TestContract(SourceContract):
    @pytest.fixture
    def source(self, url, opened, named, engine):
        key = "primary key" if named == "key" else ""
        rows = [tuple(row.values()) for row in reversed(TABLE.to_pylist())]
        columns = f"a bigint {key}, b varchar(20), c double precision"
        ask(url, "drop table if exists t", f"create table t ({columns})", "insert into t values (%s, %s, %s)", rows=rows)
        where = {"query": "select * from t where a > 0 order by b; ", "order_by": "a"} if named == "query" else {"table": "t"}
        return opened(engine=engine, **where)

    @pytest.fixture
    def expected(self):
        return TABLE


class TestTypes:
    POSTGRESQL: ClassVar = {
        "b": ("boolean", pa.bool_(), [(True, True), (False, False)]),
        "i16": ("smallint", pa.int16(), [(-32768, -32768)]),
        "i32": ("integer", pa.int32(), [(2**31 - 1, 2**31 - 1)]),
        "i64": ("bigint", pa.int64(), [(-(2**63), -(2**63))]),
        "f32": ("real", pa.float32(), [(0.5, 0.5), ("Infinity", float("inf"))]),
        "f64": ("double precision", pa.float64(), [(0.1, 0.1)]),
        "n": ("numeric(20,4)", pa.decimal128(20, 4), [("1234567890123456.1234", Decimal("1234567890123456.1234"))]),
        "wide": ("numeric(60,30)", pa.string(), [("1" * 30 + "." + "2" * 30, "1" * 30 + "." + "2" * 30)]),
        "free": ("numeric", pa.string(), [("0.30000000000000000000000001", "0.30000000000000000000000001"), ("NaN", "NaN")]),
        "money": ("money", pa.string(), [("12.30", "12.30")]),
        "oid": ("oid", pa.int64(), [(2**32 - 1, 2**32 - 1)]),
        "d": ("date", pa.date32(), [("2024-02-29", date(2024, 2, 29)), ("0001-01-01", date(1, 1, 1)), ("9999-12-31", date(9999, 12, 31))]),
        "ts": ("timestamp", pa.timestamp("us"), [("2024-01-01 01:02:03.123456", datetime(2024, 1, 1, 1, 2, 3, 123456))]),
        "tz": (
            "timestamptz",
            pa.timestamp("us", "UTC"),
            [
                ("2024-01-01 01:02:03+02", datetime(2023, 12, 31, 23, 2, 3, tzinfo=UTC)),
                ("9999-12-31 23:59:59+00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
            ],
        ),
        "tm": ("time", pa.time64("us"), [("23:59:59.999999", time(23, 59, 59, 999999))]),
        "tmz": ("timetz", pa.string(), [("23:59:59+02", "23:59:59+02")]),
        "iv": ("interval", pa.string(), [("1 year 2 days 3 seconds", "P1Y2DT3S")]),
        "c": ("char(4)", pa.string(), [("ab", "ab  ")]),
        "v": ("text", pa.string(), [("ünï😀", "ünï😀"), ("", "")]),
        "by": ("bytea", pa.binary(), [(b"\x00\xff", b"\x00\xff")]),
        "j": ("json", pa.string(), [('{"a": [1, null]}', '{"a": [1, null]}')]),
        "jb": ("jsonb", pa.string(), [('{"a":1}', '{"a": 1}')]),
        "e": ("mood", pa.string(), [("glad", "glad")]),
        "u": ("uuid", pa.string(), [("123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-12d3-a456-426655440000")]),
        "ints": ("int[]", pa.list_(pa.int32()), [("{1,null,3}", [1, None, 3]), ("{}", [])]),
        "texts": ("text[]", pa.list_(pa.string()), [('{a,null,"b c"}', ["a", None, "b c"])]),
        "nums": ("numeric(5,1)[]", pa.list_(pa.string()), [("{1.5,NaN}", ["1.5", "NaN"])]),
        "days": ("date[]", pa.list_(pa.string()), [("{2024-01-01,infinity}", ["2024-01-01", "infinity"])]),
        "ip": ("inet", pa.string(), [("::1/128", "::1/128")]),
        "bits": ("bit(4)", pa.string(), [("1010", "1010")]),
        "x": ("xml", pa.string(), [("<a/>", "<a/>")]),
        "rng": ("int4range", pa.string(), [("[1,3)", "[1,3)")]),
        "dom": ("percent_", pa.int32(), [(50, 50)]),
    }
    MARIADB: ClassVar = {
        "b": ("tinyint(1)", pa.int8(), [(1, 1), (-128, -128)]),
        "u8": ("tinyint unsigned", pa.uint8(), [(255, 255)]),
        "i24": ("mediumint", pa.int32(), [(-(2**23), -(2**23))]),
        "u32": ("int unsigned", pa.uint32(), [(2**32 - 1, 2**32 - 1)]),
        "i64": ("bigint", pa.int64(), [(-(2**63), -(2**63))]),
        "u64": ("bigint unsigned", pa.uint64(), [(2**64 - 1, 2**64 - 1)]),
        "f32": ("float", pa.float32(), [(0.5, 0.5)]),
        "f64": ("double", pa.float64(), [(0.1, 0.1)]),
        "n": ("decimal(20,12)", pa.decimal128(21, 12), [("12345678.123456789012", Decimal("12345678.123456789012"))]),
        "nu": ("decimal(38,2) unsigned", pa.decimal128(38, 2), [("9" * 36 + ".99", Decimal("9" * 36 + ".99"))]),
        "wide": ("decimal(65,30)", pa.string(), [("1" * 35 + "." + "2" * 30, "1" * 35 + "." + "2" * 30)]),
        "d": ("date", pa.date32(), [("2024-02-29", date(2024, 2, 29)), ("0001-01-01", date(1, 1, 1))]),
        "dt": ("datetime(6)", pa.timestamp("us"), [("9999-12-31 23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999999))]),
        "ts": ("timestamp null", pa.timestamp("us", "UTC"), [("2024-01-01 12:00:00", datetime(2024, 1, 1, 12, tzinfo=UTC))]),
        "tm": ("time(6)", pa.string(), [("-838:59:59.5", "-838:59:59.500000")]),
        "y": ("year", pa.int16(), [(2024, 2024)]),
        "c": ("char(4)", pa.string(), [("ab", "ab")]),
        "v": ("varchar(20) character set utf8mb4", pa.string(), [("ünï😀", "ünï😀"), ("", "")]),
        "l1": ("varchar(20) character set latin1", pa.string(), [("é", "é")]),
        "long_": ("longtext", pa.string(), [("x" * 70_000, "x" * 70_000)]),
        "bi": ("binary(3)", pa.binary(), [(b"\x00\xff", b"\x00\xff\x00")]),
        "bl": ("blob", pa.binary(), [(b"\x00\xff", b"\x00\xff")]),
        "j": ("json", pa.string(), [('{"a": [1, null]}', '{"a": [1, null]}')]),
        "e": ("enum('glad','sad')", pa.string(), [("sad", "sad")]),
        "s": ("set('x','y')", pa.string(), [("x,y", "x,y")]),
        "bits": ("bit(10)", pa.uint64(), [(513, 513)]),
        "u": ("uuid", pa.string(), [("123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-12d3-a456-426655440000")]),
        "g": ("point", pa.string(), []),
    }

    def test_every_type_comes_exactly(self, kind, url, opened):
        types = getattr(self, kind.upper())
        if kind == "postgresql":
            ask(url, "drop table if exists v", "drop type if exists mood", "create type mood as enum ('sad', 'glad')")
            ask(url, "drop domain if exists percent_", "create domain percent_ as int check (value between 0 and 100)")
        columns = ", ".join(f"{name} {spec[0]}" for name, spec in types.items())
        ask(url, "drop table if exists v", f"create table v (id int primary key, {columns})")
        utc = "set session time_zone = '+00:00'" if kind == "mariadb" else "set timezone = 'UTC'"
        number = 0
        expected = {}
        for name, (declared, _, values) in types.items():
            for given_, meant in values:
                number += 1
                expected[number] = (name, meant)
                cast = f"cast(%s as {declared})" if kind == "postgresql" else "%s"
                ask(url, utc, f"insert into v (id, {name}) values ({number}, {cast})", rows=[(given_,)])
        ask(url, f"insert into v (id) values ({number + 1})")
        source = opened(table="v")
        table = read(source)
        assert {name: str(table.schema.field(name).type) for name in types} == {name: str(spec[1]) for name, spec in types.items()}
        assert rejects(source) == []
        assert table.num_rows == number + 1
        for row, (name, meant) in expected.items():
            others = {key: value for key, value in table.slice(row - 1, 1).to_pylist()[0].items() if key not in (name, "id")}
            assert (name, table[name][row - 1].as_py()) == (name, meant)
            assert set(others.values()) == {None}

    def test_what_no_type_can_hold_is_set_aside_and_named_postgresql(self, postgresql):
        values = [
            ("d", "infinity"), ("d", "-infinity"), ("d", "10000-01-01"), ("d", "0001-12-31 BC"), ("ts", "infinity"), ("ts", "-infinity"),
            ("ts", "294276-12-31 23:59:59"), ("tz", "infinity"), ("n", "NaN"), ("tm", "24:00:00"), ("a", "{{1,2},{3,4}}"),
        ]  # fmt: skip
        ask(
            postgresql,
            "drop table if exists w",
            "create table w (id serial primary key, d date, ts timestamp, tz timestamptz, n numeric(9,2), tm time, a int[])",
        )
        ask(postgresql, "insert into w (d) values ('2024-01-01')")
        for name, value in values:
            ask(postgresql, f"insert into w ({name}) values ('{value}')")
        source = open_source({"type": "sql", "url": postgresql, "table": "w"})
        assert read(source)["id"].to_pylist() == [1]
        found = rejects(source)
        assert [row["line"] for row in found] == list(range(1, len(values) + 1))
        assert [row["reason"] for row in found] == [f"the value of {name!r} cannot be held by its type" for name, _ in values]
        assert [row["raw"] for row in found][:2] == ["infinity", "-infinity"]
        assert (found[-1]["raw"], found[-3]["raw"]) == ("{{1,2},{3,4}}", "'nan'")
        assert read(source, columns=["id"]).num_rows == len(values) + 1  # a column that is not asked for sets nothing aside

    def test_dates_that_are_none_are_set_aside_and_named_mariadb(self, mariadb):
        ask(mariadb, "drop table if exists w", "create table w (id int primary key, d date, dt datetime(3), ts timestamp null)")
        values = [
            ("d", "0000-00-00"),
            ("d", "2024-00-10"),
            ("dt", "2024-02-00 01:02:03"),
            ("dt", "0000-00-00"),
            ("ts", "0000-00-00"),
            ("d", "2024-02-29"),
        ]
        for number, (name, value) in enumerate(values):
            ask(mariadb, "set sql_mode = ''", f"insert into w (id, {name}) values ({number}, '{value}')")
        source = open_source({"type": "sql", "url": mariadb, "table": "w"})
        assert read(source)["d"].to_pylist() == [date(2024, 2, 29)]
        assert [(row["line"], row["raw"].partition(".")[0]) for row in rejects(source)] == [
            (0, "0000-00-00"), (1, "2024-00-10"), (2, "2024-02-00 01:02:03"), (3, "0000-00-00 00:00:00"), (4, "0000-00-00 00:00:00")
        ]  # fmt: skip

    def test_bytes_that_are_no_text_in_a_database_without_an_encoding(self, postgresql):
        ask(
            postgresql,
            "drop database if exists bytes",
            "create database bytes encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'",
        )
        url = postgresql.removesuffix("postgres") + "bytes"
        ask(url, "create table t (id int primary key, x text)", "insert into t values (1, 'good'), (2, convert_from('\\xff', 'SQL_ASCII'))")
        source = open_source({"type": "sql", "url": url, "table": "t"})
        assert read(source)["x"].to_pylist() == ["good"]
        assert [row["line"] for row in rejects(source)] == [1]

    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        rows=st.lists(
            st.tuples(
                st.none() | st.integers(-(2**63), 2**63 - 1),
                st.none() | st.floats(allow_nan=False, width=64),
                st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
                st.none() | st.binary(max_size=20),
                st.none() | st.decimals(-(10**9), 10**9, places=4),
                st.none() | st.dates(date(1000, 1, 1)),
                st.none() | st.datetimes(datetime(1000, 1, 1)),
                st.none() | st.booleans(),
                st.none() | st.uuids(),
            ),
            min_size=1,
            max_size=8,
        )
    )
    def test_whatever_is_written_is_read(self, kind, url, opened, rows):
        kinds = {
            "postgresql": "bigint, b double precision, c text, d bytea, e numeric(20,4), f date, g timestamp, h boolean, i uuid",
            "mariadb": "bigint, b double, c text character set utf8mb4, d blob, e decimal(20,4), f date, g datetime(6), h tinyint(1), i char(36)",  # noqa: E501
        }[kind]
        if kind == "mariadb":  # which has no infinite numbers
            rows = [(a, None if b in (float("inf"), float("-inf")) else b, *rest) for a, b, *rest in rows]
        written = [(number, *row[:-1], None if row[-1] is None else str(row[-1])) for number, row in enumerate(rows)]
        ask(url, "drop table if exists h", f"create table h (id int primary key, a {kinds})")
        places = ", ".join(["%s"] * 10)
        ask(url, f"insert into h values ({places})", rows=written)
        source = opened(table="h")
        assert [tuple(row.values()) for row in read(source).to_pylist()] == written
        assert rejects(source) == []


class TestFilters:
    @pytest.fixture
    def people(self, kind, url, opened):
        words = ["Rome", "rome", "ROME ", "Oslo", "it's", "back\\slash", "100%", ":colon", None]
        start = datetime(2024, 1, 1)
        rows = [(n, n % 90, words[n % 9], n / 8, start + timedelta(hours=n), Decimal(n) / 4) for n in range(2000)]
        double, text = ("double", "varchar(20) character set utf8mb4") if kind == "mariadb" else ("double precision", "text")
        moment = "datetime" if kind == "mariadb" else "timestamp"
        columns = f"id int primary key, age int, city {text}, score {double}, seen {moment}, paid decimal(10,2)"
        ask(url, "drop table if exists people", f"create table people ({columns})")
        ask(url, "insert into people values (%s, %s, %s, %s, %s, %s)", rows=rows)
        return opened

    @pytest.mark.parametrize(
        "text",
        [
            "age < 3",
            'city == "Rome" and age > 80',
            'city in ["it\'s", "100%", ":colon"] and id < 100',
            'city == "back\\\\slash" and id < 300',
            "score <= 2.5 or age == 89",
            'seen >= timestamp("2024-03-20T00:00:00")',
            "not (city is None) and 10 <= id < 20",
            "paid > 495.1 or paid == 3.25",
        ],
    )
    def test_fewer_rows_and_bytes_come_for_the_same_answer(self, people, monkeypatch, text):
        source = people(table="people")
        whole, where = read(source), RowExpression(text).arrow
        with fetched(monkeypatch) as every:
            read(source)
        with fetched(monkeypatch) as some:
            found = read(source, where=where)
        assert found.equals(whole.filter(where))
        assert 0 < found.num_rows <= some["rows"] < every["rows"] == 2000
        with fetched(monkeypatch) as few:
            assert read(source, columns=["age"], where=where).equals(whole.filter(where).select(["age"]))
        assert few["bytes"] < some["bytes"] < every["bytes"]

    def test_the_recipe_s_own_filter_holds_in_every_read(self, people):
        source = people(table="people", where="age < 3")
        assert set(read(source)["age"].to_pylist()) == {0, 1, 2}
        assert set(read(source, columns=["age"], where=pc.field("age") > 0)["age"].to_pylist()) == {1, 2}


class TestNames:
    def test_names_that_need_quotes(self, kind, url, opened):
        mark = '"' if kind == "postgresql" else "`"
        names = ["select", "Upper Case", "a.b", "per%cent", "co:lon", "é"]
        columns = ", ".join(f"{mark}{name}{mark} int" for name in names)
        ask(url, f"drop table if exists {mark}odd name{mark}", f"create table {mark}odd name{mark} ({columns})")
        places = ", ".join("123456"[: len(names)])
        ask(url, f"insert into {mark}odd name{mark} values ({places})")
        source = opened(table="odd name")
        assert read(source).to_pylist() == [dict(zip(names, range(1, 7), strict=True))]
        assert read(source, columns=["per%cent"], where=pc.field("per%cent") == 4)["per%cent"].to_pylist() == [4]

    def test_a_query_with_percent_colon_cast_comment_and_quotes(self, postgresql):
        query = "select 7 % 4 as a, ':x'::text as b, 'it''s 100%' as c, '\\:' as d -- the end;\n;"
        source = open_source({"type": "sql", "url": postgresql, "query": query, "order_by": "a"})
        assert read(source).to_pylist() == [{"a": 3, "b": ":x", "c": "it's 100%", "d": "\\:"}]

    def test_a_table_of_another_schema(self, postgresql):
        ask(
            postgresql,
            "create schema if not exists sales",
            "drop table if exists sales.orders",
            "create table sales.orders (id int primary key)",
        )
        ask(postgresql, "insert into sales.orders values (7)")
        assert read(open_source({"type": "sql", "url": postgresql, "table": "sales.orders"}))["id"].to_pylist() == [7]
        with pytest.raises(UnknownNameError, match=r"did you mean 'sales\.orders'"):
            open_source({"type": "sql", "url": postgresql, "table": "sales.order"}).schema()

    def test_two_columns_of_one_name(self, opened):
        with pytest.raises(DataError, match=r"more than one column named 'a'|Duplicate column name 'a'"):
            opened(query="select 1 as a, 2 as a").schema()


def test_uuids_are_compared_as_their_text(postgresql):
    one = UUID("123e4567-e89b-12d3-a456-426655440000")
    ask(
        postgresql, "drop table if exists u", "create table u (id uuid primary key)", f"insert into u values ('{one}'), (gen_random_uuid())"
    )
    source = open_source({"type": "sql", "url": postgresql, "table": "u"})
    assert read(source, where=pc.field("id") == str(one))["id"].to_pylist() == [str(one)]
    assert read(source, where=pc.field("id") == "no uuid").num_rows == 0
