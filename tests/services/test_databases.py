"""Tables of real PostgreSQL and MariaDB servers: the contract of sources, exact types, lost servers, mistakes, and passwords that stay."""

import json
import logging
import os
import signal
import subprocess
import threading
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.services.conftest import POSTGRESQL, as_user, connects, folder_of, free_port, program, server

import deepseek
from deepseek import progress
from deepseek.data.expressions import RowExpression
from deepseek.data.sources import open_source
from deepseek.data.sources.contract import SourceContract
from deepseek.data.sources.sql.engines import Engine
from deepseek.data.sources.sql.failures import LostError
from deepseek.data.sources.sql.mysql import MysqlEngine
from deepseek.data.sources.sql.postgresql import PostgresqlEngine
from deepseek.errors import DataError, UnknownNameError

TABLE = pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "w"], "c": [0.5, 1.5, None, 2.5]})
SECRET = "secret-word"
FAST = {"postgresql": "adbc", "mariadb": "connectorx"}


def ask(url, *statements, rows=()):
    """Run statements; the last one once for each row."""
    if url.startswith("postgresql"):
        import psycopg

        connection = psycopg.connect(url, autocommit=True)
    else:
        import pymysql
        from sqlalchemy.engine import make_url

        place = make_url(url)
        connection = pymysql.connect(
            host=place.host, port=place.port, user=place.username, password=place.password, database=place.database, autocommit=True
        )
    with closing(connection), connection.cursor() as cursor:
        for statement in statements[:-1] if rows else statements:
            cursor.execute(statement)
        if rows:
            cursor.executemany(statements[-1], list(rows))


@pytest.fixture(params=["postgresql", "mariadb"])
def kind(request):
    return request.param


@pytest.fixture
def url(kind, request):
    return request.getfixturevalue(kind)


@pytest.fixture
def opened(url):
    return lambda **keys: open_source({"type": "sql", "url": url, "retries": 2} | keys)


def read(source, **request):
    batches = list(source.read(**request))
    return pa.Table.from_batches(batches) if batches else source.schema().empty_table()


def rejects(source):
    return [row for batch in source.rejects() for row in batch.to_pylist()]


@contextmanager
def fetched(monkeypatch):
    """How many rows and bytes come from the server."""
    counts = {"rows": 0, "bytes": 0}

    def counting(plain):
        def stream(self, *arguments, **named):
            for batch in plain(self, *arguments, **named):
                counts["rows"] += batch.num_rows
                counts["bytes"] += batch.nbytes
                yield batch

        return stream

    with monkeypatch.context() as patch:
        for engine in (PostgresqlEngine, MysqlEngine):
            patch.setattr(engine, "stream", counting(engine.stream))
        yield counts


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


class TestMistakes:
    def test_a_wrong_password(self, mariadb):
        wrong = mariadb.replace(SECRET, "wrong-word")
        with pytest.raises(DataError, match="lets this user not in") as caught:
            open_source({"type": "sql", "url": wrong, "table": "t", "retries": 0}).schema()
        assert "wrong-word" not in str(caught.value)

    def test_an_unknown_user(self, postgresql):
        with pytest.raises(DataError, match="lets this user not in"):
            open_source({"type": "sql", "url": postgresql.replace("postgres:", "nobody:"), "table": "t"}).schema()

    def test_an_unknown_database(self, url):
        with pytest.raises(DataError, match=r"is not there|lets this user not in"):  # MariaDB does not say what a user may not see
            open_source({"type": "sql", "url": url + "x", "table": "t"}).schema()

    @pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
    def test_an_unknown_host(self, scheme):
        with pytest.raises(DataError, match="the host of") as caught:
            open_source({"type": "sql", "url": f"{scheme}://me:{SECRET}@no.such.host.invalid/d", "table": "t"}).schema()
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
    def test_a_server_that_is_not_there(self, scheme):
        source = open_source({"type": "sql", "url": f"{scheme}://me:{SECRET}@127.0.0.1:{free_port()}/d", "table": "t", "retries": 1})
        with pytest.raises(DataError, match="cannot be reached") as caught:
            source.schema()
        assert SECRET not in str(caught.value)

    def test_a_query_that_is_none(self, opened):
        with pytest.raises(DataError, match=r"the database refuses the query: .*syntax"):
            opened(query="selec 1").schema()

    def test_a_column_that_a_query_does_not_find(self, postgresql):
        ask(postgresql, "drop table if exists t", "create table t (customer int)")
        with pytest.raises(DataError, match=r'column "custmer" does not exist\n  Perhaps you meant'):
            open_source({"type": "sql", "url": postgresql, "query": "select custmer from t"}).schema()

    def test_a_failure_in_the_middle_is_no_lost_connection(self, postgresql):
        source = open_source(
            {"type": "sql", "url": postgresql, "query": "select g, 1 / (g - 50000) as x from generate_series(1, 90000) g", "order_by": "g"}
        )
        with pytest.raises(DataError, match="division by zero"):
            list(source.read())


