"""Parts: joined, grown, written again after a failure, and read while they are superseded."""

import asyncio
import json
import sqlite3
import time

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.serving.intake.sending import JSON, Server, png

from deepseek.data.sources import open_source
from deepseek.data.sources.ingested.manifest import Manifest
from deepseek.errors import DataError
from deepseek.serving.intake import make_app, parts
from deepseek.serving.intake.index import Index
from deepseek.serving.intake.parts import Parts
from deepseek.serving.intake.spool import SMALL_BYTES


def test_small_parts_are_joined_and_the_fingerprint_stays(tmp_path):
    server = Server(tmp_path / "in", settings={"part_size": "20MB"})
    seen = []
    for n in range(12):
        server.post(("t", json.dumps([{"n": n}, []]).encode(), {**JSON, "uuid": str(n)}))
        seen.append((n + 1, server.source().fingerprint(), server.rows()))
    manifest = Manifest.read(server.folder, "t")
    assert len(manifest.parts) == 1
    assert (manifest.counts, manifest.version) == ({"contents": 12, "rows": 12, "rejected": 12}, 12)
    for version, fingerprint, rows in seen:  # every earlier state can be read again
        source = server.source(version=version)
        assert source.fingerprint() == fingerprint
        assert server.rows(version=version) == rows
        assert sum(batch.num_rows for batch in source.rejects()) == version
    assert len({fingerprint for _, fingerprint, _ in seen}) == 12


def test_parts_grow_up_to_their_size(tmp_path):
    server = Server(tmp_path / "in", settings={"part_size": "900kB"})
    rng = np.random.default_rng(0)
    for _ in range(8):
        server.post(("t", json.dumps([{"v": float(v)} for v in rng.normal(size=10_000)]).encode(), JSON))
    parts = Manifest.read(server.folder, "t").parts
    assert 1 < len(parts) < 8
    assert [part.first for part in parts[1:]] == [part.last + 1 for part in parts[:-1]]
    assert len(server.rows()) == 80_000


@pytest.mark.parametrize("step", ["before the manifest", "after the manifest"])
def test_a_server_that_dies_between_two_steps_of_a_part_loses_and_doubles_nothing(server, monkeypatch, step):
    target = Manifest if step == "before the manifest" else None

    def die(*_, **__):
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        if target is Manifest:
            patch.setattr(Manifest, "write", die)
        else:
            patch.setattr("deepseek.serving.intake.index.Index.settle", die)
        server.post(("t", b'{"a": 1}', JSON), ("t", png(), {"content-type": "image/png"}))
    server.post(("t", b'{"a": 2}', JSON))
    assert [row["a"] for row in server.rows()] == [1, None, 2]
    assert not list((server.folder / "spool").iterdir())


@pytest.mark.parametrize("step", ["sync_folder", "settle"])
def test_a_part_whose_last_steps_fail_is_not_written_again_by_the_same_server(server, monkeypatch, step):
    """The manifest counts the contents already: the next try makes up what is missing, and doubles nothing."""
    write, settle, sync, counted, failures = Manifest.write, Index.settle, parts.sync_folder, [], []

    def written(self, folder):
        write(self, folder)
        counted.append(self.version)

    def failing(call):
        def fail_once(*arguments):
            if counted and not failures:
                failures.append(step)
                raise sqlite3.OperationalError("database or disk is full") if step == "settle" else OSError("no space left on device")
            return call(*arguments)

        return fail_once

    monkeypatch.setattr(Manifest, "write", written)
    if step == "settle":
        monkeypatch.setattr(Index, "settle", failing(settle))
    else:
        monkeypatch.setattr(parts, "sync_folder", failing(sync))
    server.options = {"settings": {"flush_interval": "20ms"}}
    body = json.dumps([{"a": "x" * 100}] * 2_000).encode()

    async def main():
        app = make_app(server.folder, **server.options)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
            await client.post("/v1/ingest/t", content=body, headers=JSON)
            await client.post("/v1/ingest/t", content=png() + bytes(2 * SMALL_BYTES), headers={"content-type": "image/png"})
            end = time.monotonic() + 60
            while (state := (await client.get("/v1/ingest")).json())["waiting"] and time.monotonic() < end:
                await asyncio.sleep(0.01)
        await app.close()
        return state

    assert asyncio.run(main())["waiting"] == 0
    assert failures == [step]
    assert Manifest.read(server.folder, "t").counts == {"contents": 2, "rows": 2_001, "rejected": 0}
    assert len(server.rows()) == 2_001
    assert not list((server.folder / "spool").iterdir())


