"""Every built-in source keeps the public contract."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from deepseek.data.sources import open_source
from deepseek.data.sources.contract import SourceContract

TABLE = pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "w"], "c": [0.5, 1.5, None, 2.5]})


def write_stream(path):
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write_file(path):
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


WRITERS = {
    "t.csv": lambda path: pa.csv.write_csv(TABLE, path),
    "t.json": lambda path: path.write_text(json.dumps(TABLE.to_pylist())),
    "t.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist())),
    "t.parquet": lambda path: pa.parquet.write_table(TABLE, path),
    "t.arrow": write_file,
    "t.ipc": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
class TestFiles(SourceContract):
    @pytest.fixture
    def source(self, name, tmp_path):
        WRITERS[name](tmp_path / name)
        return open_source(name, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return TABLE

    def test_its_fingerprint_follows_the_content(self, source, name, tmp_path):
        before = source.fingerprint()
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + b" ")
        assert source.fingerprint() != before


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "dict"])
class TestMemory(SourceContract):
    @pytest.fixture
    def source(self, kind):
        import polars as pl

        made = {
            "arrow": lambda: TABLE,
            "pandas": lambda: TABLE.to_pandas(types_mapper={pa.int64(): None}.get),
            "polars": lambda: pl.from_arrow(TABLE),
            "dict": TABLE.to_pydict,
        }
        return open_source(made[kind]())

    @pytest.fixture
    def expected(self):
        return TABLE


class TestNpz(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        np.savez_compressed(
            tmp_path / "t.npz", y_train=np.arange(3), x_train=np.ones((3, 2), "f4"), x_test=np.zeros((2, 2), "f4"), y_test=np.arange(2)
        )
        return open_source("t.npz", folder=tmp_path)

    @pytest.fixture
    def expected(self):
        x = np.concatenate([np.ones((3, 2), "f4"), np.zeros((2, 2), "f4")])
        return pa.table({"y": [0, 1, 2, 0, 1], "x": pa.FixedShapeTensorArray.from_numpy_ndarray(x), "split": ["train"] * 3 + ["test"] * 2})


class TestFolder(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "train/cat/notes.md").write_text("not a row")
        return open_source(tmp_path)

    @pytest.fixture
    def expected(self):
        return pa.table(
            {
                "image": ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png"],
                "label": ["cat", "dog", "cat"],
                "split": ["train", "train", "test"],
            }
        )

    def test_names_what_is_no_row(self, source):
        assert [row["raw"] for batch in source.rejects() for row in batch.to_pylist()] == ["train/cat/notes.md"]

    def test_its_root_stands_in_the_metadata(self, source, tmp_path):
        assert source.schema().field("image").metadata == {b"deepseek.root": str(tmp_path).encode(), b"deepseek.hashed": b"1"}


@pytest.mark.parametrize("named", ["key", "no_key", "query"])
class TestSqlite(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, named):
        with closing(sqlite3.connect(tmp_path / "t.db")) as database, database:
            database.execute(f"create table t (a integer {'primary key' if named == 'key' else ''}, b text, c real)")
            database.executemany("insert into t values (?, ?, ?)", [tuple(row.values()) for row in reversed(TABLE.to_pylist())])
        rows = {"query": "select * from t where a > 0 order by b;", "order_by": "a"} if named == "query" else {"table": "t"}
        return open_source({"type": "sql", "url": "sqlite:///t.db", **rows}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return TABLE

    def test_its_fingerprint_follows_the_content(self, source, tmp_path):
        before = source.fingerprint()
        with closing(sqlite3.connect(tmp_path / "t.db")) as database, database:
            database.execute("update t set b = 'y' where a = 1")
        assert source.fingerprint() != before
