"""What tests of databases share: statements, rows that are read, and how many of them came from the server."""

from contextlib import closing, contextmanager

import pyarrow as pa

from deepseek.data.sources.sql.mysql import MysqlEngine
from deepseek.data.sources.sql.postgresql import PostgresqlEngine

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