@pytest.fixture(params=["postgresql", "mariadb"])
def mortal(request):
    """A server of its own, its URL, and functions that kill it as a crash would and begin it again."""
    kind = request.param
    user = {"postgresql": "postgres", "mariadb": "mysql"}[kind]
    with folder_of(user) as folder:
        port, data = free_port(), folder / "data"
        command, url, connect = (_postgresql if kind == "postgresql" else _mariadb)(folder, port, data)
        stack = []

        def start():
            running = server(command, user=user, folder=folder, ready=lambda: connects(connect))
            running.__enter__()
            stack.append(running)

        def kill():
            how = signal.SIGQUIT if kind == "postgresql" else signal.SIGKILL  # PostgreSQL: at once, its children too
            found = subprocess.run(["pgrep", "-f", str(data)], capture_output=True, text=True, check=True)
            for pid in found.stdout.split():
                if f"{data}" in _command_of(pid):
                    os.kill(int(pid), how)
            stack.pop().__exit__(None, None, None)

        start()
        try:
            yield kind, url, start, kill
        finally:
            while stack:
                stack.pop().__exit__(None, None, None)


def _command_of(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read()  # noqa: PTH123
    except OSError:
        return ""


def _postgresql(folder, port, data):
    psycopg = pytest.importorskip("psycopg")
    initdb, postgres = (program(name, "postgresql", *POSTGRESQL) for name in ("initdb", "postgres"))
    subprocess.run(
        [initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"],
        cwd=folder,
        check=True,
        capture_output=True,
        **as_user("postgres"),
    )
    options = {"port": port, "unix_socket_directories": folder, "listen_addresses": "127.0.0.1"}
    command = [postgres, "-D", str(data), *(part for key, value in options.items() for part in ("-c", f"{key}={value}"))]
    url = f"postgresql://postgres:{SECRET}@127.0.0.1:{port}/postgres"
    return command, url, lambda: psycopg.connect(url)


def _mariadb(folder, port, data):
    pymysql = pytest.importorskip("pymysql")
    install, daemon = (program(name, "mariadb-server") for name in ("mariadb-install-db", "mariadbd"))
    common = ["--no-defaults", f"--datadir={data}", *(["--user=mysql"] if os.geteuid() == 0 else [])]
    subprocess.run(
        [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], cwd=folder, check=True, capture_output=True
    )
    command = [
        daemon,
        *common,
        f"--port={port}",
        f"--socket={folder / 's'}",
        f"--pid-file={folder / 'pid'}",
        "--bind-address=127.0.0.1",
        "--skip-log-bin",
    ]
    return command, f"mysql://root@127.0.0.1:{port}/mysql", lambda: pymysql.connect(host="127.0.0.1", port=port, user="root")


ROWS = 200_000


class TestLostServer:
    @pytest.fixture
    def filled(self, mortal):
        kind, url, start, kill = mortal
        numbers = f"generate_series(1, {ROWS}) g" if kind == "postgresql" else f"(select seq as g from seq_1_to_{ROWS}) q"
        key = "create table big (id bigint primary key, pad varchar(200), half double precision)"
        ask(url, key, f"insert into big select g * 3, concat(g, repeat('x', 150)), g / 2.0 from {numbers}")
        # a key that is a float is no place to go on from
        ask(url, "create table loose (half double precision primary key, pad varchar(200))", "insert into loose select half, pad from big")
        return kind, url, start, kill

    # so slow that the server is always killed in the middle, however far the client reads ahead
    SLOW: ClassVar = {
        "postgresql": "case when cast(half as int) % 100 = 0 then pg_sleep(0.01) is not null else true end",
        "mariadb": "if(cast(half as int) % 100 = 0, sleep(0.01), 0) = 0",
    }

    def test_reading_goes_on_where_it_stopped_and_equals_a_read_without_a_loss(self, filled, monkeypatch):
        kind, url, start, kill = filled
        spec = {"type": "sql", "url": url, "table": "big", "retries": 8}
        expected = read(open_source(spec))
        assert expected.num_rows == ROWS
        source, said = open_source(spec), []
        source.schema()
        monkeypatch.setattr(progress, "log", said.append)
        _slowly(monkeypatch, self.SLOW[kind])
        batches = source.read(batch_rows=5000)
        first = next(batches)
        kill()
        start()
        monkeypatch.undo()
        monkeypatch.setattr(progress, "log", said.append)
        table = pa.Table.from_batches([first, *batches])
        assert any("was lost after" in line for line in said)
        assert table.equals(expected)

    @pytest.mark.parametrize("order_by", [None, ["age", "name"]])
    def test_a_key_of_text_goes_on_by_the_database_s_own_order(self, mortal, monkeypatch, order_by):
        kind, url, _start, _kill = mortal
        text = "varchar(20) character set latin1" if kind == "mariadb" else "varchar(20)"
        names = sorted({f"{word}{n}" for n in range(1000) for word in ("é", "E", "z", "Z", "it's ", "b\\")})
        names = [name for name in names if name.lower() == name or kind == "postgresql"]  # its collation takes Z for z
        ask(url, f"create table named (name {text} primary key, age int{' not null' if order_by else ''})")
        ask(url, "insert into named values (%s, %s)", rows=[(name, len(name)) for name in names])
        source = open_source({"type": "sql", "url": url, "table": "named", "order_by": order_by or [], "retries": 9})
        expected = read(source)
        assert expected.num_rows == len(names)
        for lost_after in (1, 700, len(names) - 1):  # the connection is lost in the client, so that the place is known
            _lost_once(monkeypatch, lost_after)
            assert read(source, batch_rows=100).equals(expected)
            monkeypatch.undo()

    def test_a_key_that_may_be_missing_is_none_to_go_on_from(self, mortal, monkeypatch):
        _, url, _, _ = mortal
        ask(url, "create table gaps (id int primary key, age int)", "insert into gaps values (%s, %s)", rows=[(1, 5), (2, None), (3, 4)])
        source = open_source({"type": "sql", "url": url, "table": "gaps", "order_by": "age"})
        assert set(read(source)["id"].to_pylist()) == {1, 2, 3}
        _lost_once(monkeypatch, 1)
        with pytest.raises(DataError, match="was lost after 1 rows were read"):
            list(source.read(batch_rows=1))

    def test_without_a_unique_key_the_error_says_how_far_it_came(self, filled, monkeypatch):
        kind, url, _start, kill = filled
        source = open_source({"type": "sql", "url": url, "table": "loose", "retries": 1})
        source.schema()
        _slowly(monkeypatch, self.SLOW[kind])
        batches = source.read(batch_rows=5000)
        next(batches)
        kill()
        with pytest.raises(DataError, match=r"was lost after [\d,]+ rows were read.*(\n.*)*order_by on a unique key"):
            list(batches)

    def test_a_server_that_does_not_come_back(self, filled, monkeypatch):
        kind, url, _start, kill = filled
        source = open_source({"type": "sql", "url": url, "table": "big", "retries": 1})
        source.schema()
        _slowly(monkeypatch, self.SLOW[kind])
        batches = source.read(batch_rows=5000)
        next(batches)
        kill()
        with pytest.raises(DataError, match=r"was lost after [\d,]+ rows, the last of which had id = \d+, were read"):
            list(batches)

    def test_a_server_that_is_only_starting_is_waited_for(self, mortal):
        _, url, start, kill = mortal
        ask(url, "create table few (id int primary key)", "insert into few values (5)")
        kill()
        starter = threading.Timer(0.5, start)
        starter.start()
        try:
            assert read(open_source({"type": "sql", "url": url, "table": "few", "retries": 12}))["id"].to_pylist() == [5]
        finally:
            starter.join()


def _lost_once(monkeypatch, rows):
    """Lose the connection once, after so many rows."""
    left = [rows]

    def losing(plain):
        def stream(self, *arguments, **named):
            for batch in plain(self, *arguments, **named):
                if left and left[0] <= batch.num_rows:
                    yield batch.slice(0, left.pop())
                    raise LostError("as if the server had gone")
                if left:
                    left[0] -= batch.num_rows
                yield batch

        return stream

    for engine in (PostgresqlEngine, MysqlEngine):
        monkeypatch.setattr(engine, "stream", losing(engine.stream))


def _slowly(monkeypatch, pause):
    """Let the server sleep now and then while it sends rows."""
    plain = Engine.written

    def slowed(self, statement):
        return plain(self, statement).replace("ORDER BY", f"WHERE {pause} ORDER BY")

    monkeypatch.setattr(Engine, "written", slowed)


class TestMemory:
    def test_it_stays_flat_however_long_the_table(self, kind, url):
        """In a process of its own: ten times the rows, and the same memory."""
        numbers = "generate_series(1, 1000000) g" if kind == "postgresql" else "(select seq as g from seq_1_to_1000000) q"
        ask(url, "drop table if exists long_", "create table long_ (id bigint primary key, a bigint, pad varchar(60))")
        ask(url, f"insert into long_ select g, g, concat(g, repeat('x', 50)) from {numbers}")
        program_ = (
            "import resource, sys\nfrom deepseek.data.sources import open_source\n"
            f"source = open_source({{'type': 'sql', 'url': {url!r}, 'table': 'long_', 'where': 'id <= ' + sys.argv[1]}})\n"
            "rows = sum(batch.num_rows for batch in source.read())\n"
            "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        peaks = []
        for rows in (100_000, 1_000_000):
            done = subprocess.run([os.sys.executable, "-c", program_, str(rows)], capture_output=True, text=True, check=True)
            read_, peak = map(int, done.stdout.split())
            assert read_ == rows
            peaks.append(peak)
        assert peaks[1] - peaks[0] < 110  # MiB, of more than 70 that the rows take; the buffer holds 64


@pytest.fixture
def customers(kind, url):
    rows = [(n, 20 + n % 50, ("pro", "free")[n % 2], round(n % 37 / 3, 2), ("no", "yes")[n % 50 > 25]) for n in range(400)]
    columns = "customer_id int primary key, age int, plan varchar(10), spend decimal(8,2), churned varchar(3)"
    ask(
        url,
        "drop table if exists customers",
        f"create table customers ({columns})",
        "insert into customers values (%s, %s, %s, %s, %s)",
        rows=rows,
    )
    return url


def command(*words, folder, env=()):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "DEEPSEEK_PASSWORD"))}
    return subprocess.run(
        [os.sys.executable, "-m", "deepseek", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environment, **dict(env)},
        check=False,
    )


