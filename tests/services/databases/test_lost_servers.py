"""Servers that go away while they are read, mistakes, and memory that stays flat."""

import os
import signal
import subprocess
import threading
from typing import ClassVar

import pyarrow as pa
import pytest
from tests.services.conftest import POSTGRESQL, as_user, connects, folder_of, free_port, program, server
from tests.services.databases.asking import SECRET, ask, read

from deepseek import progress
from deepseek.data.sources import open_source
from deepseek.data.sources.sql.engines import Engine
from deepseek.data.sources.sql.failures import LostError
from deepseek.data.sources.sql.mysql import MysqlEngine
from deepseek.data.sources.sql.postgresql import PostgresqlEngine
from deepseek.errors import DataError


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
        """In a process of its own: ten times the rows, which take 150 MiB more, and a few batches' memory; the buffer is made small."""
        numbers = "generate_series(1, 1000000) g" if kind == "postgresql" else "(select seq as g from seq_1_to_1000000) q"
        ask(url, "drop table if exists long_", "create table long_ (id bigint primary key, a bigint, pad varchar(200))")
        ask(url, f"insert into long_ select g, g, concat(g, repeat('x', 150)) from {numbers}")
        program_ = (
            "import resource, sys\nfrom deepseek.data.sources import open_source\n"
            "from deepseek.data.sources.sql import drain\ndrain.Drain.__init__.__kwdefaults__['memory_bytes'] = 8 << 20\n"
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
        assert peaks[1] - peaks[0] < 64, peaks  # MiB
