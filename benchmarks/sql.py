"""From a database to prepared arrays: PostgreSQL and MariaDB against their bare clients and pandas.

Protocol: a table of 5 M rows and 8 columns (a key, whole and other numbers, a decimal, a name, a moment, a flag, a two-valued target) is
made in a server that the script begins for itself in a temporary folder. Each arm is a fresh process: `bare` reads the rows in the order of
the key through the client alone (ADBC, connectorx) and drops them; `land` reads them through the source into the landed Arrow file;
`prepare` goes on to split, fit and prepare, all caches cold; `pandas` is `pandas.read_sql`. The arms take turns; medians are reported. A
process imports everything before its clock starts. `rate` is rows a second; `anonymous_mb` is the peak of what the process itself holds
(RssAnon), sampled every 10 ms. A server whose programs are absent is left out and named.

Usage: python benchmarks/sql.py [--rows 5000000] [--repeats 3] [--arms bare land prepare pandas]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memory import Peak

ARMS = ("bare", "land", "prepare", "pandas")
COLUMNS = "id bigint primary key, age int, spend {double}, city varchar(20), active {flag}, seen {moment}, paid decimal(10,2), churned int"
TYPES = {
    "postgresql": {"double": "double precision", "flag": "boolean", "moment": "timestamp"},
    "mariadb": {"double": "double", "flag": "tinyint(1)", "moment": "datetime"},
}
ROWS = {
    "postgresql": "select g, g % 71, (g::bigint * 7919 % 100003) / 7.0, 'city' || g % 500, g % 3 = 0, "
    "timestamp '2024-01-01' + g * interval '1 second', (g % 9973) / 4.0, "
    "case when (g::bigint * 31 % 97) + g % 71 > 90 then 1 else 0 end from generate_series(1, {rows}) g",
    "mariadb": "select seq, seq % 71, (seq * 7919 % 100003) / 7.0, concat('city', seq % 500), seq % 3 = 0, "
    "'2024-01-01' + interval seq second, (seq % 9973) / 4.0, if((seq * 31 % 97) + seq % 71 > 90, 1, 0) from seq_1_to_{rows}",
}
QUERY = "select * from customers order by id"


def bare(url: str, _: Path) -> Callable[[], int]:
    if url.startswith("postgresql"):
        from adbc_driver_postgresql import dbapi

        def read() -> int:
            with dbapi.connect(url) as connection, connection.cursor() as cursor:
                cursor.execute(QUERY)
                return sum(batch.num_rows for batch in cursor.fetch_record_batch())

        return read
    import connectorx

    return lambda: sum(batch.num_rows for batch in connectorx.read_sql(url, QUERY, return_type="arrow_stream", batch_size=65_536))


def import_all() -> None:
    for name in ("sqlalchemy", "psycopg", "pymysql", "connectorx", "adbc_driver_postgresql.dbapi", "deepseek.data.sources.sql.source"):
        importlib.import_module(name)


def land(url: str, folder: Path) -> Callable[[], int]:
    from deepseek.data.landing import land as to_disk
    from deepseek.data.sources import open_source

    import_all()
    return lambda: to_disk(open_source({"type": "sql", "url": url, "table": "customers"}), [], folder).rows


def prepare(url: str, folder: Path) -> Callable[[], int]:
    from deepseek import progress
    from deepseek.artifacts import StageCache
    from deepseek.pipeline.preparing.dataset import make_dataset
    from deepseek.recipe import load_recipe

    import_all()
    progress.quiet()
    recipe = load_recipe({"data": {"source": {"type": "sql", "url": url, "table": "customers"}, "target": "churned"}})

    def work() -> int:
        dataset = make_dataset(recipe, StageCache(folder))
        return sum(len(part) for name in ("train", "validation", "test") if (part := dataset.open(name)) is not None)

    return work


def pandas(url: str, _: Path) -> Callable[[], int]:
    import pandas as pd
    import sqlalchemy as sa

    scheme, _, rest = url.partition("://")
    engine = sa.create_engine(f"{'postgresql+psycopg' if scheme == 'postgresql' else 'mysql+pymysql'}://{rest}")

    def work() -> int:
        with engine.connect() as connection:
            return len(pd.read_sql(sa.text(QUERY), connection))

    return work


def measure(arm: str, url: str, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = {"bare": bare, "land": land, "prepare": prepare, "pandas": pandas}[arm](url, Path(folder) / "out")
        peak = Peak()
        peak.start()
        started = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - started
        peak.going = False
        assert found == rows, f"{arm} read {found} of {rows} rows"
        print(json.dumps({"seconds": seconds, "anonymous_mb": round(peak.anonymous / 1e6)}))


def as_user(name: str) -> dict[str, object]:
    return {"user": name, "group": name, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def running(command: list[str], user: str, folder: Path, ready: Callable[[], object]) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, **as_user(user))  # type: ignore[call-overload]
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    ready()
                    break
                except Exception:  # whatever a driver raises while its server is not up
                    if process.poll() is not None or time.monotonic() > end:
                        raise
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def database(kind: str, rows: int) -> Iterator[str]:
    user = {"postgresql": "postgres", "mariadb": "mysql"}[kind]
    with tempfile.TemporaryDirectory(prefix="deepseek-sql-") as name, socket.socket() as one:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, user, user)
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        one.close()
        start = postgresql if kind == "postgresql" else mariadb
        with start(folder, port) as (url, ask):
            ask(f"create table customers ({COLUMNS.format(**TYPES[kind])})")
            ask(f"insert into customers {ROWS[kind].format(rows=rows)}")
            ask("analyze customers" if kind == "postgresql" else "analyze table customers")
            yield url


@contextlib.contextmanager
def postgresql(folder: Path, port: int) -> Iterator[tuple[str, Callable[[str], object]]]:
    import psycopg

    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    data = folder / "data"
    initialise = [programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(initialise, cwd=folder, check=True, capture_output=True, **as_user("postgres"))  # type: ignore[call-overload]
    options = {"port": port, "unix_socket_directories": folder, "listen_addresses": "127.0.0.1", "fsync": "off", "max_wal_size": "4GB"}
    command = [str(programs / "postgres"), "-D", str(data), *(part for key, value in options.items() for part in ("-c", f"{key}={value}"))]
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def ask(statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    with running(command, "postgres", folder, lambda: psycopg.connect(url).close()):
        yield url, ask


@contextlib.contextmanager
def mariadb(folder: Path, port: int) -> Iterator[tuple[str, Callable[[str], object]]]:
    import pymysql

    common = ["--no-defaults", f"--datadir={folder / 'data'}", *(["--user=mysql"] if os.geteuid() == 0 else [])]
    initialise = [str(shutil.which("mariadb-install-db")), *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(initialise, cwd=folder, check=True, capture_output=True)
    places = [f"--port={port}", f"--socket={folder / 's'}", f"--pid-file={folder / 'pid'}", "--bind-address=127.0.0.1", "--skip-log-bin"]
    daemon = shutil.which("mariadbd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")

    def connect(name: str | None = "customers") -> pymysql.Connection:
        return pymysql.connect(host="127.0.0.1", port=port, user="root", database=name, autocommit=True)

    def ask(statement: str) -> None:
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    size = "--innodb-buffer-pool-size=1G"
    with running([str(daemon), *common, *places, size], "mysql", folder, lambda: connect(None).close()):
        with connect(None) as connection, connection.cursor() as cursor:
            cursor.execute("create database customers")
        yield f"mysql://root@127.0.0.1:{port}/customers", ask


def there(kind: str) -> bool:
    if kind == "postgresql":
        return any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return shutil.which("mariadbd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin") is not None and bool(
        shutil.which("mariadb-install-db")
    )


def compare(kind: str, rows: int, repeats: int, arms: list[str]) -> dict[str, object]:
    seen: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    with database(kind, rows) as url:
        for _ in range(repeats):
            for arm in arms:
                command = [sys.executable, __file__, "--arm", arm, "--url", url, "--rows", str(rows)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{kind}, {arm}:\n{done.stderr}")
                seen[arm].append(json.loads(done.stdout.splitlines()[-1]))
    found: dict[str, object] = {}
    seconds = {arm: statistics.median(one["seconds"] for one in seen[arm]) for arm in arms}
    for arm in arms:
        found[arm] = {
            "seconds": round(seconds[arm], 2),
            "rate": round(rows / seconds[arm]),
            "of_bare": round(seconds["bare"] / seconds[arm], 3) if "bare" in arms else None,
            "anonymous_mb": round(statistics.median(one["anonymous_mb"] for one in seen[arm])),
        }
    if {"land", "pandas"} <= set(arms):
        found["times_pandas"] = round(seconds["pandas"] / seconds["land"], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--databases", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        measure(options.arm, options.url, options.rows)
        return
    absent = [kind for kind in options.databases if not there(kind)]
    result: dict[str, object] = {"benchmark": "sql", "rows": options.rows, "columns": 8, "repeats": options.repeats, "absent": absent}
    for kind in options.databases:
        if kind not in absent:
            result[kind] = compare(kind, options.rows, options.repeats, options.arms)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