def holds_secret(folder):
    """The files below a folder that hold the password."""
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


QUICK = ("--set", "train.epochs=2", "--set", "model=mlp")


class TestRoad:
    def test_a_table_is_trained_on_and_a_query_answered(self, kind, customers, tmp_path):
        done = command("train", customers, "--table", "customers", "--target", "churned", *QUICK, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        run = tmp_path / "runs/customers/001"
        answered = command(
            "predict",
            str(run),
            customers,
            "--query",
            "select * from customers where customer_id < 10 order by customer_id",
            "-o",
            "a.jsonl",
            folder=tmp_path,
        )
        assert answered.returncode == 0, answered.stderr
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 10
        assert json.loads((run / "data.json").read_text())["sources"]["source"]["rows"]["kept"] == 400
        assert command("evaluate", str(run), customers, "--table", "customers", folder=tmp_path).returncode == 0

    def test_a_password_in_the_url_is_saved_nowhere_and_asked_for_again(self, kind, customers, tmp_path):
        done = command("train", customers, "--table", "customers", "--target", "churned", *QUICK, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "DEEPSEEK_PASSWORD" in done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert holds_secret(tmp_path) == []
        again = command("run", "runs/customers/001", folder=tmp_path)
        assert again.returncode == 2
        assert "the environment variable 'DEEPSEEK_PASSWORD' is not set" in again.stderr
        assert command("run", "runs/customers/001", folder=tmp_path, env={"DEEPSEEK_PASSWORD": SECRET}.items()).returncode == 0

    def test_a_variable_that_holds_the_url_is_referred_to(self, kind, customers, tmp_path):
        env = {"DATABASE_URL": customers}.items()
        done = command("train", customers, "--table", "customers", "--target", "churned", *QUICK, folder=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert "${ENV:DATABASE_URL}" in (tmp_path / "runs/customers/001/recipe.yaml").read_text()
        assert SECRET not in done.stdout + done.stderr
        assert holds_secret(tmp_path) == []

    def test_a_recipe_takes_it_from_the_environment(self, kind, customers, tmp_path):
        recipe = tmp_path / "churn.yaml"
        recipe.write_text(
            'data:\n  source: {type: sql, url: "${ENV:DATABASE_URL}", table: customers, order_by: customer_id}\n'
            "  target: churned\ntrain: {epochs: 2}\nmodel: mlp\n"
        )
        done = command("run", str(recipe), folder=tmp_path, env={"DATABASE_URL": customers}.items())
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert holds_secret(tmp_path) == []

    @pytest.mark.parametrize(
        "change",
        [
            lambda url: url.replace(SECRET, "other-secret-word"),
            lambda url: url + "_none",
            lambda url: url.replace("127.0.0.1", "no.host.invalid"),
        ],
    )
    def test_no_error_shows_it(self, kind, customers, tmp_path, change):
        done = command(
            "train", change(customers), "--table", "customers", "--target", "churned", "--set", "data.source.retries=0", folder=tmp_path
        )
        assert SECRET not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert holds_secret(tmp_path) == []
        if not (kind == "postgresql" and "other" in change(customers)):  # the test's server trusts whoever comes
            assert done.returncode == 2

    def test_an_unchanged_table_is_prepared_once(self, kind, customers, tmp_path):
        for _ in range(2):
            deepseek.train(
                {"type": "sql", "url": customers, "table": "customers"},
                target="churned",
                out=tmp_path / "runs",
                overrides=["train.epochs=1", "model=mlp"],
                progress=False,
            )
        assert len(list((tmp_path / "runs/.cache/prepared").iterdir())) == 1


def test_nothing_of_connectorx_or_adbc_is_logged_with_the_password(customers, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        read(open_source({"type": "sql", "url": customers, "table": "customers"}))
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + out + err


def test_uuids_are_compared_as_their_text(postgresql):
    one = UUID("123e4567-e89b-12d3-a456-426655440000")
    ask(
        postgresql, "drop table if exists u", "create table u (id uuid primary key)", f"insert into u values ('{one}'), (gen_random_uuid())"
    )
    source = open_source({"type": "sql", "url": postgresql, "table": "u"})
    assert read(source, where=pc.field("id") == str(one))["id"].to_pylist() == [str(one)]
    assert read(source, where=pc.field("id") == "no uuid").num_rows == 0
