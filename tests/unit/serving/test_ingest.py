"""Taking in over ASGI, without a socket: what comes of every kind of body, ids, receipts, parts, what is refused."""

import asyncio
import io
import json
import sqlite3
import time

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import deepseek
from deepseek.data.ingested import Manifest
from deepseek.data.sources import open_source
from deepseek.errors import DataError, InputError, RecipeError, RunError
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.request import Request
from deepseek.serving.intake import make_app, parts, spool
from deepseek.serving.intake.attributes import attributes_of
from deepseek.serving.intake.flowfiles import find_flow_files, package
from deepseek.serving.intake.index import Index, Waiting
from deepseek.serving.intake.parts import Parts
from deepseek.serving.intake.spool import SMALL_BYTES, Spool

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
FLOW = {"content-type": "application/flowfile-v3"}


def png(shade=0):
    file = io.BytesIO()
    Image.fromarray(np.full((6, 6, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


class Server:
    """The application over a folder; requests are sent one after the other, and parts are written when it closes."""

    def __init__(self, folder, **options):
        self.folder, self.options = folder, options

    def post(self, *requests):
        """Post contents, each `(topic, body, headers)`; return the responses, once all is in parts."""

        async def main():
            app = make_app(self.folder, **self.options)
            try:
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
                    return [await client.post(f"/v1/ingest/{topic}", content=body, headers=headers) for topic, body, headers in requests]
            finally:
                await app.close()

        return asyncio.run(main())

    def one(self, topic, body, headers):
        (response,) = self.post((topic, body, headers))
        return response

    def get(self, path):
        async def main():
            app = make_app(self.folder, **self.options)
            try:
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
                    return await client.get(path)
            finally:
                await app.close()

        return asyncio.run(main())

    def source(self, *topics, **more):
        return open_source({"type": "ingest", "path": str(self.folder), **({"topics": list(topics)} if topics else {}), **more})

    def rows(self, *topics, **more):
        """Return the rows without the columns that ingest adds."""
        found = [row for batch in self.source(*topics, **more).read() for row in batch.to_pylist()]
        return [{name: value for name, value in row.items() if name not in ("_id", "_at")} for row in found]

    def rejects(self, *topics):
        return [row for batch in self.source(*topics).rejects() for row in batch.to_pylist()]


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "in")


def stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


KINDS = {
    "one object": (b'{"a": 1, "b": {"c": "x"}}', JSON, [{"a": 1, "b.c": "x"}]),
    "an array": (b'[{"a": 1}, {"a": 2.5}]', JSON, [{"a": 1.0}, {"a": 2.5}]),
    "lines": (b'{"a": 1}\n\n{"a": null}\n', LINES, [{"a": 1}, {"a": None}]),
    "CSV": (b"a;b\n1;x\n2;y\n", {"content-type": "text/csv; charset=utf-8"}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    "tabs": (b"a\tb\n1\tx,y\n", {"content-type": "text/tab-separated-values"}, [{"a": 1, "b": "x,y"}]),
    "Arrow": (
        stream(pa.table({"a": [1, 2], "v": [[1.0], [2.0, 3.0]]})), {"content-type": "application/vnd.apache.arrow.stream"},
        [{"a": 1, "v": [1.0]}, {"a": 2, "v": [2.0, 3.0]}],
    ),
    "lists of objects": (b'{"a": [{"b": 1}]}', {"content-type": "application/ld+json"}, [{"a": '[{"b": 1}]'}]),
    "a series": (b'{"hr": [61, 62.5, null]}', JSON, [{"hr": [61.0, 62.5, None]}]),
    "text": ("é".encode("latin-1"), {"content-type": "text/plain; charset=latin-1"}, [{"text": "é"}]),
    "told by the attribute": (
        b'{"a": 1}', {"content-type": "application/octet-stream", "mime.type": "application/json"},
        [{"a": 1, "_mime.type": "application/json"}],
    ),
    "told by the name": (b"a,b\n1,2\n", {"filename": "x.csv"}, [{"a": 1, "b": 2, "_filename": "x.csv"}]),
    "names that are taken": (b'{"_id": 1, "_x": 2}', {**JSON, "x-id": "3"}, [{"__id": 1, "__x": 2, "_id_": "3"}]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_body_becomes_rows(server, kind):
    body, headers, expected = KINDS[kind]
    response = server.one("t", body, headers)
    assert (response.status_code, response.json()["rows"]) == (200, len(expected))
    assert server.rows() == expected


@pytest.mark.parametrize(
    ("kind", "column", "suffix"), [("image/png", "image", ".png"), ("audio/wav", "audio", ".wav"), ("a/b", "file", ".bin")]
)
@pytest.mark.parametrize("size", [0, 2 * SMALL_BYTES])
def test_files_are_kept_as_they_are_and_named_by_what_they_hold(server, kind, column, suffix, size):
    body = png() + bytes(size)
    server.post(("t", body, {"content-type": kind}), ("t", body, {"content-type": kind, "x-of": "another"}))
    first, second = server.rows()
    assert first[column] == second[column]
    assert first[column].endswith(suffix)
    assert (server.folder / "topics" / "t" / first[column]).read_bytes() == body
    field = server.source().schema().field(column)
    assert field.metadata[b"deepseek.root"].decode() == str(server.folder / "topics" / "t")


def test_large_records_take_the_road_over_the_disk(server):
    records = [{"n": n, "pad": "x" * 100} for n in range(20_000)]
    server.post(("t", json.dumps(records).encode(), JSON), ("t", "\n".join(map(json.dumps, records)).encode(), LINES))
    assert server.rows() == records * 2
    assert not list((server.folder / "spool").iterdir())


def test_flow_files_behind_each_other_are_contents_of_their_own(server):
    files = [({"uuid": "1", "filename": "a.json"}, b'{"a": 1}'), ({"uuid": "2", "mime.type": "text/plain", "Ward": "é"}, "ü".encode())]
    response = server.one("t", package([*files, ({"uuid": "3"}, b"x" * 70_000)]), FLOW)
    assert [one["id"] for one in response.json()["contents"]] == ["1", "2", "3"]
    rows = server.rows()
    assert (rows[0]["a"], rows[1]["text"], rows[1]["_ward"]) == (1, "ü", "é")
    again = server.one("t", package(files), FLOW).json()
    assert (again["stored"], again["duplicate"]) == (0, 2)


@pytest.mark.parametrize("length", [0, 1, 65_534, 65_535, 70_000])
def test_packaged_flow_files_are_found_whatever_their_lengths(length):
    body = package([({"a" * 10: "v" * length, "b": "ü"}, b"c" * length), ({}, b"")])
    first, second = find_flow_files(io.BytesIO(body), len(body))
    assert (first.attributes["a" * 10], first.attributes["b"], first.stop - first.start) == ("v" * length, "ü", length)
    assert (second.attributes, second.start, second.stop) == ({}, len(body), len(body))


def test_the_wire_format_is_the_published_one():
    assert package([({"path": "./"}, b"hi")]) == b"NiFiFF3\x00\x01\x00\x04path\x00\x02./\x00\x00\x00\x00\x00\x00\x00\x02hi"


@pytest.mark.parametrize("cut", [3, 8, 12, 20, -1])
def test_flow_files_that_break_off_are_refused_whole(server, cut):
    body = package([({"uuid": "1"}, b'{"a": 1}'), ({"uuid": "2"}, b"hello")])
    response = server.one("t", body[:cut], {**FLOW})
    assert response.status_code == 400
    assert server.get("/v1/ingest").json()["topics"] == {}


def test_parts_of_a_form_are_contents_and_its_fields_their_attributes(server):
    form = (
        b'--B\r\nContent-Disposition: form-data; name="patient"\r\n\r\n7\r\n'
        b'--B\r\nContent-Disposition: form-data; name="scan"; filename="s.png"\r\nContent-Type: image/png\r\n\r\n' + png() + b"\r\n"
        b'--B\r\nContent-Disposition: form-data; name="note"; filename="n.txt"\r\n\r\nwell\r\n--B--\r\n'
    )
    response = server.one("t", form, {"content-type": "multipart/form-data; boundary=B", "idempotency-key": '"k"'})
    assert [one["id"] for one in response.json()["contents"]] == ["k/scan", "k/note"]
    scan, note = server.rows()
    assert (scan["_patient"], scan["_filename"], note["text"], note["_form.name"]) == ("7", "s.png", "well", "note")
    assert (server.folder / "topics" / "t" / scan["image"]).read_bytes() == png()


def test_the_same_content_again_is_stored_once(server):
    post = ("t", b'{"a": 1}', {**JSON, "uuid": "u"})
    first, again = server.post(post, post)
    assert (first.json()["duplicate"], again.json()["duplicate"], again.status_code) == (False, True, 200)
    later = server.one(*post).json()  # by another server
    assert (later["duplicate"], later["number"]) == (True, first.json()["number"])
    assert len(server.rows()) == 1


def test_without_an_id_a_content_is_named_by_all_that_it_is(server):
    body = b'{"status": "normal"}'
    posts = [("t", body, {**JSON, "x-patient": "1"}), ("t", body, {**JSON, "x-patient": "2"}), ("u", body, {**JSON, "x-patient": "1"})]
    assert [one.json()["duplicate"] for one in server.post(*posts, posts[0])] == [False, False, False, True]


def test_an_id_with_other_content_is_a_conflict_and_not_lost_silently(server):
    _, other = server.post(("t", b'{"a": 1}', {**JSON, "uuid": "u"}), ("t", b'{"a": 2}', {**JSON, "uuid": "u"}))
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    assert server.rows() == [{"a": 1, "_uuid": "u"}]


def test_a_content_that_was_refused_may_come_again_mended_under_its_id(server):
    bad, again, good = server.post(*[("t", body, {**JSON, "uuid": "u"}) for body in (b"{]", b"{]", b'{"a": 1}')])
    assert (bad.status_code, again.status_code, good.status_code) == (422, 422, 200)
    assert server.rows() == [{"a": 1, "_uuid": "u"}]
    (reject,) = server.rejects()
    assert (reject["raw"], reject["line"]) == ("{]", None)


@pytest.mark.parametrize("together", [True, False])
def test_a_content_that_a_wrong_schema_refused_may_come_again_as_it_was_once_the_schema_is_mended(tmp_path, together):
    """It takes the place of its refusal: its good records are rows, and its bad ones are counted once."""
    (tmp_path / "wrong.yaml").write_text("data: {source: x.csv, target: y, checks: [{type: required, column: id}]}\n")
    (tmp_path / "right.yaml").write_text("data: {source: x.csv, target: y, checks: [{type: range, column: age, min: 0}]}\n")
    post = ("t", b'[{"age": 3}, {"age": -1}]', {**JSON, "uuid": "u"})
    server = Server(tmp_path / "in", schema=tmp_path / "wrong.yaml")
    assert [one.status_code for one in server.post(post, post)] == [422, 422]
    if not together:
        server.post(("t", b'{"id": 1, "age": 1}', JSON))
    then = server.get("/v1/ingest/t").json()
    assert (then["rejected"], then["rows"]) == (2, 0 if together else 1)
    server.options = {"schema": tmp_path / "right.yaml"}
    stored, again = server.post(post, post)
    assert (stored.status_code, stored.json()["duplicate"], stored.json()["rows"], stored.json()["rejected"]) == (207, False, 1, 1)
    assert (again.json()["duplicate"], again.json()["number"]) == (True, stored.json()["number"])
    assert [row["age"] for row in server.rows()][-1] == 3
    assert [(row["raw"], row["line"]) for row in server.rejects()] == [('{"age":-1}', 1)]
    for path in server.folder.glob("index.sqlite*"):  # the same from the parts alone
        path.unlink()
    now = server.get("/v1/ingest/t").json()
    assert (now["rejected"], now["rows"]) == (1, 1 if together else 2)
    if not together:  # an earlier version has the rejects that it had
        (source,) = [server.source(version=2)]
        assert sum(batch.num_rows for batch in source.rejects()) == 2
    changed = ("t", b'[{"age": 4}]', post[2])
    assert server.one(*changed).status_code == 409


def test_bad_records_are_set_aside_and_named_and_the_others_kept(server):
    response = server.one("t", b'{"a": 1}\n[1]\n{"a": 2\n7\n', LINES)
    assert (response.status_code, response.json()["rows"], response.json()["rejected"]) == (207, 1, 3)
    assert [one["line"] for one in response.json()["errors"]] == [2, 3, 4]
    assert server.rows() == [{"a": 1}]
    assert [row["raw"] for row in server.rejects()] == ["[1]", '{"a": 2', "7"]


def test_compressed_arrow_and_too_many_records_are_refused(tmp_path):
    sink = io.BytesIO()
    table = pa.table({"a": list(range(1000))})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    server = Server(tmp_path / "in", settings={"max_records": 999})
    kind = {"content-type": "application/vnd.apache.arrow.stream"}
    responses = server.post(("t", sink.getvalue(), kind), ("t", stream(table), kind), ("t", json.dumps(table.to_pylist()).encode(), JSON))
    assert [one.status_code for one in responses] == [400, 413, 413]


def test_types_widen_over_posts_and_text_is_spelled_alike_whenever_it_widened(server):
    values = [1, 2.5, 3.0, None, True, "x"]
    for value in values:
        server.post(("t", json.dumps({"a": value}).encode(), JSON))
    assert [row["a"] for row in server.rows()] == ["1", "2.5", "3", None, "true", "x"]


def test_small_parts_are_joined_and_the_fingerprint_stays(tmp_path):
    server = Server(tmp_path / "in", settings={"part": "20MB"})
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
    server = Server(tmp_path / "in", settings={"part": "900kB"})
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
    server.options = {"settings": {"flush": "20ms"}}
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


def test_a_content_that_the_manifest_names_is_never_drafted(server, monkeypatch):
    """Whatever the index says: it is told of, as a row that is there twice would not be."""
    server.post(("t", b'{"a": 1}', JSON))
    index = Index(server.folder)
    monkeypatch.setattr(index, "next_waiting", lambda *_, **__: [Waiting(1, "u", 0, "", 1, "", {}, 1, 0, None, b"", None, None)])
    with pytest.raises(RunError, match="is not written twice"):
        Parts(server.folder, index, size=10**6).write("t")
    index.close()
    assert server.rows() == [{"a": 1}]


def test_a_lost_index_is_made_again_from_the_parts(server):
    server.post(("t", b'{"a": 1}', {**JSON, "uuid": "u"}), ("s", b'{"a": 2}', {**JSON, "uuid": "v"}))
    for path in server.folder.glob("index.sqlite*"):
        path.unlink()
    again, new = server.post(("t", b'{"a": 1}', {**JSON, "uuid": "u"}), ("t", b'{"a": 3}', {**JSON, "uuid": "w"}))
    assert (again.json()["duplicate"], new.json()["number"]) == (True, 3)
    assert [row["a"] for row in server.rows("t")] == [1, 3]


def test_what_was_half_received_is_taken_away_by_the_next_server(server):
    server.post(("t", b'{"a": 1}', JSON))
    (server.folder / "spool" / "left").write_bytes(b"half")
    server.post(("t", b'{"a": 2}', JSON))
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


def test_superseded_parts_stay_for_those_who_read_them(server):
    server.post(("t", b'{"a": 1}', JSON))
    source = server.source()
    before = source.schema()
    server.post(("t", b'{"a": 2}', JSON))
    assert len(Manifest.read(server.folder, "t").parts) == 1
    assert [row["a"] for batch in source.read() for row in batch.to_pylist()] == [1]
    assert before == source.schema()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds other things"):
        make_app(tmp_path / "in")
    with pytest.raises(DataError, match="no folder of ingested data"):
        open_source({"type": "ingest", "path": str(tmp_path / "in")}).schema()


def test_settings_are_checked_by_name(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'max_body'"):
        make_app(tmp_path / "in", settings={"max_bdy": "1MB"})
    with pytest.raises(InputError, match="would never find room"):
        make_app(tmp_path / "in", settings={"max_backlog": "1MB"})


def test_only_the_named_topics_are_taken(tmp_path):
    server = Server(tmp_path / "in", settings={"topics": ("a",)})
    assert [one.status_code for one in server.post(("a", b'{"x":1}', JSON), ("b", b'{"x":1}', JSON))] == [200, 404]


def test_a_commit_that_fails_is_503_and_nothing_is_kept(server, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("deepseek.serving.intake.index._insert", full)
    response = server.one("t", png() + bytes(2 * SMALL_BYTES), {"content-type": "image/png"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "30")
    assert not list((server.folder / "spool").iterdir())


def test_the_disk_has_a_content_before_it_is_committed_and_the_commit_before_the_answer(server, monkeypatch):
    steps = []
    sync_file, sync_folder, commit = spool.sync_file, spool.sync_folder, Index._commit
    monkeypatch.setattr(spool, "sync_file", lambda path: (steps.append("file"), sync_file(path)))
    monkeypatch.setattr(spool, "sync_folder", lambda path: (steps.append("folder"), sync_folder(path)))

    def committed(self, database, tasks):
        steps.append(("commit", database.execute("PRAGMA synchronous").fetchone()[0]))
        commit(self, database, tasks)

    answer = Request.answer_json

    async def answered(self, *arguments):
        steps.append("answer")
        await answer(self, *arguments)

    monkeypatch.setattr(Index, "_commit", committed)
    monkeypatch.setattr(Request, "answer_json", answered)
    server.one("t", png(), {"content-type": "image/png"})
    assert steps[steps.index("file") :][:4] == ["file", "folder", ("commit", 2), "answer"]  # 2 is FULL: a commit waits for the disk


@pytest.mark.parametrize("status", [429, 503])
def test_what_is_full_says_when_to_come_again_with_the_status_that_was_chosen(tmp_path, status):
    server = Server(tmp_path / "in", settings={"max_waiting": 1, "flush": "1h", "full": status})
    first, second = server.post(("t", b'{"a": 1}', JSON), ("t", b'{"a": 2}', JSON))
    assert (first.status_code, second.status_code, second.headers["retry-after"]) == (200, status, "3600")


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
    server.options = {"settings": {"flush": "20ms"}}

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


def test_names_that_are_made_up_for_each_content_do_not_become_columns_without_end(server, monkeypatch):
    monkeypatch.setattr("deepseek.serving.intake.contents.MOST_COLUMNS", 8)
    posts = [("t", json.dumps({f"f{n}": n}).encode(), {**JSON, f"x-{n}": "a"}) for n in range(5)]
    assert [one.status_code for one in server.post(*posts)] == [200, 200, 200, 200, 422]
    response = server.one(*posts[-1])  # by another server, which finds them in the parts
    assert response.status_code == 422
    assert "columns, and this content 2 others" in response.json()["detail"]
    many = {f"x-{n}": "a" for n in range(201)}
    assert "201 attributes" in server.one("u", b'{"a": 1}', {**JSON, **many}).json()["detail"]


def test_types_that_are_made_up_for_each_content_do_not_become_columns_without_end(server, monkeypatch):
    monkeypatch.setattr("deepseek.serving.intake.contents.MOST_STORED", 4)
    kind = {"content-type": "application/vnd.apache.arrow.stream"}
    posts = [("t", stream(pa.table({"a": pa.array([None], pa.decimal128(digits))})), kind) for digits in range(1, 6)]
    assert [one.status_code for one in server.post(*posts, posts[0])] == [200, 200, 200, 200, 422, 200]
    known, response = server.post(posts[0], posts[-1])  # by another server, which finds them in the parts
    assert known.status_code == 200
    assert (response.status_code, "types in all, and this content has 1 others" in response.json()["detail"]) == (422, True)


def test_which_headers_are_attributes():
    headers = {
        b"x-patient": b"7", b"x-api-key": b"secret", b"x-forwarded-for": b"me", b"filename": "é".encode(), b"user-agent": b"curl",
        b"sensor": b"s", b"fragment.index": b"1",
    }  # fmt: skip
    assert attributes_of(headers) == {"patient": "7", "filename": "é", "fragment.index": "1"}
    assert attributes_of(headers, ["sens*"])["sensor"] == "s"


def test_a_spool_is_a_file_only_when_it_has_to_be(tmp_path):
    small, large = Spool(tmp_path), Spool(tmp_path)
    small.write(b"x" * SMALL_BYTES)
    assert (small.finish().path, list(tmp_path.iterdir())) == (None, [])
    for _ in range(2):
        large.write(b"x" * SMALL_BYTES)
    body = large.finish()
    assert body.path is not None
    assert (body.cut(1, 4).read(), body.size) == (b"xxx", 2 * SMALL_BYTES)
    body.discard()
    assert not list(tmp_path.iterdir())


class Client:
    """A client of an ASGI request that sends pieces with pauses."""

    def __init__(self, *pieces, pause=0.0):
        self.pieces, self.pause = list(pieces), pause

    async def __call__(self):
        if self.pause:
            await asyncio.sleep(self.pause)
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}


def pieces_of(client, **limits):
    async def main():
        request = Request({"method": "POST", "path": "/", "headers": []}, client, None)
        return [piece async for piece in request.pieces(**{"limit": 10, "pause_s": 60.0, "slowest": 1, **limits})], request.read

    return asyncio.run(main())


def test_pieces_come_as_they_are_and_end_with_the_body():
    assert pieces_of(Client(b"ab", b"", b"c")) == ([b"ab", b"", b"c"], True)


@pytest.mark.parametrize(
    ("client", "limits", "status"),
    [
        (Client(b"x" * 6, b"x" * 6), {}, 413),
        (Client(b"x", pause=5.0), {"pause_s": 0.01}, 408),
        (Client(*[b"x"] * 9, pause=0.05), {"pause_s": 0.1, "slowest": 1_000_000}, 408),
    ],
)
def test_pieces_that_are_too_many_or_too_slow_are_refused(client, limits, status):
    with pytest.raises(RefusedError) as caught:
        pieces_of(client, **limits)
    assert caught.value.status == status


def test_records_are_held_against_a_run(people_run, tmp_path):
    """Wrong values are refused by record and field; the target may come later; what the run does not know is kept."""
    server = Server(tmp_path / "in", schema=people_run)
    good = {
        "age": 41, "income": 25_000.5, "city": "Oslo", "floor": 2, "member": True, "since": "2021-03-04T05:06:07Z", "note": "new here",
        "extra": "kept",
    }  # fmt: skip
    bad = {**good, "age": "old", "member": "yes"}
    short = {name: value for name, value in good.items() if name != "city"}
    mixed, refused = server.post(
        ("people", json.dumps([good, bad, {**good, "bought": "yes"}, short]).encode(), JSON), ("people", json.dumps([bad]).encode(), JSON)
    )
    assert (mixed.status_code, mixed.json()["rows"], mixed.json()["rejected"]) == (207, 2, 2)
    first, second = mixed.json()["errors"]
    assert [(error["field"], error["given"]) for error in first["errors"]] == [("age", '"old"'), ("member", '"yes"')]
    assert second["errors"][0]["message"].startswith("the field 'city' is missing")
    assert (refused.status_code, refused.json()["errors"][0]["errors"][0]["field"]) == (422, "age")
    rows = server.rows()
    assert [(row["age"], row["extra"], row["bought"]) for row in rows] == [(41.0, "kept", None), (41.0, "kept", "yes")]
    csv = b"age,income,city,floor,member,since,note,extra\n41,1.5,Oslo,2,true,2021-03-04,x,7\nold,1.5,Oslo,2,true,2021-03-04,x,8\n"
    response = server.one("people", csv, {"content-type": "text/csv"})
    assert (response.status_code, response.json()["errors"][0]["line"]) == (207, 3)
    kinds = {field.name: str(field.type) for field in server.source().schema()}
    assert (kinds["age"], kinds["floor"], kinds["since"]) == ("double", "int64", "timestamp[us]")
    table = pa.table({name: [value] for name, value in {**good, "since": "2021-01-01", "age": 7}.items()})
    assert server.one("people", stream(table), {"content-type": "application/vnd.apache.arrow.stream"}).status_code == 200


def test_records_are_held_against_the_checks_of_a_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data:\n  source: x.csv\n  target: y\n  checks: [{type: range, column: age, min: 0}, {type: required, column: id}]\n")
    server = Server(tmp_path / "in", schema=recipe)
    response = server.one("t", b'[{"age": 3, "id": 1}, {"age": -1, "id": 2}, {"age": 4}]', JSON)
    assert (response.status_code, response.json()["rows"]) == (207, 1)
    assert [one["line"] for one in response.json()["errors"]] == [1, 1]
    assert server.rows() == [{"age": 3, "id": 1}]
    bare = tmp_path / "bare.yaml"
    bare.write_text("data: {source: x.csv, target: y}\n")
    with pytest.raises(InputError, match="has no checks of single rows"):
        make_app(tmp_path / "other", schema=bare)


def test_the_public_function_is_the_servers():
    assert deepseek.ingest.__module__ == "deepseek.serving.intake.server"
