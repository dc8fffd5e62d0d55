"""Databases as sources, on SQLite: order, types, filters, keys, and what is said of mistakes."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek import progress
from deepseek.data.expressions import RowExpression
from deepseek.data.landing import land
from deepseek.data.sources import is_database, open_source
from deepseek.data.sources.sql import source as source_of_sql
from deepseek.data.sources.sql.address import Address
from deepseek.data.sources.sql.alchemy import AlchemyEngine
from deepseek.data.sources.sql.columns import Column
from deepseek.data.sources.sql.drain import Drain
from deepseek.data.sources.sql.failures import LostError, explained
from deepseek.data.sources.sql.filters import understood
from deepseek.errors import DataError, InputError, UnknownNameError


@pytest.fixture
def database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table customers (id integer primary key, age integer, city text, score real)")
        rows = [(n, 18 + n % 50, ("Rome", "rome", "Oslo", None)[n % 4], n / 4 if n % 7 else None) for n in range(200)]
        connection.executemany("insert into customers values (?, ?, ?, ?)", rows)
        connection.commit()
        yield connection


@pytest.fixture
def opened(database, tmp_path):
    def make(**keys):
        return open_source({"type": "sql", "url": "sqlite:///shop.db", **({"table": "customers"} | keys)}, folder=tmp_path)

    return make


def rows_of(source, **request):
    return pa.Table.from_batches(list(source.read(**request)), None if request else source.schema())


def queries(monkeypatch):
    """Every statement that is sent for rows, and how many rows come back."""
    sent, fetched = [], []
    plain = AlchemyEngine._rows

    def watched(self, text, rows):
        sent.append(text)
        for found in plain(self, text, rows):
            fetched.append(len(found))
            yield found

    monkeypatch.setattr(AlchemyEngine, "_rows", watched)
    return sent, fetched


def test_urls_of_databases_are_told_from_paths():
    assert all(map(is_database, ["postgresql://h/d", "mariadb://u@h/d", "sqlite:///a.db", "mssql+pyodbc://h/d", "new+driver://h"]))
    assert not any(map(is_database, ["a.csv", "s3://bucket/a.csv", "C:\\a.csv", "https://h/a.csv", 3]))


class TestOrder:
    def test_a_table_comes_by_its_primary_key_whatever_the_order_on_disk(self, database, opened):
        database.execute("create table t (k text primary key, v)")
        database.executemany("insert into t values (?, ?)", [("b", 1), ("c", 2), ("a", 3)])
        database.commit()
        assert rows_of(opened(table="t"))["v"].to_pylist() == [3, 1, 2]

    def test_order_by_goes_before_and_the_primary_key_settles_ties(self, opened):
        table = rows_of(opened(order_by="age"))
        assert table.to_pylist() == sorted(table.to_pylist(), key=lambda row: (row["age"], row["id"]))

    def test_without_a_key_all_columns_decide_and_a_warning_says_so(self, opened):
        with progress.collected_warnings() as warnings:
            table = rows_of(opened(table=None, query="select age, city from customers"))
        assert table.num_rows == 200
        assert table["age"].to_pylist() == sorted(table["age"].to_pylist())
        assert any("ordered by all of their columns" in warning for warning in warnings)

    def test_order_by_of_a_query_must_tell_all_rows_apart(self, opened):
        source = opened(table=None, query="select age, id from customers", order_by="age")
        with pytest.raises(DataError, match=r"rows 0 and 1, counted from 0, share the value of order_by \(age\)"):
            list(source.read())
        assert rows_of(opened(table=None, query="select age, id from customers", order_by=["age", "id"])).num_rows == 200

    def test_ties_are_seen_across_batches(self, database, opened):
        database.execute("insert into customers values (1000, 500, 'x', 1), (1001, 500, 'x', 1)")
        database.commit()
        source = opened(table=None, query="select age, id from customers where age = 500 or id < 1", order_by="age")
        with pytest.raises(DataError, match="rows 1 and 2"):
            list(source.read(batch_rows=2))

    def test_order_by_must_have_a_value_in_every_row(self, opened):
        with pytest.raises(DataError, match="has no value of order_by"):
            list(opened(table=None, query="select distinct city from customers", order_by="city").read())


class TestLostConnection:
    def test_a_missing_key_is_none_to_go_on_from(self, database, opened, monkeypatch):
        """SQLite alone allows a primary key without a value: nothing at all is greater than that."""
        database.execute("create table t (k text primary key, v integer)")
        database.executemany("insert into t values (?, ?)", [(None, 1), ("a", 2), ("b", 3)])
        database.commit()
        monkeypatch.setattr(source_of_sql, "_wait", lambda losses: None)
        plain = AlchemyEngine.stream
        for lost_after in (1, 2):
            left = [lost_after]

            def stream(self, *arguments, left=left, **named):
                for batch in plain(self, *arguments, **named):
                    if left:
                        yield batch.slice(0, left.pop())
                        raise LostError("as if the server had gone")
                    yield batch

            monkeypatch.setattr(AlchemyEngine, "stream", stream)
            if lost_after == 1:
                with pytest.raises(DataError, match="was lost after 1 rows were read"):
                    rows_of(opened(table="t"))
            else:
                assert rows_of(opened(table="t"))["v"].to_pylist() == [1, 2, 3]


class TestTypes:
    def read(self, database, opened, values):
        database.execute("create table v (n integer primary key, x)")
        database.executemany("insert into v (x) values (?)", [(value,) for value in values])
        database.commit()
        source = opened(table="v")
        return rows_of(source)["x"], [row for batch in source.rejects() for row in batch.to_pylist()]

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ([1, None, -(2**63), 2**63 - 1], pa.int64()),
            ([1, 2.5, None], pa.float64()),
            (["é", "😀", "", None], pa.string()),
            ([b"\x00\xff", None], pa.binary()),
            ([None, None], pa.null()),
        ],
    )
    def test_the_narrowest_type_that_holds_all(self, database, opened, values, kind):
        column, rejects = self.read(database, opened, values)
        assert (column.type, column.to_pylist(), rejects) == (kind, values, [])

    def test_whole_numbers_beyond_floats_stay_exact_beside_floats(self, database, opened):
        column, _ = self.read(database, opened, [2**53 + 1, 0.5])
        assert column.to_pylist() == ["9007199254740993", "0.5"]

    def test_bytes_among_texts_are_set_aside_and_named(self, database, opened):
        column, rejects = self.read(database, opened, ["a", b"\xff", "b"])
        assert column.to_pylist() == ["a", "b"]
        assert rejects == [{"line": 1, "reason": "the value of 'x' cannot be held by its type", "raw": "b'\\xff'"}]

    def test_what_was_set_aside_lands_among_the_rejects(self, database, opened, tmp_path):
        self.read(database, opened, ["a", b"\xff", "b"])
        landed = land(opened(table="v"), [], tmp_path / "landed")
        assert (landed.counts.kept, landed.counts.malformed) == (2, 1)
        assert "cannot be held" in (tmp_path / "landed/rejects/malformed.jsonl").read_text()

    def test_objects_of_other_drivers(self):
        from deepseek.data.sources.sql.alchemy import _array, _Seen

        def typed(values):
            seen = _Seen()
            seen.look(values)
            array, unread = _array(values, seen.type, place=0, unread=pa.nulls(len(values), pa.string()))
            assert unread.null_count == len(values)
            return array

        moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
        assert typed([Decimal("1.50"), Decimal("-200"), None]).type == pa.decimal128(5, 2)
        assert typed([Decimal("1.50"), 3]).to_pylist() == [Decimal("1.50"), Decimal("3.00")]
        assert typed([moment]).type == pa.timestamp("us", "UTC")
        assert typed([date(2024, 1, 1), datetime(2024, 1, 1, 5)]).to_pylist() == [datetime(2024, 1, 1), datetime(2024, 1, 1, 5)]
        assert typed([{"a": 1}, [2]]).to_pylist() == ['{"a": 1}', "[2]"]
        assert typed([2**64 - 1, 1]).type == pa.uint64()
        assert typed([True, None]).type == pa.bool_()


class TestFilters:
    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("age < 20", "age"),
            ('city in ["Oslo", "Rome"] and score > 3', "city"),
            ('city == "Rome"', "city"),
            ("not (city is None)", "city"),
            ("age >= 60 or age < 20", "OR"),
            ("18 < age <= 30", "age"),
            ("id in [1, 2, 3, 5, 8, 13, 21, 34] or age == -1", "id"),
        ],
    )
    def test_fewer_rows_are_sent_for_the_same_answer(self, opened, monkeypatch, text, sent):
        whole = rows_of(opened())
        expected = whole.filter(RowExpression(text).arrow)
        source = opened(where=text)
        source.schema()
        statements, fetched = queries(monkeypatch)
        assert rows_of(source).equals(expected)
        assert sent in statements[0].partition("WHERE")[2]
        assert sum(fetched) == expected.num_rows < whole.num_rows

    def test_what_sql_would_judge_otherwise_is_judged_by_arrow_alone(self, opened, monkeypatch):
        whole = rows_of(opened())
        source = opened(where='lower(city) == "rome"')
        source.schema()
        statements, fetched = queries(monkeypatch)
        assert rows_of(source).equals(whole.filter(pc.equal(pc.utf8_lower(whole["city"]), "rome")))
        assert "WHERE" not in statements[0]
        assert sum(fetched) == 200

    def test_only_the_wanted_columns_are_asked_for_and_those_of_the_filter(self, opened, monkeypatch):
        source = opened()
        source.schema()
        statements, _ = queries(monkeypatch)
        table = rows_of(source, columns=["age"], where=pc.field("score") > 3.0)
        assert table.column_names == ["age"]
        assert "city" not in statements[0]

    @settings(deadline=None, max_examples=100)
    @given(
        age=st.one_of(st.integers(-5, 80), st.floats(-5, 80)),
        text=st.sampled_from(["Rome", "rome", "Oslo", "it's", 'a "b"', "back\\slash", "100%", ":x", "null"]),
        compare=st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        join=st.sampled_from(["and", "or"]),
        turned=st.booleans(),
    )
    def test_a_condition_sent_keeps_every_row_that_arrow_keeps(self, age, text, compare, join, turned):
        import json

        first = f"{age!r} {compare} age" if turned else f"age {compare} {age!r}"
        where = RowExpression(f"{first} {join} (city in [{json.dumps(text)}] or score is None)").arrow
        table = pa.table({"age": [1, 18, 30, None, 80], "city": ["Rome", text, None, "x", "Oslo"], "score": [0.5, None, 1.5, 2.5, 3.5]})
        kept = {tuple(row.values()) for row in table.filter(where).to_pylist()}
        assert kept <= sqlite_rows(table, where)

    def test_a_filter_that_cannot_be_read_back_is_not_sent(self):
        columns = {"a": plain_column("a", pa.int64())}
        assert understood(pc.field("a") > 1, columns).names == understood(pc.field("a") > 1.0, columns).names == {"a"}
        assert understood((pc.field("a") > 1) & (pc.field("a") < 3.0), columns).sql is not None
        assert understood(pc.add(pc.field("a"), 1) > 1, columns) == (None, None)
        assert understood(pc.field("a").cast(pa.int32()) > 1, columns) == (None, None)


def plain_column(name, kind):
    import sqlalchemy as sa

    column = sa.column(name)
    return Column(name, kind, column, column, column)


def sqlite_rows(table, where):
    """The rows that SQLite finds by the condition made of a filter; all of them where there is none."""
    import sqlalchemy as sa

    from deepseek.data.sources.sql.statements import written

    found = understood(where, {field.name: plain_column(field.name, field.type) for field in table.schema})
    statement = sa.select(sa.literal_column("*")).select_from(sa.table("t"))
    statement = statement if found.sql is None else statement.where(found.sql)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table t (age integer, city text, score real)")
        database.executemany("insert into t values (?, ?, ?)", [tuple(row.values()) for row in table.to_pylist()])
        return set(database.execute(written(statement, sa.create_engine("sqlite://").dialect)).fetchall())


class TestMistakes:
    def test_a_decimal_compared_with_a_whole_number_says_how_to_write_it(self):
        from deepseek.data.sources.files import filtered

        with pytest.raises(DataError, match=r"price > 5\.0"):
            filtered(pa.table({"paid": pa.array([Decimal("1.50")], pa.decimal128(10, 2))}), pc.field("paid") > 1)

    def test_an_unknown_table_is_an_error_with_the_one_that_was_meant(self, opened):
        with pytest.raises(UnknownNameError, match="did you mean 'customers'"):
            opened(table="custmers").schema()

    def test_no_table_lists_them(self, opened):
        with pytest.raises(DataError, match="the tables: customers"):
            opened(table=None).schema()

    @pytest.mark.parametrize("keys", [{"order_by": "agee"}, {"where": "agee > 3"}])
    def test_an_unknown_column(self, opened, keys):
        with pytest.raises(UnknownNameError, match="did you mean 'age'"):
            opened(**keys).schema()

    def test_a_query_that_is_none(self, opened):
        with pytest.raises(DataError, match="the database refuses the query: near"):
            opened(table=None, query="selec 1").schema()

    def test_a_table_and_a_query(self, opened):
        with pytest.raises(InputError, match="both a table and a query"):
            opened(query="select 1")

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path):
        with pytest.raises(DataError, match="there is no database file"):
            open_source({"type": "sql", "url": "sqlite:///none.db", "table": "t"}, folder=tmp_path).schema()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("url", "message"),
        [("nosuch+thing://me:secret-word@h/d", "no database is known"), ("postgresql://me:secret-word@h:port/d", "is no URL")],
    )
    def test_a_url_that_is_none_hides_its_password(self, url, message):
        with pytest.raises(DataError, match=message) as caught:
            open_source({"type": "sql", "url": url, "table": "t"}).schema()
        assert "secret-word" not in str(caught.value)

    def test_an_engine_that_does_not_read_it(self, opened):
        with pytest.raises(InputError, match=r"allowed: auto, sqlalchemy$"):
            opened(engine="adbc").schema()

    @pytest.mark.parametrize("library", ["sqlalchemy", "psycopg", "pymysql"])
    def test_a_missing_library_is_an_error_with_the_line_that_installs_it(self, library):
        scheme = "mysql" if library == "pymysql" else "postgresql"
        program = (
            f"import sys; sys.modules[{library!r}] = None\n"
            "from deepseek.data.sources import open_source; from deepseek.errors import MissingExtraError\n"
            f"try: open_source({{'type': 'sql', 'url': '{scheme}://u:p@127.0.0.1:1/d', 'table': 't'}}).schema()\n"
            "except MissingExtraError as error: print(error.hint)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert "pip install 'deepseek-framework[sql]'" in done.stdout


class TestVersion:
    def test_the_same_answer_is_the_same_content(self, database, opened):
        source = opened(version="select max(id), count(*) from customers")
        before = source.fingerprint()
        database.execute("update customers set age = 1 where id = 3")
        database.commit()
        assert opened(version="select max(id), count(*) from customers").fingerprint() == before
        database.execute("insert into customers values (999, 1, 'x', 1)")
        database.commit()
        assert source.fingerprint() != before

    def test_a_query_without_an_answer(self, opened):
        with pytest.raises(DataError, match="gives no row"):
            opened(version="select id from customers where id < 0").fingerprint()


class TestDrain:
    BATCHES: ClassVar = [
        pa.record_batch({"a": pa.array(range(n, n + 1000)), "b": pa.array([f"x{n}"] * 1000)}) for n in range(0, 20_000, 1000)
    ]

    @pytest.mark.parametrize("memory_bytes", [1, 30_000, 1 << 30])
    def test_order_and_content_stay_whatever_waits_on_disk(self, memory_bytes):
        drain = Drain(lambda: iter(self.BATCHES), memory_bytes=memory_bytes)
        assert pa.Table.from_batches(drain.read()).equals(pa.Table.from_batches(self.BATCHES))

    def test_what_the_reader_is_not_ready_for_goes_to_disk(self):
        import threading

        all_taken = threading.Event()

        def batches():
            yield from self.BATCHES
            all_taken.set()

        drain = Drain(batches, memory_bytes=50_000)
        reader = drain.read()
        first = next(reader)
        assert all_taken.wait(60)
        assert drain.spilled_bytes > 200_000
        assert pa.Table.from_batches([first, *reader]).equals(pa.Table.from_batches(self.BATCHES))

    def test_an_error_comes_after_what_came_before_it(self):
        def broken():
            yield from self.BATCHES[:3]
            raise OSError("gone")

        seen = []
        with pytest.raises(OSError, match="gone"):
            seen.extend(Drain(broken, memory_bytes=1).read())
        assert len(seen) == 3

    def test_a_reader_that_stops_stops_the_thread(self):
        import itertools
        import threading

        reader = Drain(lambda: itertools.cycle(self.BATCHES), memory_bytes=1).read()
        next(reader)
        reader.close()
        assert "deepseek-drain" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    "said",
    [
        "FATAL: the database system is starting up",
        "FATAL: the database system is not yet accepting connections DETAIL: Consistent recovery state has not been yet reached.",
        "FATAL: the database system is not accepting connections DETAIL: Hot standby mode is disabled.",
        "FATAL: the database system is shutting down",
        "FATAL: the database system is in recovery mode",
    ],
)
def test_a_server_that_is_not_ready_yet_is_asked_again(said):
    address = Address("postgresql://me@localhost/shop", Path())
    assert isinstance(explained(RuntimeError(said), address, doing="the query is refused"), LostError)
