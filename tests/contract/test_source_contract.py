"""Every built-in source keeps the public contract."""

import asyncio
import json
import sqlite3
from contextlib import closing

import fsspec
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from deepseek.data.labelling.preannotations import choices_result
from deepseek.data.sources import Source, open_source
from deepseek.data.sources.contract import SourceContract
from deepseek.serving.intake import make_app

TABLE = pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "w"], "c": [0.5, 1.5, None, 2.5]})


OF_B = "z"


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


class TestInteractions(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        log = pa.table({"who": ["a", "b", "a"], "what": ["x", "y", "z"]})
        pa.parquet.write_table(log, tmp_path / "log.parquet")
        return open_source({"type": "interactions", "source": "log.parquet", "user": "who", "item": "what", "ratio": 1}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        """The user b may get either of a's items; this is what the seed gives."""
        return pa.table({"who": ["a", "a", "b", "b", "a", "a"], "what": ["x", "y", "y", OF_B, "z", "y"], "label": [1, 0, 1, 0, 1, 0]})


class TestCorpus(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "a.txt").write_text("to be,\nor not\nto be")
        (tmp_path / "b.txt").write_text("x" * 12 + "\n")
        return open_source({"type": "corpus", "path": "*.txt", "piece": 5}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        texts = ["to be,\n", "or not\n", "to be", "x" * 10, "xx\n"]
        return pa.table({"text": texts, "place": list(range(5)), "document": ["a.txt"] * 3 + ["b.txt"] * 2})


class TestLabelStudio(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        tasks = [
            {"id": number, "data": {"a": number}, "annotations": [{"result": choices_result([name], control="b", to="a")}] if name else []}
            for number, name in enumerate(["x", None, "z"], start=1)
        ]
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        return open_source({"type": "label_studio", "path": "export.json"}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


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


class TestMasks(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        for name in (
            "imagesTr/a_0000.nii.gz",
            "imagesTr/b_0000.nii.gz",
            "imagesTr/b_0001.nii.gz",
            "imagesTr/c_0000.nii.gz",
            "labelsTr/a.nii.gz",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "labelsTr/b.nii.gz").write_bytes(b"y")
        return open_source(tmp_path)

    @pytest.fixture
    def expected(self):
        return pa.table(
            {
                "image": ["imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz"],
                "mask": ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"],
            }
        )

    def test_names_what_is_no_row(self, source):
        told = {row["raw"]: row["reason"] for batch in source.rejects() for row in batch.to_pylist()}
        assert set(told) == {"imagesTr/b_0001.nii.gz", "imagesTr/c_0000.nii.gz"}
        assert "no mask of this name" in told["imagesTr/c_0000.nii.gz"]

    def test_its_fingerprint_follows_masks_too(self, source, tmp_path):
        before = source.fingerprint()
        (tmp_path / "labelsTr/b.nii.gz").write_bytes(b"z")
        assert open_source(tmp_path).fingerprint() != before


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


BOX = {"left": 1.0, "top": 2.0, "right": 5.0, "bottom": 8.0, "label": "dog", "crowd": False}


class TestBoxFiles(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        for name, text in {"train/a": "1 2 5 8 1", "train/b": "", "test/c": "1 2 5 8 1", "test/d": "no box"}.items():
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / f"{name}.png").write_bytes(b"x")
            (tmp_path / "set" / f"{name}.txt").write_text(text)
        return open_source({"type": "box_files", "path": "set", "form": "pixels", "classes": ["cat", "dog"]}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        names = ["test/c.png", "train/a.png", "train/b.png"]
        return pa.table({"image": names, "boxes": [[BOX], [BOX], []], "split": ["test", "train", "train"]})


class TestCoco(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        document = {
            "images": [{"id": number, "file_name": f"{number}.png"} for number in range(3)],
            "categories": [{"id": 5, "name": "dog"}],
            "annotations": [{"image_id": number, "category_id": 5, "bbox": [1, 2, 4, 6]} for number in (0, 2, 9)],
        }
        (tmp_path / "set.json").write_text(json.dumps(document))
        return open_source({"type": "coco", "path": "set.json"}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return pa.table({"image": ["0.png", "1.png", "2.png"], "boxes": [[BOX], [], [BOX]]})


class TestHuggingFace(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        features = Features({"a": Value("int64"), "b": ClassLabel(names=["x", "z"])})
        parts = {"train": {"a": [1, 2, 3], "b": [0, -1, 1]}, "test": {"a": [4], "b": [0]}}
        DatasetDict({name: Dataset.from_dict(part, features=features) for name, part in parts.items()}).save_to_disk(tmp_path / "saved")
        return open_source({"type": "hugging_face", "path": "saved"}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "x"], "split": ["train"] * 3 + ["test"]})


class TestHuggingFaceStreaming(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, monkeypatch):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        features = Features({"a": Value("int64"), "b": ClassLabel(names=["x", "z"])})
        (tmp_path / "data").mkdir()
        parts = {"train": {"a": [1, 2, 3], "b": [0, -1, 1]}, "test": {"a": [4], "b": [0]}}
        for name, part in parts.items():
            Dataset.from_dict(part, features=features).to_parquet(tmp_path / "data" / f"{name}.parquet")
        return open_source({"type": "hugging_face", "path": "data", "streaming": True}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "x"], "split": ["train"] * 3 + ["test"]})


@pytest.mark.parametrize("place", ["memory://shop/t.csv", "memory://shop/*.csv"])
class TestUrl(SourceContract):
    @pytest.fixture
    def source(self, place, tmp_path, monkeypatch):
        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
        pa.csv.write_csv(TABLE, tmp_path / "t.csv")
        fsspec.filesystem("memory").pipe("/shop/t.csv", (tmp_path / "t.csv").read_bytes())
        yield open_source(place)
        fsspec.filesystem("memory").store.clear()

    @pytest.fixture
    def expected(self):
        return TABLE


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


class TestIngest(SourceContract):
    """Three posts to one topic, of which the second has a record that is none, and an image to another; read joined."""

    @pytest.fixture
    def source(self, tmp_path):
        take_in(
            tmp_path / "in",
            ("visits", b'[{"n": 1, "who": "a", "dose": 1}, {"n": 2, "who": "b", "dose": 0.5}]', {"content-type": "application/json"}),
            ("visits", b'{"n": 3, "who": null, "dose": null}\n[]\n', {"content-type": "application/x-ndjson"}),
            ("notes", b"well", {"content-type": "text/plain", "x-who": "b", "uuid": "note-1"}),
        )
        spec = {"type": "ingest", "path": "in", "topics": ["visits", "notes"], "join": {"key": "who", "within": "1h"}}
        return Projected(open_source(spec, folder=tmp_path), ["n", "who", "dose", "notes.text", "notes._uuid"])

    @pytest.fixture
    def expected(self):
        columns = {"n": [1, 2, 3], "who": ["a", "b", None], "dose": [1.0, 0.5, None]}
        return pa.table({**columns, "notes.text": [None, "well", None], "notes._uuid": [None, "note-1", None]})

    def test_its_rejects_name_the_content_and_the_line(self, source):
        (one,) = [row for batch in source.rejects() for row in batch.to_pylist()]
        assert (one["line"], one["raw"]) == (2, "[]")
        assert one["reason"].startswith("visits, content ")
        assert "a list instead of an object" in one["reason"]


class TestRelatedTables(SourceContract):
    """Two files, of which one has a number of a shop that is text where it is asked for as such."""

    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "shops.csv").write_text("shop,city,opened\n1,Oslo,2024-01-01\n2,Rome,2024-02-01\n")
        (tmp_path / "sales.csv").write_text("sale,shop,at,amount,code\n1,1,2024-01-05,2.5,01\n2,1,2024-02-05,4,02\n3,2,2024-02-06,8,01\n")
        (tmp_path / "asked.csv").write_text("shop,at,label\n1,2024-01-31,a\n1,2024-03-01,b\n2,2024-01-31,c\n2,2024-03-01,\n")
        spec = {
            "type": "related_tables",
            "target_table": "shops",
            "tables": {
                "shops": {"source": "shops.csv", "time": "opened", "fields": {"city": "category"}},
                "sales": {"source": "sales.csv", "index": "sale", "time": "at", "fields": {"code": "category"}},
            },
            "relationships": ["shops.shop -> sales.shop"],
            "cutoffs": {"source": "asked.csv", "time": "at"},
            "aggregations": ["count", "sum", "last"],
            "derive": [],
            "depth": 1,
        }
        return Projected(open_source(spec, folder=tmp_path), ["SUM(sales.amount)", "label", "city", "COUNT(sales)", "LAST(sales.code)"])

    @pytest.fixture
    def expected(self):
        columns = {"SUM(sales.amount)": [2.5, 6.5, 0.0, 8.0], "label": ["a", "b", "c", None], "city": ["Oslo", "Oslo", None, "Rome"]}
        return pa.table({**columns, "COUNT(sales)": [1, 2, 0, 1], "LAST(sales.code)": ["01", "02", None, "01"]})

    def test_text_that_spells_numbers_is_text_where_it_is_asked_for(self, tmp_path, source):
        spec = {
            "type": "related_tables",
            "target_table": "shops",
            "tables": {
                "shops": {"source": "shops.csv", "time": "opened"},
                "sales": {"source": "sales.csv", "index": "sale", "time": "at"},
            },
            "relationships": ["shops.shop -> sales.shop"],
            "cutoffs": {"source": "asked.csv", "time": "at"},
            "aggregations": ["last"],
            "depth": 1,
        }
        plain = open_source(spec, folder=tmp_path)
        texts = plain.as_text(["LAST(sales.amount)"])
        for one, wanted in ((plain, [2.5, 4.0, None, 8.0]), (texts, ["2.5", "4", None, "8"])):
            assert _column(one, "LAST(sales.amount)") == wanted


def _column(source, name):
    return pa.Table.from_batches(list(source.read(columns=[name])))[name].to_pylist()


class Projected(Source):
    """A source without the columns whose values nobody can know before: hashes and times of arrival."""

    def __init__(self, inner, names):
        super().__init__()
        self.inner, self.names = inner, names

    def schema(self):
        return pa.schema([self.inner.schema().field(name) for name in self.names])

    def read(self, *, columns=None, where=None, batch_rows=65_536):
        return self.inner.read(columns=self.names if columns is None else columns, where=where, batch_rows=batch_rows)

    def fingerprint(self):
        return self.inner.fingerprint()

    def rejects(self):
        return self.inner.rejects()

    def as_text(self, columns):
        return Projected(self.inner.as_text(columns), self.names)


def take_in(folder, *posts):
    """Post contents, each `(topic, body, headers)`, and wait until they are in parts."""

    async def main():
        app = make_app(folder)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
            for topic, body, headers in posts:
                response = await client.post(f"/v1/ingest/{topic}", content=body, headers=headers)
                assert response.status_code in (200, 207), response.text
        await app.close()

    asyncio.run(main())