def test_a_part_that_was_changed_or_lost_is_named(server):
    server.post(("t", b'{"a": 1}', JSON))
    (path,) = (server.folder / "topics" / "t" / "parts").glob("*.rows.parquet")
    pq.write_table(pa.table({"a": [2], "_seq": [1]}), path)
    with pytest.raises(DataError, match="is not as it was written"):
        server.rows()
    path.unlink()
    with pytest.raises(DataError, match="is not there"):
        server.rows()


@pytest.mark.parametrize("what", ["changed", "lost"])
def test_a_part_that_was_changed_or_lost_is_not_joined_to_others(server, what):
    """Written again it would be as it was written, with what the disk made of it; and what comes later is stored all the same."""
    server.post(("t", b'{"a": 1}', JSON))
    (path,) = (server.folder / "topics" / "t" / "parts").glob("*.rows.parquet")
    if what == "changed":
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, table.schema.field(0), pa.array([7], table.schema.field(0).type)), path)
    else:
        path.unlink()
    server.post(("t", b'{"a": 2}', JSON))
    assert [part.rows for part in Manifest.read(server.folder, "t").parts] == [1, 1]
    with pytest.raises(DataError, match="not as it was written" if what == "changed" else "is not there"):
        server.rows("t")


def test_superseded_parts_stay_for_those_who_read_them(server):
    server.post(("t", b'{"a": 1}', JSON))
    source = server.source()
    before = source.schema()
    server.post(("t", b'{"a": 2}', JSON))
    assert len(Manifest.read(server.folder, "t").parts) == 1
    assert [row["a"] for batch in source.read() for row in batch.to_pylist()] == [1]
    assert before == source.schema()


def test_a_folder_with_one_topic_is_a_source_by_its_path(server):
    server.post(("t", b'{"a": 1}', JSON))
    assert open_source(str(server.folder)).schema().names == ["a", "_id", "_at"]


def test_parts_that_cannot_be_written_are_told_of_and_tried_again(server, monkeypatch):
    write, failures = Parts.write, []

    def fail_once(self, topic):
        if not failures:
            failures.append(topic)
            raise OSError("the disk is tired")
        return write(self, topic)

    monkeypatch.setattr(Parts, "write", fail_once)
    server.options = {"settings": {"flush_interval": "20ms"}}

    async def main():
        app = make_app(server.folder, **server.options)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
            await client.post("/v1/ingest/t", content=b'{"a": 1}', headers=JSON)
            end = time.monotonic() + 60
            while (await client.get("/v1/ingest")).json()["waiting"] and time.monotonic() < end:
                await asyncio.sleep(0.01)
            metrics = (await client.get("/metrics")).text
        await app.close()
        return metrics

    metrics = asyncio.run(main())
    assert "deepseek_ingest_failures_total 1" in metrics
    assert 'deepseek_ingest_contents_total{topic="t",outcome="stored"} 1' in metrics
    assert server.rows() == [{"a": 1}]


def test_a_topic_that_cannot_be_written_holds_no_other_up(server, monkeypatch):
    """The file of one content is gone, say: what came for other topics is put into parts all the same, and the first is not forgotten."""
    write = Parts.write

    def lame(self, topic):
        if topic == "a":
            raise FileNotFoundError("a file of the spool is gone")
        return write(self, topic)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "write", lame)
        server.post(("a", b'{"x": 1}', JSON), ("b", b'{"x": 2}', JSON))
        assert server.rows("b") == [{"x": 2}]
    server.post(("b", b'{"x": 3}', JSON))
    assert (server.rows("a"), server.rows("b")) == ([{"x": 1}], [{"x": 2}, {"x": 3}])


def test_whole_numbers_that_no_float_holds_stay_what_they_are_beside_floats(server):
    """Two ids that differ by one must not become the same because another content gave one as 0.5; what was read before it, stays."""
    ids = [2**53 + 1, 2**53 + 2]
    server.post(("t", json.dumps([{"id": one, "n": 1} for one in ids]).encode(), JSON))
    version = Manifest.read(server.folder, "t").version
    server.post(("t", b'{"id": 0.5, "n": 0.5}', JSON))
    assert server.rows("t") == [*({"id": str(one), "n": 1.0} for one in ids), {"id": "0.5", "n": 0.5}]
    assert server.rows("t", version=version) == [{"id": one, "n": 1} for one in ids]
